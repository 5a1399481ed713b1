//! A batch as words on the device: ids, positions, block tables, rows that want an output.

use zse_model::executor::{Batch, TokenSource};

use crate::device::{Device, DeviceMemory, PinnedMemory, Ptr};
use crate::error::CudaError;
use crate::ops::attention::{BatchShape, Sequences};
use crate::ops::kv::Slots;

/// What fixes the offsets of all parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Size {
    pub(super) tokens: usize,
    pub(super) outputs: usize,
    pub(super) seqs: usize,
}

impl Size {
    pub(super) fn of(batch: &Batch) -> Self {
        Self {
            tokens: batch.tokens.len(),
            outputs: batch.outputs.len(),
            seqs: batch.seqs.len(),
        }
    }
}

/// The words of the batch in flight, on both sides.
pub(super) struct Meta {
    host: PinnedMemory,
    memory: DeviceMemory,
    size: Size,
    shape: BatchShape,
    /// KV groups of the program.
    groups: usize,
    block_len: usize,
    /// What ends the first of two texts, for a program that tells them apart.
    separator: Option<u32>,
}

/// Offsets in words.
struct Offsets {
    ids: usize,
    positions: usize,
    index: usize,
    seq: usize,
    segments: usize,
    slots: usize,
    rows: usize,
    spans: usize,
    ends: usize,
    starts: usize,
    tables: usize,
}

impl Offsets {
    fn new(size: Size, groups: usize) -> Self {
        let n = size.tokens;
        let rows = (5 + groups) * n;
        let spans = rows + size.outputs;
        let ends = spans + size.seqs + 1;
        let starts = ends + size.seqs;
        Self {
            ids: 0,
            positions: n,
            index: 2 * n,
            seq: 3 * n,
            segments: 4 * n,
            slots: 5 * n,
            rows,
            spans,
            ends,
            starts,
            tables: starts + groups * size.seqs,
        }
    }
}

/// Words for batches of at most `size` whose tables name `blocks` blocks in each of `groups` groups.
pub(super) fn words(size: Size, groups: usize, blocks: usize) -> usize {
    Offsets::new(size, groups)
        .tables
        .saturating_add(groups.saturating_mul(blocks))
}

impl Meta {
    /// Room for `words` words.
    pub(super) fn new(
        device: &Device,
        words: usize,
        groups: usize,
        block_len: usize,
        separator: Option<u32>,
    ) -> Result<Self, CudaError> {
        Ok(Self {
            host: device.pin(words)?,
            memory: device.allocate("batches", 4 * words)?,
            size: Size::default(),
            shape: BatchShape::default(),
            groups,
            block_len,
            separator,
        })
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Puts the copy of `batch` on the stream, which must be idle. Tells whether the words had to move
    /// to make room (sequences that share blocks can have longer tables than was planned).
    pub(super) fn set(&mut self, device: &Device, batch: &Batch) -> Result<bool, CudaError> {
        self.size = Size::of(batch);
        self.shape = BatchShape::of(batch);
        let blocks: usize = batch
            .seqs
            .iter()
            .flat_map(|s| &s.tables)
            .map(Vec::len)
            .sum();
        let at = Offsets::new(self.size, self.groups);
        let needed = at.tables + blocks;
        let moved = needed > self.host.words().len();
        if moved {
            *self = Self {
                size: self.size,
                shape: self.shape,
                ..Self::new(
                    device,
                    needed.next_power_of_two(),
                    self.groups,
                    self.block_len,
                    self.separator,
                )?
            };
        }
        self.fill(batch, &at);
        // SAFETY: there is room; the host's words do not change before the stream is idle again.
        unsafe { device.upload(self.memory.at(), &self.host.words()[..needed]) }?;
        Ok(moved)
    }

    fn fill(&mut self, batch: &Batch, at: &Offsets) {
        let (n, seqs, block_len) = (self.size.tokens, self.size.seqs, self.block_len);
        let words = self.host.words_mut();
        for (to, TokenSource::Id(id)) in words[at.ids..].iter_mut().zip(&batch.tokens) {
            *to = *id;
        }
        words[at.positions..][..n].copy_from_slice(&batch.positions);
        if let Some(separator) = self.separator {
            words[at.segments..][..n].copy_from_slice(&batch.segments(separator));
        }
        for (to, output) in words[at.rows..].iter_mut().zip(&batch.outputs) {
            *to = output.token as u32;
        }
        let mut next = 0;
        for (s, seq) in batch.seqs.iter().enumerate() {
            words[at.spans + s] = seq.tokens.start as u32;
            words[at.spans + s + 1] = seq.tokens.end as u32;
            words[at.ends + s] = (seq.first + seq.tokens.len()) as u32;
            for (i, token) in seq.tokens.clone().enumerate() {
                words[at.index + token] = (seq.first + i) as u32;
                words[at.seq + token] = s as u32;
            }
            for (g, table) in seq.tables.iter().enumerate() {
                words[at.starts + g * seqs + s] = next as u32;
                words[at.tables + next..][..table.len()].copy_from_slice(table);
                next += table.len();
                for (i, token) in seq.tokens.clone().enumerate() {
                    let (block, row) = ((seq.first + i) / block_len, (seq.first + i) % block_len);
                    words[at.slots + g * n + token] = table[block] * block_len as u32 + row as u32;
                }
            }
        }
    }

    fn at(&self, offset: impl Fn(&Offsets) -> usize) -> Ptr {
        self.memory
            .at()
            .offset(4 * offset(&Offsets::new(self.size, self.groups)))
    }

    pub(super) fn ids(&self) -> Ptr {
        self.at(|o| o.ids)
    }

    pub(super) fn positions(&self) -> Ptr {
        self.at(|o| o.positions)
    }

    /// Which of two texts each token is of.
    pub(super) fn segments(&self) -> Ptr {
        self.at(|o| o.segments)
    }

    /// Rows that want an output.
    pub(super) fn rows(&self) -> Ptr {
        self.at(|o| o.rows)
    }

    /// Where the rows of each sequence begin, and behind the last.
    pub(super) fn spans(&self) -> Ptr {
        self.at(|o| o.spans)
    }

    /// Where tokens go in the blocks of `group`.
    pub(super) fn slots(&self, group: usize) -> Slots {
        Slots {
            positions: self.positions(),
            slots: self.at(|o| o.slots + group * self.size.tokens),
            n: self.size.tokens,
        }
    }

    /// The sequences' blocks in `group`.
    pub(super) fn sequences(&self, group: usize) -> Sequences {
        Sequences {
            tables: self.at(|o| o.tables),
            starts: self.at(|o| o.starts + group * self.size.seqs),
            seq: self.at(|o| o.seq),
            index: self.at(|o| o.index),
            ends: self.at(|o| o.ends),
            spans: self.spans(),
            shape: self.shape,
        }
    }
}
