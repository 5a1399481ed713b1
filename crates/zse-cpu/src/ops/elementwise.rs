//! Operations on each number by itself: activations, gated products, sums, factors, caps.

use zse_model::program::Act;

use super::Ctx;
use crate::isa::Arch;
use crate::par::{chunk_len, for_parts};
use crate::simd::{Kernel, LANES, Simd, math};

/// A function of one number of each input, made of vector operations.
trait Map: Copy + Sync {
    /// Its cost in multiply-adds.
    const WORK: usize;

    /// Of 16 numbers each; `b` is zero for functions of one input.
    fn map<S: Simd>(self, s: S, a: S::F, b: S::F) -> S::F;
}

/// Runs a [`Map`] over slices of one length.
struct Over<'a, M> {
    map: M,
    a: &'a [f32],
    /// `None` for functions of one input.
    b: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl<M: Map> Kernel for Over<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { map, a, b, out } = self;
        let (a, a_rest) = a.as_chunks::<LANES>();
        let (b, b_rest) = b.unwrap_or(&[]).as_chunks::<LANES>();
        let (out, out_rest) = out.as_chunks_mut::<LANES>();
        for (i, (a, out)) in a.iter().zip(out).enumerate() {
            let b = b.get(i).map_or(s.zero(), |b| s.load(b));
            s.store(map.map(s, s.load(a), b), out);
        }
        let value = map.map(s, s.load_part(a_rest, 0.0), s.load_part(b_rest, 0.0));
        s.store_part(value, out_rest);
    }
}

fn over<M: Map>(ctx: &Ctx<'_>, map: M, a: &[f32], b: Option<&[f32]>, out: &mut [f32]) {
    let chunk = chunk_len(ctx.step, out.len(), M::WORK).next_multiple_of(LANES);
    for_parts(ctx.step, out, chunk, |first, out| {
        let range = first..first + out.len();
        let b = b.map(|b| &b[range.clone()]);
        ctx.arch.run(Over {
            map,
            a: &a[range],
            b,
            out,
        });
    });
}

#[derive(Clone, Copy)]
struct Add;

impl Map for Add {
    const WORK: usize = 1;

    #[inline(always)]
    fn map<S: Simd>(self, s: S, a: S::F, b: S::F) -> S::F {
        s.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl Map for Scale {
    const WORK: usize = 1;

    #[inline(always)]
    fn map<S: Simd>(self, s: S, a: S::F, _: S::F) -> S::F {
        s.mul(a, s.splat(self.0))
    }
}

#[derive(Clone, Copy)]
struct SoftCap(f32);

impl Map for SoftCap {
    const WORK: usize = 8;

    #[inline(always)]
    fn map<S: Simd>(self, s: S, a: S::F, _: S::F) -> S::F {
        math::soft_cap(s, a, self.0)
    }
}

#[derive(Clone, Copy)]
struct Activation(Act);

impl Map for Activation {
    const WORK: usize = 8;

    #[inline(always)]
    fn map<S: Simd>(self, s: S, a: S::F, _: S::F) -> S::F {
        math::activate(s, self.0, a)
    }
}

#[derive(Clone, Copy)]
struct Glu(Act);

impl Map for Glu {
    const WORK: usize = 8;

    #[inline(always)]
    fn map<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        s.mul(math::activate(s, self.0, gate), up)
    }
}

/// `a + b`.
pub(crate) fn add(ctx: &Ctx<'_>, a: &[f32], b: &[f32], out: &mut [f32]) {
    over(ctx, Add, a, Some(b), out);
}

/// `x * by`.
pub(crate) fn scale(ctx: &Ctx<'_>, x: &[f32], by: f32, out: &mut [f32]) {
    over(ctx, Scale(by), x, None, out);
}

/// `cap * tanh(x / cap)`.
pub(crate) fn soft_cap(ctx: &Ctx<'_>, x: &[f32], cap: f32, out: &mut [f32]) {
    over(ctx, SoftCap(cap), x, None, out);
}

/// `act(x)`.
pub(crate) fn activation(ctx: &Ctx<'_>, act: Act, x: &[f32], out: &mut [f32]) {
    over(ctx, Activation(act), x, None, out);
}

/// `act(gate) * up`.
pub(crate) fn glu(ctx: &Ctx<'_>, act: Act, gate: &[f32], up: &[f32], out: &mut [f32]) {
    over(ctx, Glu(act), gate, Some(up), out);
}

/// `act(gate) * up` in place of `gate`, on this thread: the end of a gated product.
pub(crate) fn glu_lanes(arch: Arch, act: Act, gate: &mut [[f32; LANES]], up: &[[f32; LANES]]) {
    struct InPlace<'a> {
        act: Act,
        gate: &'a mut [[f32; LANES]],
        up: &'a [[f32; LANES]],
    }

    impl Kernel for InPlace<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (gate, up) in self.gate.iter_mut().zip(self.up) {
                s.store(Glu(self.act).map(s, s.load(gate), s.load(up)), gate);
            }
        }
    }

    arch.run(InPlace { act, gate, up });
}
