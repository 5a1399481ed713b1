//! Keys and values of all sequences, in blocks of tokens.
//!
//! A block keeps, head after head, the rows of its tokens: `[kv_heads, block_len]` rows of one
//! head each, in the budget's [`KvType`]. So a head's tokens lie behind one another, and copying
//! a block is copying bytes.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use zse_model::Program;
use zse_model::executor::{
    BlockId, Budget, ExecError, KvOp, KvType, LoadError, SeqSpan, try_reserve,
};
use zse_model::program::{KvGroup, Paged, StateId};
use zse_quant::e4m3;

use crate::ops::Ctx;
use crate::ops::rope::{Rotation, rotate};
use crate::par::{SharedSlice, chunk_len};
use crate::simd::{LANES, Simd};

/// The blocks of all states.
pub(crate) struct KvStore {
    ty: KvType,
    block_len: usize,
    groups: Vec<KvGroup>,
    states: Vec<StateStore>,
}

/// The blocks of one state.
struct StateStore {
    group: usize,
    keys: Plane,
    values: Plane,
}

/// Keys or values of a state.
struct Plane {
    heads: usize,
    dim: usize,
    /// Bytes of a head of a token.
    row_bytes: usize,
    data: Vec<u8>,
}

impl StateStore {
    fn planes_mut(&mut self) -> [&mut Plane; 2] {
        [&mut self.keys, &mut self.values]
    }
}

impl Plane {
    /// Where block `id` of `block_len` tokens lies.
    fn block(&self, id: BlockId, block_len: usize) -> Range<usize> {
        let bytes = self.heads * block_len * self.row_bytes;
        id as usize * bytes..(id as usize + 1) * bytes
    }
}

/// Keys or values of one head of a sequence.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    ty: KvType,
    plane: &'a Plane,
    head: usize,
    block_len: usize,
    table: &'a [BlockId],
}

/// New keys and values of a step's tokens.
pub(crate) struct NewRows<'a> {
    /// `[n_tokens, kv_heads * k_dim]`.
    pub(crate) k: &'a [f32],
    /// `[n_tokens, kv_heads * v_dim]`.
    pub(crate) v: &'a [f32],
}

