//! Encoding one tensor's rows on several threads, a slab at a time.

use std::sync::Mutex;
use std::thread;

use zse_format::TensorView;
use zse_quant::{GgmlType, QuantError};

use super::QuantizeError;

/// Weights that one thread takes at a time.
const CHUNK: usize = 1 << 16;
/// Chunks of a slab for each thread: enough that threads end together, few enough to stay small.
const CHUNKS_PER_THREAD: usize = 8;

/// Encodes `tensor` as `to`, giving `sink` the encoded rows in order, with the number of source
/// bytes that went into them.
///
/// `importance` is `[experts, cols]`.
pub(super) fn tensor(
    tensor: &TensorView<'_>,
    to: GgmlType,
    importance: Option<&[f32]>,
    threads: usize,
    mut sink: impl FnMut(&[u8], usize) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let failed = |source| QuantizeError::Encode {
        tensor: tensor.name.to_owned(),
        source,
    };
    let cols = tensor.shape[0] as usize;
    let (Some(from_row), Some(to_row)) = (tensor.ty.row_bytes(cols), to.row_bytes(cols)) else {
        return Err(failed(QuantError::Cols { ty: to, cols }));
    };
    // One matrix at a time: each expert has an importance of its own.
    let rows = tensor.shape.get(1).map_or(1, |&rows| rows as usize);
    let bytes = tensor.data.bytes();
    let matrices = bytes.chunks_exact(rows * from_row).enumerate();
    let chunk_rows = CHUNK.div_ceil(cols);
    let slab_rows = chunk_rows
        .saturating_mul(CHUNKS_PER_THREAD * threads)
        .min(rows);
    let mut out = vec![0; to_row * slab_rows];
    for (i, matrix) in matrices {
        let weights = importance.map(|w| &w[i * cols..][..cols]);
        for slab in matrix.chunks(slab_rows * from_row) {
            let out = &mut out[..slab.len() / from_row * to_row];
            let parts = slab
                .chunks(chunk_rows * from_row)
                .zip(out.chunks_mut(chunk_rows * to_row));
            let conversion = Conversion {
                from: tensor.ty,
                to,
                cols,
                importance: weights,
            };
            spread(parts, threads, thread::Builder::new, |(src, dst)| {
                conversion.apply(src, dst)
            })
            .map_err(failed)?;
            sink(out, slab.len())?;
        }
    }
    Ok(())
}

/// From one type to another, for rows of `cols`.
struct Conversion<'a> {
    from: GgmlType,
    to: GgmlType,
    cols: usize,
    /// `[cols]`.
    importance: Option<&'a [f32]>,
}

impl Conversion<'_> {
    fn apply(&self, src: &[u8], dst: &mut [u8]) -> Result<(), QuantError> {
        let row = self.from.row_bytes(self.cols).unwrap_or(1);
        let mut plain = vec![0.0; src.len() / row * self.cols];
        zse_quant::decode(self.from, src, &mut plain)?;
        zse_quant::encode(self.to, &plain, self.cols, self.importance, dst)
    }
}

/// Runs `work` on every part, on up to `threads` threads; the first error ends it. Threads begin as
/// `builder` says; where the system refuses one, those that there are do its part.
fn spread<T: Send, E: Send>(
    parts: impl Iterator<Item = T> + Send,
    threads: usize,
    builder: impl Fn() -> thread::Builder,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let queue = Mutex::new(parts);
    let failure = Mutex::new(None);
    let take = || queue.lock().unwrap_or_else(|e| e.into_inner()).next();
    let worker = || {
        while let Some(part) = take() {
            if let Err(error) = work(part) {
                failure
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .get_or_insert(error);
                while take().is_some() {}
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            if builder().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    failure
        .into_inner()
        .unwrap_or_else(|e| e.into_inner())
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_that_the_system_refuses_are_done_without() {
        // No system gives a stack of this size.
        let huge = || thread::Builder::new().stack_size(1 << (usize::BITS - 4));
        for builder in [thread::Builder::new, huge] {
            let sum = AtomicUsize::new(0);
            let add = |part| {
                sum.fetch_add(part, Ordering::Relaxed);
                Ok::<(), usize>(())
            };
            spread(1..=100, 4, builder, add).unwrap();
            assert_eq!(sum.into_inner(), 5050);
            let refuse = |part| if part == 7 { Err(part) } else { Ok(()) };
            assert_eq!(spread(0..100, 4, builder, refuse), Err(7));
        }
    }
}
