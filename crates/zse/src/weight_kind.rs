//! What a model's matrices are made into when it is loaded.

use std::fmt;
use std::str::FromStr;

/// What a model's matrices are made into when it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightKind {
    /// What the file has.
    #[default]
    Stored,
    /// FP8 (E4M3 with one scale a row), on GPUs, of F32, F16 and BF16: half the memory of 16 bits. Embeddings, norms,
    /// biases, and the experts of mixtures stay.
    Fp8,
}

impl WeightKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Stored, Self::Fp8];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Fp8 => "fp8",
        }
    }
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WeightKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("unknown kind of weights '{name}'; known are stored and fp8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error, LoadOptions};

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in WeightKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("fp4".parse::<WeightKind>().unwrap_err().contains("fp8"));
    }

    #[test]
    fn fp8_is_for_gpus() {
        for device in [Device::Cpu, Device::Reference] {
            let options = LoadOptions {
                device,
                weights: WeightKind::Fp8,
                ..LoadOptions::default()
            };
            let error = options.backend().err().expect("it is refused");
            assert!(matches!(error, Error::Device { .. }), "{error}");
            assert!(error.to_string().contains("GPU"), "{error}");
        }
    }
}