impl KvStore {
    /// Empty blocks for `program`; `budget` has been checked against it.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub(crate) fn new(program: &Program, budget: &Budget) -> Result<Self, LoadError> {
        try_reserve("keys and values", budget.kv_bytes(program))?;
        let groups = program.kv_groups();
        let ty = budget.kv_type;
        let tokens = budget.kv_blocks * budget.block_len;
        let plane = |heads: usize, dim: usize| {
            let row_bytes = ty.head_bytes(dim).expect("the budget was checked");
            Plane {
                heads,
                dim,
                row_bytes,
                data: vec![0; tokens * heads * row_bytes],
            }
        };
        let states = (0..program.states.len() as u32)
            .map(|i| {
                let Paged {
                    kv_heads,
                    k_dim,
                    v_dim,
                    ..
                } = program.paged(StateId(i));
                let group = groups.iter().position(|g| g.states.contains(&StateId(i)));
                StateStore {
                    group: group.expect("every state is in a group"),
                    keys: plane(kv_heads, k_dim),
                    values: plane(kv_heads, v_dim),
                }
            })
            .collect();
        Ok(Self {
            ty,
            block_len: budget.block_len,
            groups,
            states,
        })
    }

    /// What keys and values are stored as.
    pub(crate) fn ty(&self) -> KvType {
        self.ty
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.states
            .iter()
            .map(|s| (s.keys.data.len() + s.values.data.len()) as u64)
            .sum()
    }

    /// Carries out `op`.
    ///
    /// # Errors
    /// If bytes to swap in are not those of a block.
    pub(crate) fn apply(&mut self, op: &KvOp) -> Result<(), ExecError> {
        let len = self.block_len;
        match op {
            KvOp::Copy { group, from, to } => {
                for id in &self.groups[*group].states {
                    for plane in self.states[id.index()].planes_mut() {
                        let (from, to) = (plane.block(*from, len), plane.block(*to, len));
                        plane.data.copy_within(from, to.start);
                    }
                }
            }
            KvOp::SwapOut { from, to } => {
                let mut bytes = to.lock();
                bytes.clear();
                bytes.reserve_exact(self.block_bytes());
                for plane in self.states.iter().flat_map(|s| [&s.keys, &s.values]) {
                    bytes.extend_from_slice(&plane.data[plane.block(*from, len)]);
                }
            }
            KvOp::SwapIn { from, to } => {
                let bytes = from.filled(self.block_bytes())?;
                let mut rest = &bytes[..];
                for plane in self.states.iter_mut().flat_map(StateStore::planes_mut) {
                    let block = plane.block(*to, len);
                    let (bytes, behind) = rest.split_at(block.len());
                    plane.data[block].copy_from_slice(bytes);
                    rest = behind;
                }
            }
        }
        Ok(())
    }

    /// Bytes of a block of all groups.
    fn block_bytes(&self) -> usize {
        let planes = self.states.iter().flat_map(|s| [&s.keys, &s.values]);
        planes
            .map(|plane| plane.block(0, self.block_len).len())
            .sum()
    }

    /// Stores the keys and values of the tokens of `seqs`; keys are rotated by `rotation` of
    /// their token first, where there is one.
    pub(crate) fn write<'r>(
        &mut self,
        ctx: &Ctx<'_>,
        state: StateId,
        seqs: &[SeqSpan],
        new: &NewRows<'_>,
        rotation: Option<impl Fn(usize) -> Rotation<'r> + Sync>,
    ) {
        let (ty, block_len) = (self.ty, self.block_len);
        let StateStore {
            group,
            keys,
            values,
        } = &mut self.states[state.index()];
        let slots: Vec<(usize, usize)> = seqs
            .iter()
            .flat_map(|seq| {
                let table = &seq.tables[*group];
                (seq.first..)
                    .take(seq.tokens.len())
                    .map(move |index| (table[index / block_len] as usize, index % block_len))
            })
            .collect();
        // Two tokens of a batch in one slot would be a mistake of the caller, but must not become
        // a data race: such a batch is written by one thread.
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        let shared = distinct.windows(2).any(|w| w[0] == w[1]);

        let n = slots.len();
        let chunk = if shared {
            n
        } else {
            chunk_len(ctx.step, n, keys.heads * keys.dim * 8)
        };
        let (k_writer, v_writer) = (
            Writer::new(keys, ty, block_len),
            Writer::new(values, ty, block_len),
        );
        ctx.step.run(n.div_ceil(chunk.max(1)), &|i| {
            let mut rotated = vec![0.0; k_writer.dim];
            for (token, &slot) in slots.iter().enumerate().skip(i * chunk).take(chunk) {
                let rotation = rotation.as_ref().map(|of| of(token));
                for head in 0..k_writer.heads {
                    let k =
                        &new.k[(token * k_writer.heads + head) * k_writer.dim..][..k_writer.dim];
                    rotated.copy_from_slice(k);
                    if let Some(rotation) = rotation {
                        rotate(ctx, rotation, &mut rotated, k_writer.dim);
                    }
                    let v =
                        &new.v[(token * v_writer.heads + head) * v_writer.dim..][..v_writer.dim];
                    // SAFETY: slots differ or all tokens are in one chunk, and chunks are handed
                    // out once: no two threads write the same row.
                    unsafe {
                        k_writer.write(slot, head, &rotated);
                        v_writer.write(slot, head, v);
                    }
                }
            }
        });
    }

    /// Keys and values of head `head` of the sequence of `seq`.
    pub(crate) fn head<'a>(
        &'a self,
        state: StateId,
        seq: &'a SeqSpan,
        head: usize,
    ) -> [HeadRows<'a>; 2] {
        let state = &self.states[state.index()];
        let (ty, block_len, table) = (self.ty, self.block_len, seq.tables[state.group].as_slice());
        [&state.keys, &state.values].map(|plane| HeadRows {
            ty,
            plane,
            head,
            block_len,
            table,
        })
    }
}

/// Writes rows of a plane from several threads.
struct Writer<'a> {
    ty: KvType,
    heads: usize,
    dim: usize,
    row_bytes: usize,
    block_len: usize,
    data: SharedSlice<'a, u8>,
}

impl<'a> Writer<'a> {
    fn new(plane: &'a mut Plane, ty: KvType, block_len: usize) -> Self {
        let Plane {
            heads,
            dim,
            row_bytes,
            ref mut data,
        } = *plane;
        Self {
            ty,
            heads,
            dim,
            row_bytes,
            block_len,
            data: SharedSlice::new(data),
        }
    }

    /// Writes `x` as head `head` of the token at `slot`, a block and a row of it.
    ///
    /// # Safety
    /// No other thread may use the same row.
    unsafe fn write(&self, (block, row): (usize, usize), head: usize, x: &[f32]) {
        let at = ((block * self.heads + head) * self.block_len + row) * self.row_bytes;
        // SAFETY: the caller keeps rows apart.
        encode_row(self.ty, x, unsafe { self.data.part(at, self.row_bytes) });
    }
}

