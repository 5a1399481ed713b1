//! Instruction sets: detected once, chosen by preference.

use std::fmt;
use std::str::FromStr;

use crate::simd::panel::{PanelKernel, With};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Vnni, amx::Amx};
#[cfg(target_arch = "aarch64")]
use crate::simd::{Dot, Neon, i8mm::I8mm};
use crate::simd::{Kernel, Scalar, Simd};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 with VNNI, and AMX for products of many columns.
    Amx,
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// NEON with the dot product instructions, and I8MM for products of many columns.
    NeonI8mm,
    /// NEON with the dot product instructions.
    NeonDot,
    /// NEON.
    Neon,
    /// None: runs everywhere.
    Scalar,
}

impl Isa {
    /// All of them, the best first.
    pub const ALL: [Self; 8] = [
        Self::Amx,
        Self::Avx512,
        Self::AvxVnni,
        Self::Avx2,
        Self::NeonI8mm,
        Self::NeonDot,
        Self::Neon,
        Self::Scalar,
    ];

    /// Those that this CPU has, the best first; [`Isa::Scalar`] is always the last.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| Arch::of(*isa).is_some())
            .collect()
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::NeonI8mm => "neon-i8mm",
            Self::NeonDot => "neon-dot",
            Self::Neon => "neon",
            Self::Scalar => "scalar",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|isa| isa.name()).collect();
                format!(
                    "unknown instruction set '{s}'; known are {}",
                    known.join(", ")
                )
            })
    }
}

/// The proof that the CPU has an instruction set: what kernels run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arch {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<Vnni>),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(Neon<Dot>),
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(I8mm),
}

impl Arch {
    /// The proof for `isa`; `None` where the CPU lacks it.
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Avx2::detect_vnni().map(Self::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::detect().map(Self::Amx),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map(Self::Neon),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => Neon::detect_dot().map(Self::NeonDot),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => I8mm::detect().map(Self::NeonI8mm),
            _ => None,
        }
    }

    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(s) => s.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(s) => s.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(s) => s.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(s) => s.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(s) => s.vectors().enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(s) => s.enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(s) => s.enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(s) => s.vectors().enter(kernel),
        }
    }

    /// The proof of products of panels; `None` where the instruction set has none.
    pub(crate) fn panels(self) -> Option<Panels> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(s) => Some(Panels::Amx(s)),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(s) => Some(Panels::I8mm(s)),
            _ => None,
        }
    }
}

/// The proof that the CPU has an instruction set with products of panels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Panels {
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

impl Panels {
    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub(crate) fn run(self, kernel: impl PanelKernel) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(s) => {
                let unit = &s.registers();
                s.vectors().enter(With { kernel, unit });
            }
            #[cfg(target_arch = "aarch64")]
            Self::I8mm(s) => {
                s.vectors().enter(With { kernel, unit: &s });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_last() {
        assert_eq!(Isa::available().last(), Some(&Isa::Scalar));
    }

    #[test]
    fn names_parse_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().to_uppercase().parse(), Ok(isa));
        }
        assert!("sse".parse::<Isa>().is_err());
    }
}
