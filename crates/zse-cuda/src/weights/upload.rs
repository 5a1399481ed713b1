//! Brings weights to the device: raw blocks in pieces, permuted there by a kernel.

use std::num::NonZero;
use std::thread;

use zse_model::WeightView;
use zse_model::executor::LoadError;
use zse_quant::GgmlType;
use zse_quant::contract::unpack32;

use super::{Layout, Planes};
use crate::device::{Device, DeviceMemory, Ptr, Shape, launch};
use crate::error::CudaError;

/// Bytes of raw blocks that are copied at once.
const PIECE: usize = 64 << 20;

/// Groups that a thread unpacks at once.
const CHUNK: usize = 4096;

/// Uploads weights through a piece of device memory.
pub(crate) struct Uploader<'a> {
    device: &'a Device,
    staging: DeviceMemory,
}

impl<'a> Uploader<'a> {
    /// One with memory of its own, until it is dropped.
    pub(crate) fn new(device: &'a Device) -> Result<Self, CudaError> {
        Ok(Self {
            device,
            staging: device.allocate("weights on their way", PIECE)?,
        })
    }

    /// Uploads all of `view` to the planes behind `to`.
    ///
    /// # Safety
    /// The planes are as large as `Layout::place` says for this tensor.
    pub(crate) unsafe fn matrix(
        &self,
        view: &WeightView<'_>,
        layout: Layout,
        to: &Planes,
    ) -> Result<(), LoadError> {
        let bytes = &*view.data.bytes();
        match layout {
            Layout::F32 | Layout::F16 | Layout::Bf16 => {
                // SAFETY: the caller's promise.
                unsafe { self.floats(view, bytes, layout, to) }?;
            }
            Layout::Any => {
                // SAFETY: the caller's promise.
                unsafe { self.unpacked(view, bytes, to) }?;
            }
            _ => {
                // SAFETY: the caller's promise.
                unsafe { self.blocks(view, bytes, layout, to) }?;
            }
        }
        // Views are borrowed, and what was pinned by the driver for a copy is theirs until it is done.
        Ok(self.device.synchronize()?)
    }

    /// Numbers as they are, rows padded to whole units of 16 bytes.
    unsafe fn floats(
        &self,
        view: &WeightView<'_>,
        bytes: &[u8],
        layout: Layout,
        to: &Planes,
    ) -> Result<(), CudaError> {
        let (row, pitch) = (
            view.row_bytes(),
            layout.pitch(view.cols) * layout.number_bytes().unwrap_or(1),
        );
        if row == pitch {
            // SAFETY: the plane holds all rows.
            return unsafe { self.device.upload(to.q, bytes) };
        }
        let mut padded = vec![0u8; bytes.len() / row * pitch];
        for (to, from) in padded.chunks_exact_mut(pitch).zip(bytes.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        // SAFETY: the plane holds all rows with their padding; waited for before `padded` goes.
        unsafe { self.device.upload(to.q, &padded) }?;
        self.device.synchronize()
    }

    /// Blocks that a kernel permutes.
    unsafe fn blocks(
        &self,
        view: &WeightView<'_>,
        bytes: &[u8],
        layout: Layout,
        to: &Planes,
    ) -> Result<(), CudaError> {
        let (block, groups) = (view.ty.block_bytes(), view.ty.block_len() / 32);
        let piece = PIECE / block;
        let kernel = format!("repack_{}", layout.name());
        let mut done = 0;
        for blocks in bytes.chunks(piece * block) {
            let count = blocks.len() / block * groups;
            let at = self.staging.at();
            // SAFETY: a piece fits the staging memory; the stream keeps it until the kernel has read it.
            unsafe { self.device.upload(at, blocks) }?;
            let planes = planes_at(layout, to, done);
            // SAFETY: one thread a group; the planes hold all groups, these from `done` on.
            unsafe {
                launch!(self.device, &kernel, Shape::line(count.div_ceil(128), 128); at, planes, count)
            }?;
            done += count;
        }
        Ok(())
    }

    /// Blocks of any format, unpacked here by several threads.
    unsafe fn unpacked(
        &self,
        view: &WeightView<'_>,
        bytes: &[u8],
        to: &Planes,
    ) -> Result<(), CudaError> {
        let groups = view.cols / 32;
        let rows = (CHUNK / groups.max(1)).max(1);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut done = 0;
        for rows in bytes.chunks(view.row_bytes() * rows * threads * 8) {
            let count = rows.len() / view.row_bytes() * groups;
            let [mut q, mut h, mut s] = [(); 3].map(|()| vec![0u8; 16 * count]);
            let share = (rows.len() / view.row_bytes()).div_ceil(threads);
            thread::scope(|scope| {
                let parts = rows
                    .chunks(share * view.row_bytes())
                    .zip(q.chunks_mut(share * groups * 16))
                    .zip(h.chunks_mut(share * groups * 16))
                    .zip(s.chunks_mut(share * groups * 16));
                for (((rows, q), h), s) in parts {
                    scope.spawn(move || unpack(view.ty, rows, view.row_bytes(), [q, h, s]));
                }
            });
            for (plane, bytes) in [(to.q, &q), (to.h, &h), (to.s, &s)] {
                // SAFETY: the planes hold 16 bytes of every group; waited for before the bytes go.
                unsafe { self.device.upload(plane.offset(16 * done), bytes) }?;
            }
            self.device.synchronize()?;
            done += count;
        }
        Ok(())
    }
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
