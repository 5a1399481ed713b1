//! Bringing one tensor's rows into another type or layout on several threads, a slab at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use zse_format::{Layout, TensorView};
use zse_quant::pack::{pack_rows, unpack_rows};
use zse_quant::{GgmlType, QuantError};

use super::QuantizeError;

/// Weights that one thread takes at a time.
const CHUNK: usize = 1 << 16;
/// Chunks of a slab for each thread: enough that threads end together, few enough to stay small.
const CHUNKS_PER_THREAD: usize = 8;
/// Bytes that are asked for at once of tensors that no file has as they are (experts one by one, integers
/// with scales): many slabs, as scales may be read anew for each piece.
const PIECE: usize = 64 << 20;

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) ty: GgmlType,
    pub(crate) layout: Layout,
    /// Weights of a row that share a scale, where these are more than a block has.
    pub(crate) group: Option<usize>,
}

/// What is added to the matrices of a tensor before they are encoded.
pub(crate) trait Added {
    /// Adds its rows from `first` on to `numbers`, whole rows of `cols`, of this expert's matrix.
    fn add(&self, expert: usize, first: usize, cols: usize, numbers: &mut [f32]);
}

/// Brings `tensor` into the form `to`, giving `sink` the bytes in order, with the bytes of the
/// source that went into them.
///
/// `importance` is `[experts, cols]`.
pub(crate) fn tensor<E: From<QuantizeError>>(
    tensor: &TensorView<'_>,
    to: Form,
    importance: Option<&[f32]>,
    added: Option<&(dyn Added + Sync)>,
    threads: usize,
    mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| QuantizeError::Encode {
        tensor: tensor.name.to_owned(),
        source,
    };
    let from = Form {
        ty: tensor.ty,
        layout: tensor.layout(),
        group: None,
    };
    let cols = tensor.shape[0] as usize;
    let rows = tensor.shape.get(1).map_or(1, |&rows| rows as usize);
    let sizes = |form: Form| {
        let size = form.layout.matrix_bytes(form.ty, rows, cols);
        size.ok_or_else(|| failed(QuantError::Cols { ty: form.ty, cols }))
    };
    let matrix_bytes = sizes(from)?;
    sizes(to)?;
    let conversion = Conversion {
        from,
        to,
        cols,
        added,
    };
    // Parts can be cut where both layouts can.
    let step = from.layout.step().max(to.layout.step());
    let chunk_rows = CHUNK.div_ceil(cols).next_multiple_of(step);
    let slab_rows = chunk_rows
        .saturating_mul(CHUNKS_PER_THREAD * threads)
        .min(rows);
    let piece_rows = match tensor.data.is_made() {
        true => rows_of_piece(matrix_bytes / rows, slab_rows).min(rows),
        false => rows,
    };
    let mut out = vec![0; conversion.range(to, 0..slab_rows).len()];
    // One matrix at a time: each expert has an importance of its own.
    let matrices = tensor.stored_len() / matrix_bytes;
    let pieces = (0..matrices).flat_map(|i| (0..rows).step_by(piece_rows).map(move |at| (i, at)));
    for (i, piece_at) in pieces {
        let weights = importance.map(|w| &w[i * cols..][..cols]);
        let piece_end = rows.min(piece_at + piece_rows);
        let place = conversion.range(from, piece_at..piece_end);
        let place = i * matrix_bytes + place.start..i * matrix_bytes + place.end;
        let piece = tensor.stored_piece(place);
        let piece_start = conversion.range(from, 0..piece_at).len();
        for first in (piece_at..piece_end).step_by(slab_rows) {
            let n = slab_rows.min(piece_end - first);
            let slab = conversion.range(from, first..first + n);
            let slab = &piece[slab.start - piece_start..slab.end - piece_start];
            let out = &mut out[..conversion.range(to, 0..n).len()];
            let parts = slab
                .chunks(conversion.range(from, 0..chunk_rows).len())
                .zip(out.chunks_mut(conversion.range(to, 0..chunk_rows).len()))
                .zip((0..n).step_by(chunk_rows));
            spread(parts, threads, thread::Builder::new, |((src, dst), at)| {
                let rows = first + at..first + at + chunk_rows.min(n - at);
                conversion.apply((i, rows), src, weights, dst)
            })
            .map_err(failed)?;
            sink(out, slab)?;
        }
    }
    Ok(())
}

/// Rows that are asked for at once, of `row_bytes`: whole slabs, at least one.
fn rows_of_piece(row_bytes: usize, slab_rows: usize) -> usize {
    let rows = PIECE / row_bytes.max(1);
    (rows / slab_rows).max(1) * slab_rows
}

/// From one form to another, for rows of `cols`.
struct Conversion<'a> {
    from: Form,
    to: Form,
    cols: usize,
    added: Option<&'a (dyn Added + Sync)>,
}

impl Conversion<'_> {
    /// Where rows are in a matrix of this form; `rows` begin at a multiple of the layout's step.
    fn range(&self, form: Form, rows: Range<usize>) -> Range<usize> {
        let bytes = |rows| {
            let bytes = form.layout.matrix_bytes(form.ty, rows, self.cols);
            bytes.expect("a matrix of at least as many rows has a size")
        };
        bytes(rows.start)..bytes(rows.end)
    }

    /// Converts these rows of this expert, which are those of `src`; `importance` is `[cols]`.
    fn apply(
        &self,
        (expert, rows): (usize, Range<usize>),
        src: &[u8],
        importance: Option<&[f32]>,
        dst: &mut [u8],
    ) -> Result<(), QuantError> {
        let Self {
            from,
            to,
            cols,
            added,
        } = *self;
        let (first, rows) = (rows.start, rows.len());
        let plain_bytes = |ty: GgmlType| ty.row_bytes(cols).unwrap_or(0) * rows;
        let mut plain = Cow::from(src);
        if from.layout == Layout::Tiles16 {
            let mut unpacked = vec![0; plain_bytes(from.ty)];
            unpack_rows(from.ty, rows, cols, src, &mut unpacked)?;
            plain = unpacked.into();
        }
        if from.ty != to.ty || added.is_some() {
            let mut numbers = vec![0.0; rows * cols];
            zse_quant::decode(from.ty, &plain, &mut numbers)?;
            if let Some(added) = added {
                added.add(expert, first, cols, &mut numbers);
            }
            let mut encoded = vec![0; plain_bytes(to.ty)];
            match to.group {
                Some(group) => {
                    let out = &mut encoded;
                    zse_quant::encode_groups(to.ty, group, &numbers, cols, importance, out)?;
                }
                None => zse_quant::encode(to.ty, &numbers, cols, importance, &mut encoded)?,
            }
            plain = encoded.into();
        }
        match to.layout {
            Layout::Rows => dst.copy_from_slice(&plain),
            Layout::Tiles16 => pack_rows(to.ty, rows, cols, &plain, dst)?,
        }
        Ok(())
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
    fn pieces_are_whole_slabs_and_bounded() {
        assert_eq!(rows_of_piece(PIECE / 10, 3), 9);
        assert_eq!(rows_of_piece(PIECE / 10, 20), 20);
        assert_eq!(rows_of_piece(2 * PIECE, 1), 1);
    }

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
