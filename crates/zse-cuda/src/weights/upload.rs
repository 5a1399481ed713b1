//! Brings weights to the device. Several readers take pieces of them in turn; each brings its piece, in the form
//! in which it goes, to pinned memory, and from there on a stream of its own to its planes, where a kernel
//! permutes blocks on the way. The copies keep the bus busy while other pieces are read.

use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use zse_model::WeightView;
use zse_quant::GgmlType;
use zse_quant::contract::unpack32;

use super::{Layout, Planes};
use crate::device::{Device, DeviceMemory, PinnedMemory, Ptr, Shape, Stream, launch};
use crate::error::CudaError;

/// Bytes of a piece in pinned memory.
const PIECE: usize = 2 << 20;

/// Most readers: two keep up with the disk, so many with the page cache.
const READERS: usize = 12;

/// A matrix that goes to planes on the device.
pub(crate) struct Upload<'a> {
    pub(crate) view: WeightView<'a>,
    pub(crate) layout: Layout,
    /// As large as `Layout::place` says for this tensor.
    pub(crate) planes: Planes,
}

/// Of a matrix some of the units that its bytes are cut into.
struct Piece {
    upload: usize,
    units: Range<usize>,
}

/// Two of a reader's: one is filled while the other is copied.
struct Lane<'a> {
    pinned: PinnedMemory,
    /// Blocks on their way to the kernel that permutes them.
    staging: DeviceMemory,
    /// Dropped first: waits for what still uses the memory.
    stream: Stream<'a>,
}

/// Uploads all matrices; `done` is told the number of each when its bytes are not needed any more.
///
/// # Safety
/// The planes are as large as they say, and nothing else uses them.
pub(crate) unsafe fn upload(
    device: &Device,
    uploads: &[Upload<'_>],
    done: impl Fn(usize) + Sync,
) -> Result<(), CudaError> {
    let pieces: Vec<Piece> = (0..uploads.len())
        .flat_map(|i| {
            uploads[i]
                .pieces()
                .map(move |units| Piece { upload: i, units })
        })
        .collect();
    let left: Vec<AtomicUsize> = uploads
        .iter()
        .map(|upload| AtomicUsize::new(upload.pieces().count()))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let room = uploads
        .iter()
        .map(Upload::unit_room)
        .max()
        .unwrap_or(0)
        .max(PIECE);
    let read = || -> Result<(), CudaError> {
        let mut lanes = [device.lane(room)?, device.lane(room)?];
        for turn in 0.. {
            let piece = pieces.get(next.fetch_add(1, Ordering::Relaxed));
            let Some(piece) = piece.filter(|_| !failed.load(Ordering::Relaxed)) else {
                break;
            };
            // SAFETY: the caller's promise.
            unsafe { uploads[piece.upload].send(&piece.units, &mut lanes[turn % 2]) }?;
            if left[piece.upload].fetch_sub(1, Ordering::AcqRel) == 1 {
                done(piece.upload);
            }
        }
        lanes.iter().try_for_each(|lane| lane.stream.synchronize())
    };
    let readers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..readers.min(READERS).min(pieces.len()))
            .map(|_| scope.spawn(|| read().inspect_err(|_| failed.store(true, Ordering::Relaxed))))
            .collect();
        let mut result = Ok(());
        for reader in readers {
            let read = reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(read);
        }
        result
    })
}

impl Device {
    /// A lane for pieces of `room` bytes.
    fn lane(&self, room: usize) -> Result<Lane<'_>, CudaError> {
        Ok(Lane {
            pinned: self.pin(room.div_ceil(4))?,
            staging: self.allocate("weights on their way", room)?,
            stream: self.stream()?,
        })
    }
}

