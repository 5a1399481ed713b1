//! The choices there are, in the order in which they are tried.

use std::fmt;

use zse_model::executor::KvType;

use super::size::Sizes;
use super::{Goal, Mode};
use crate::quantize::Mixture;

/// Types that weights may be converted to, from the best answers to the fewest bytes.
const MIXTURES: [&str; 6] = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"];

/// The last of [`MIXTURES`] whose answers are near those of the original.
const LAST_SOUND: &str = "Q4_K_M";

/// A conversion that saves less than this share is not worth its while.
const WORTH: f64 = 0.05;

/// A way to load a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// The weights' types; `None`: as the file has them.
    pub(super) mixture: Option<&'static Mixture>,
    pub(super) kv_type: KvType,
    pub(super) context: usize,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mixture {
            Some(mixture) => write!(f, "{} weights", mixture.name)?,
            None => f.write_str("The file's own weights")?,
        }
        let (context, kv_type) = (self.context, self.kv_type.name());
        write!(f, " and a context of {context} tokens in {kv_type}")
    }
}

/// Whether answers with these weights are near those of the original.
pub(super) fn is_sound(mixture: &Mixture) -> bool {
    let at = |name| MIXTURES.iter().position(|&m| m == name);
    at(mixture.name) <= at(LAST_SOUND)
}

/// All ways to load a model for `goal`, the preferred first.
pub(super) fn candidates(sizes: &Sizes, goal: &Goal) -> Vec<Candidate> {
    let (mut sound, unsound) = weights(sizes, goal);
    if goal.mode != Mode::Balanced {
        sound.drain(..sound.len() - 1);
    }
    let smallest = sound[sound.len() - 1];
    let contexts = sizes.contexts(Goal::SHORTEST);
    let kv_types = kv_types(sizes, goal.mode);
    let least = kv_types[kv_types.len() - 1];

    let mut all = Vec::new();
    for &mixture in &sound {
        all.extend(kv_types.iter().map(|&kv_type| Candidate {
            mixture,
            kv_type,
            context: contexts[0],
        }));
    }
    let shorter = contexts[1..].iter().map(|&context| (smallest, context));
    let worse = unsound
        .iter()
        .flat_map(|&m| contexts.iter().map(move |&context| (m, context)));
    all.extend(shorter.chain(worse).map(|(mixture, context)| Candidate {
        mixture,
        kv_type: least,
        context,
    }));
    all
}

type Weights = Vec<Option<&'static Mixture>>;

/// The types of weights that answer soundly, at least one, and those that do not; each smaller than
/// the one before.
fn weights(sizes: &Sizes, goal: &Goal) -> (Weights, Weights) {
    let (mut sound, mut unsound) = (vec![None], Vec::new());
    if !goal.may_convert {
        return (sound, unsound);
    }
    let mut last = sizes.weight_bytes(None);
    for name in MIXTURES {
        let Ok(mixture) = Mixture::parse(name) else {
            continue;
        };
        let bytes = sizes.weight_bytes(Some(mixture));
        if bytes as f64 <= (1.0 - WORTH) * last as f64 {
            last = bytes;
            let list = if is_sound(mixture) {
                &mut sound
            } else {
                &mut unsound
            };
            list.push(Some(mixture));
        }
    }
    (sound, unsound)
}

/// The types of keys and values to try; the smallest is the last.
fn kv_types(sizes: &Sizes, mode: Mode) -> Vec<KvType> {
    let asked = sizes.options().kv_type;
    let short = sizes.can_keep(KvType::Q8_0);
    match mode {
        _ if !sizes.is_default_kv() || !short => vec![asked],
        Mode::MinMemory => vec![KvType::Q8_0],
        Mode::Balanced | Mode::MaxSpeed => vec![asked, KvType::Q8_0],
    }
}
