//! Draws that the device makes: which those are, and what it is told of them.

use std::collections::BTreeMap;

use zse_model::executor::{SampleJob, TokenMask};
use zse_model::sampler::{Noise, SampleParams};

use crate::device::{Device, DeviceMemory, PinnedMemory, Ptr};
use crate::error::CudaError;
use crate::ops::draw::{self, Change, Draw, Places};

/// Words of a draw, of a change, and of a result.
const DRAW: usize = size_of::<Draw>() / 4;
const CHANGE: usize = size_of::<Change>() / 4;
const RESULT: usize = 2;

/// Changes of a draw that there is room for from the start: the penalties' default window.
const CHANGES: usize = 64;

/// What draws of a step are, on both sides; it grows to what is asked for.
pub(super) struct Draws {
    host: PinnedMemory,
    memory: DeviceMemory,
    results: PinnedMemory,
    /// Most draws of a step.
    most: usize,
}

/// The draws of a step, as they are put together.
#[derive(Default)]
pub(super) struct Wanted {
    draws: Vec<Draw>,
    masks: Vec<u64>,
    changes: Vec<Change>,
}

impl Wanted {
    /// Adds the draw from `row`, unless the device cannot make it.
    pub(super) fn add(
        &mut self,
        row: usize,
        job: &SampleJob,
        mask: Option<&TokenMask>,
        vocab: usize,
    ) -> bool {
        let p = &*job.params;
        if !is_plain(p) {
            return false;
        }
        let Some(changes) = changes(job, vocab) else {
            return false;
        };
        let begin = self.changes.len();
        self.changes.extend(changes);
        let first = mask.map(|mask| {
            let first = self.masks.len();
            let words = mask.iter().copied().chain(std::iter::repeat(0));
            self.masks.extend(words.take(vocab.div_ceil(64)));
            first
        });
        self.draws.push(Draw {
            key: Noise::new(p.seed, job.choice, job.position).key(),
            temperature: p.temperature,
            top_k: i32::try_from(p.top_k).unwrap_or(0),
            top_p: p.top_p,
            floor: p.min_p.ln(),
            repetition: p.repetition_penalty,
            presence: p.presence_penalty,
            frequency: p.frequency_penalty,
            row: row as i32,
            mask: first.map_or(-1, |first| first as i32),
            begin: begin as i32,
            end: self.changes.len() as i32,
        });
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.draws.is_empty()
    }

    /// Words of it all.
    fn words(&self) -> usize {
        DRAW * self.draws.len() + 2 * self.masks.len() + CHANGE * self.changes.len()
    }
}

/// Whether the kernel knows all that `p` asks for.
fn is_plain(p: &SampleParams) -> bool {
    p.typical_p >= 1.0
        && p.xtc_probability <= 0.0
        && p.mirostat.is_none()
        && p.dry_multiplier == 0.0
        && p.top_logprobs == 0
}

/// The tokens whose logits penalties and biases change; `None` where a bias names a token twice, or one that
/// does not exist.
fn changes(job: &SampleJob, vocab: usize) -> Option<impl Iterator<Item = Change> + use<>> {
    let p = &*job.params;
    let mut by_token: BTreeMap<u32, Change> = BTreeMap::new();
    let none = |token| Change {
        token,
        bias: 0.0,
        count: 0,
        kept: 0.0,
    };
    for &(token, bias) in &p.logit_bias {
        let is_new = by_token
            .insert(
                token,
                Change {
                    bias,
                    ..none(token)
                },
            )
            .is_none();
        if !is_new || token as usize >= vocab {
            return None;
        }
    }
    let penalizes =
        p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0;
    let window = p.penalty_last_n.map_or(usize::MAX, |n| n as usize);
    let seen = job
        .history
        .iter()
        .rev()
        .take(if penalizes { window } else { 0 });
    for &token in seen.filter(|&&token| (token as usize) < vocab) {
        by_token.entry(token).or_insert_with(|| none(token)).count += 1;
    }
    Some(by_token.into_values())
}

/// Words on the device for `most` draws and what belongs to them.
pub(super) fn words(most: usize) -> usize {
    most.saturating_mul(DRAW + CHANGE * CHANGES + RESULT + 1)
}

impl Draws {
    /// Room for `most` draws.
    pub(super) fn new(device: &Device, most: usize) -> Result<Self, CudaError> {
        let words = words(most);
        Ok(Self {
            host: device.pin(words)?,
            memory: device.allocate("draws", 4 * words)?,
            results: device.pin(RESULT * most)?,
            most,
        })
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Draws from rows of `vocab` logits, of which `best` are the best, behind what is on the stream, and waits:
    /// for each draw its token and the logarithm of its probability.
    pub(super) fn run(
        &mut self,
        device: &Device,
        [logits, best]: [Ptr; 2],
        wanted: &Wanted,
        vocab: usize,
    ) -> Result<impl Iterator<Item = (u32, f32)> + '_, CudaError> {
        let n = wanted.draws.len();
        let needed = wanted.words() + (RESULT + 1) * self.most;
        if needed > self.host.words().len() {
            let words = needed.next_power_of_two();
            self.host = device.pin(words)?;
            self.memory = device.allocate("draws", 4 * words)?;
        }
        let masks = DRAW * n;
        let changes = masks + 2 * wanted.masks.len();
        let to = self.host.words_mut();
        for (to, draw) in to.chunks_exact_mut(DRAW).zip(&wanted.draws) {
            to.copy_from_slice(&draw.words());
        }
        for (to, mask) in to[masks..changes].chunks_exact_mut(2).zip(&wanted.masks) {
            to.copy_from_slice(&[*mask as u32, (*mask >> 32) as u32]);
        }
        for (to, change) in to[changes..].chunks_exact_mut(CHANGE).zip(&wanted.changes) {
            to.copy_from_slice(&change.words());
        }
        let at = |words: usize| self.memory.at().offset(4 * words);
        let results = wanted.words().next_multiple_of(2);
        let places = Places {
            best,
            draws: at(0),
            masks: at(masks),
            changes: at(changes),
            results: at(results),
            tokens: at(results + RESULT * n),
        };
        // SAFETY: there is room; the host's words do not change, and results are not read, before the wait.
        unsafe { device.upload(at(0), &self.host.words()[..wanted.words()]) }?;
        draw::draw(device, logits, &places, n, vocab)?;
        let to = &mut self.results.words_mut()[..RESULT * n];
        // SAFETY: as above.
        unsafe { device.download(to, places.results) }?;
        device.synchronize()?;
        let results = self.results.words()[..RESULT * n].as_chunks::<RESULT>().0;
        Ok(results
            .iter()
            .map(|&[token, logprob]| (token, f32::from_bits(logprob))))
    }
}