impl Upload<'_> {
    /// Bytes of a unit as it is read: a block, what lies in a row, or what is copied as it is.
    fn unit_bytes(&self) -> usize {
        match self.layout {
            Layout::Any | Layout::Fp8 => self.view.row_bytes(),
            _ if self.layout.is_quantized() => self.view.ty.block_bytes(),
            _ if self.is_padded() => self.view.row_bytes(),
            _ => 16,
        }
    }

    /// Bytes of a unit in pinned memory.
    fn unit_room(&self) -> usize {
        match self.layout {
            Layout::Any => 48 * (self.view.cols / 32),
            _ if self.is_padded() => self.pitch(),
            _ => self.unit_bytes(),
        }
    }

    /// Bytes between rows of numbers on the device.
    fn pitch(&self) -> usize {
        self.layout.pitch(self.view.cols) * self.layout.number_bytes().unwrap_or(1)
    }

    /// Whether rows of numbers are filled up to whole units of 16 bytes.
    fn is_padded(&self) -> bool {
        self.layout != Layout::Fp8
            && !self.layout.is_quantized()
            && self.pitch() != self.view.row_bytes()
    }

    /// The units of each piece.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let units = self.view.data.len() / self.unit_bytes().max(1);
        let each = (PIECE / self.unit_room().max(1)).max(1);
        (0..units)
            .step_by(each)
            .map(move |first| first..units.min(first + each))
    }

    /// Brings some units to the device.
    ///
    /// # Safety
    /// As of [`upload`].
    unsafe fn send(&self, units: &Range<usize>, lane: &mut Lane<'_>) -> Result<(), CudaError> {
        let (unit, count) = (self.unit_bytes(), units.len());
        let from = self.view.data.slice(units.start * unit..units.end * unit);
        let Planes { q, h, s, d, .. } = self.planes;
        // What was copied from here is there.
        lane.stream.synchronize()?;
        let to = &mut lane.pinned.bytes_mut()[..count * self.unit_room()];
        if self.layout == Layout::Any {
            let groups = self.view.cols / 32;
            let parts = split_in_three(to);
            unpack(self.view.ty, &from.bytes(), self.view.row_bytes(), parts);
            for (plane, bytes) in [q, h, s].iter().zip(to.chunks_exact(16 * count * groups)) {
                let at = plane.offset(16 * units.start * groups);
                // SAFETY: the planes hold 16 bytes of every group; the bytes change after a wait.
                unsafe { lane.stream.upload(at, bytes) }?;
            }
            return Ok(());
        }
        if self.is_padded() {
            for (to, from) in to
                .chunks_exact_mut(self.pitch())
                .zip(from.bytes().chunks_exact(unit))
            {
                to[..unit].copy_from_slice(from);
                to[unit..].fill(0);
            }
        } else {
            from.copy_to(to).map_err(|source| CudaError::Host {
                what: "cannot read weights",
                source,
            })?;
        }
        if self.layout == Layout::Fp8 {
            let kernel = format!("fp8_weights_{}", self.view.ty.name().to_ascii_lowercase());
            let (from, cols) = (lane.staging.at(), self.view.cols as i32);
            let (q, scales) = (
                q.offset(units.start * self.view.cols),
                d.offset(4 * units.start),
            );
            let shape = Shape::line(count, 256);
            // SAFETY: a piece fits the staging memory; the bytes change after a wait. A block a row, of which the planes
            // hold all.
            return unsafe {
                lane.stream.upload(from, to)?;
                launch!(lane.stream, &kernel, shape; from, q, scales, cols)
            };
        }
        if !self.layout.is_quantized() {
            let at = q.offset(units.start * self.unit_room());
            // SAFETY: the plane holds all rows; the bytes change after a wait.
            return unsafe { lane.stream.upload(at, to) };
        }
        let groups = self.view.ty.block_len() / 32;
        let (kernel, at, count) = (
            format!("repack_{}", self.view.ty.name().to_ascii_lowercase()),
            lane.staging.at(),
            count * groups,
        );
        let planes = planes_at(self.layout, &self.planes, units.start * groups);
        // SAFETY: a piece fits the staging memory; the bytes change after a wait. One thread a group, of which the
        // planes hold all.
        unsafe {
            lane.stream.upload(at, to)?;
            launch!(lane.stream, &kernel, Shape::line(count.div_ceil(128), 128); at, planes, count)
        }
    }
}

/// Three equal parts.
fn split_in_three(bytes: &mut [u8]) -> [&mut [u8]; 3] {
    let third = bytes.len() / 3;
    let (a, rest) = bytes.split_at_mut(third);
    let (b, c) = rest.split_at_mut(third);
    [a, b, c]
}

/// Planes from group `group` on, as the kernels of `repack.cu` take them.
fn planes_at(layout: Layout, to: &Planes, group: usize) -> [Ptr; 4] {
    let (h, s, d) = match layout {
        Layout::Q4_0 => (0, 0, 2 * group),
        Layout::Q8_0 => (16 * group, 0, 2 * group),
        Layout::Q5K => (4 * group, 2 * group, 0),
        Layout::Q6K => (8 * group, 2 * group, group / 4),
        _ => (0, 2 * group, 0),
    };
    [
        to.q.offset(16 * group),
        to.h.offset(h),
        to.s.offset(s),
        to.d.offset(d),
    ]
}

/// Unpacks rows of blocks into the planes of the layout `any`.
fn unpack(ty: GgmlType, rows: &[u8], row_bytes: usize, [q, h, s]: [&mut [u8]; 3]) {
    let groups = rows
        .chunks_exact(row_bytes)
        .flat_map(|row| (0..).map_while(move |g| unpack32(ty, row, g)));
    let planes = q.as_chunks_mut::<16>().0.iter_mut();
    let planes = planes
        .zip(h.as_chunks_mut::<16>().0)
        .zip(s.as_chunks_mut::<16>().0);
    for (group, ((q, h), s)) in groups.zip(planes) {
        for (to, from) in q.iter_mut().chain(h).zip(group.q) {
            *to = from as u8;
        }
        let numbers = [group.w[0], group.w[1], group.m[0], group.m[1]];
        for (to, from) in s.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *to = from.to_le_bytes();
        }
    }
}