/// Rounds a head to the KV type.
fn encode_row(ty: KvType, x: &[f32], to: &mut [u8]) {
    match ty {
        KvType::F32 => {
            for (x, to) in x.iter().zip(to.as_chunks_mut().0) {
                *to = x.to_le_bytes();
            }
        }
        KvType::F16 => {
            for (x, to) in x.chunks(LANES).zip(to.chunks_mut(2 * LANES)) {
                let mut halves = [f16::ZERO; LANES];
                halves[..x.len()].convert_from_f32_slice(x);
                for (half, to) in halves.iter().zip(to.as_chunks_mut().0) {
                    *to = half.to_le_bytes();
                }
            }
        }
        KvType::Bf16 => {
            for (x, to) in x.iter().zip(to.as_chunks_mut().0) {
                *to = bf16::from_f32(*x).to_le_bytes();
            }
        }
        KvType::Q8_0 | KvType::Q4_0 | KvType::Fp8 => {
            // Numbers that are not finite (a damaged model) cannot be encoded; they must stay
            // visible: all ones are a scale of NaN. (FP8 has a NaN of its own.)
            if ty.encode(x, x.len(), to).is_none() {
                to.fill(0xff);
            }
        }
    }
}

impl<'a> HeadRows<'a> {
    /// Numbers of a row.
    pub(crate) fn dim(&self) -> usize {
        self.plane.dim
    }

    /// The stored bytes of token `index` of the sequence.
    #[inline(always)]
    fn row(&self, index: usize) -> &'a [u8] {
        let block = self.table[index / self.block_len] as usize;
        let row = (block * self.plane.heads + self.head) * self.block_len + index % self.block_len;
        &self.plane.data[row * self.plane.row_bytes..][..self.plane.row_bytes]
    }

    /// Decodes token `index` of the sequence to `to`, `[dim]`.
    #[inline(always)]
    pub(crate) fn decode<S: Simd>(&self, s: S, index: usize, to: &mut [f32]) {
        let row = self.row(index);
        match self.ty {
            KvType::F32 => {
                for (to, bytes) in to.iter_mut().zip(row.as_chunks().0) {
                    *to = f32::from_le_bytes(*bytes);
                }
            }
            KvType::F16 => widen::<S, false>(s, row, to),
            KvType::Bf16 => widen::<S, true>(s, row, to),
            KvType::Q8_0 => blocks::<S, 32>(s, row, to),
            KvType::Q4_0 => blocks::<S, 16>(s, row, to),
            KvType::Fp8 => {
                for (to, bits) in to.iter_mut().zip(row) {
                    *to = e4m3::widen(*bits);
                }
            }
        }
    }
}

/// Widens a row of BF16 or F16.
#[inline(always)]
fn widen<S: Simd, const BF16: bool>(s: S, row: &[u8], to: &mut [f32]) {
    let (row, row_rest) = row.as_chunks::<32>();
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    for (bytes, to) in row.iter().zip(to) {
        s.store(numbers::<S, BF16>(s, bytes), to);
    }
    if !to_rest.is_empty() {
        let mut bytes = [0; 32];
        bytes[..row_rest.len()].copy_from_slice(row_rest);
        s.store_part(numbers::<S, BF16>(s, &bytes), to_rest);
    }
}

/// 16 BF16 or F16.
#[inline(always)]
fn numbers<S: Simd, const BF16: bool>(s: S, bytes: &[u8; 32]) -> S::F {
    if BF16 {
        s.from_bits(s.shl::<16>(s.widen_u16(bytes)))
    } else {
        s.widen_f16(bytes)
    }
}

/// Decodes a row of blocks of 32 numbers: an f16 scale, then `QS` bytes of quants: 32 of Q8_0,
/// or 16 of Q4_0.
#[inline(always)]
fn blocks<S: Simd, const QS: usize>(s: S, row: &[u8], to: &mut [f32]) {
    for (block, to) in row
        .chunks_exact(2 + QS)
        .zip(to.as_chunks_mut::<{ 2 * LANES }>().0)
    {
        let (scale, qs) = block
            .split_first_chunk()
            .expect("a block starts with its scale");
        let scale = s.splat(f16::from_le_bytes(*scale).to_f32());
        let first = qs.first_chunk().expect("a block has 16 bytes or more");
        let q = if QS == 16 {
            let pairs = s.widen_u8(first);
            let low = s.and(pairs, s.splat_i32(15));
            [
                s.add_i32(low, s.splat_i32(-8)),
                s.add_i32(s.shr::<4>(pairs), s.splat_i32(-8)),
            ]
        } else {
            let last = qs.last_chunk().expect("a block has 16 bytes or more");
            [s.widen_i8(first), s.widen_i8(last)]
        };
        let to = to.as_chunks_mut::<LANES>().0;
        for half in 0..2 {
            s.store(s.mul(s.to_f32(q[half]), scale), &mut to[half]);
        }
    }
}
