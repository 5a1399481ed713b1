//! The mixtures: which type a file is mostly of, and which tensors get another one.
//!
//! Names, file type ids and the choice of types are llama.cpp's (`llama-quant.cpp`), so that a
//! file made here and one made there have the same layout.

use zse_quant::GgmlType::{self as T, *};

use super::QuantizeError;

/// A named choice of a type for each tensor of a model, such as `Q4_K_M`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// The name on the command line.
    pub name: &'static str,
    /// `general.file_type` of the result.
    pub file_type: u32,
    /// The type of most tensors.
    pub base: T,
    /// Weights of the base type that share a scale, where these are more than its blocks have.
    pub group: Option<usize>,
    /// Values of attention (`attn_v`, `attn_qkv`).
    pub(super) attn_v: Rule,
    /// The attention's output projection.
    pub(super) attn_output: Rule,
    /// The second half of the MLP.
    pub(super) ffn_down: Rule,
    /// The attention's output projection in mixtures of eight experts, where it is a small part of
    /// the file.
    pub(super) attn_output_of_8: Rule,
}

/// How one kind of tensor departs from the mixture's base type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Not at all.
    Base,
    /// Always this type.
    Is(T),
    /// In the first and the last eighth of the layers and every third between.
    MoreBits(T),
    /// In the first so many layers; then the other type.
    First(usize, T, T),
    /// In the first `layers / n`; then the other type.
    FirstPart(usize, T, T),
    /// Where at least 4 query heads share a key head (the tensor is small then); else the other.
    Shared(T, T),
    /// In the first eighth of the layers, and only with an importance matrix.
    FirstEighthWeighted(T),
    /// In the first eighth of the layers, and only without an importance matrix.
    FirstEighthUnweighted(T),
}

use Rule::{
    Base, First, FirstEighthUnweighted, FirstEighthWeighted, FirstPart, Is, MoreBits, Shared,
};

/// A mixture that departs from `base` nowhere.
const fn plain(name: &'static str, file_type: u32, base: T) -> Mixture {
    Mixture {
        name,
        file_type,
        base,
        group: None,
        attn_v: Base,
        attn_output: Base,
        ffn_down: Base,
        attn_output_of_8: Base,
    }
}

/// With a scale for each `size` weights.
const fn groups(size: usize, mut m: Mixture) -> Mixture {
    m.group = Some(size);
    m
}

/// The rows of [`Mixture::ALL`] that are not plain: values, attention output, `ffn_down`.
const fn mixed(mut m: Mixture, attn_v: Rule, attn_output: Rule, ffn_down: Rule) -> Mixture {
    m.attn_v = attn_v;
    m.attn_output = attn_output;
    m.ffn_down = ffn_down;
    m
}

/// With Q5_K for the attention's output of eight-expert models.
const fn q5_output_of_8(mut m: Mixture) -> Mixture {
    m.attn_output_of_8 = Is(Q5K);
    m
}

impl Mixture {
    /// All of them.
    #[rustfmt::skip]
    pub const ALL: &[Self] = &[
        plain("F32", 0, F32),
        plain("F16", 1, F16),
        plain("BF16", 32, Bf16),
        mixed(plain("Q4_0", 2, Q4_0), Base, Base, FirstEighthWeighted(Q4_1)),
        plain("Q4_1", 3, Q4_1),
        mixed(plain("Q5_0", 8, Q5_0), Base, Base, FirstEighthWeighted(Q5_1)),
        plain("Q5_1", 9, Q5_1),
        plain("Q8_0", 7, Q8_0),
        q5_output_of_8(mixed(plain("Q2_K", 10, Q2K), Shared(Q4K, Q3K), Is(Q3K), Is(Q3K))),
        q5_output_of_8(plain("Q3_K_S", 11, Q3K)),
        q5_output_of_8(mixed(plain("Q3_K_M", 12, Q3K), First(2, Q5K, Q4K), Is(Q4K), FirstPart(16, Q5K, Q4K))),
        mixed(plain("Q3_K_L", 13, Q3K), Is(Q5K), Is(Q5K), Is(Q5K)),
        q5_output_of_8(mixed(plain("Q4_K_S", 14, Q4K), First(4, Q5K, Q4K), Base, FirstPart(8, Q5K, Q4K))),
        q5_output_of_8(mixed(plain("Q4_K_M", 15, Q4K), MoreBits(Q6K), Base, MoreBits(Q6K))),
        plain("Q5_K_S", 16, Q5K),
        mixed(plain("Q5_K_M", 17, Q5K), MoreBits(Q6K), Base, MoreBits(Q6K)),
        plain("Q6_K", 18, Q6K),
        q5_output_of_8(mixed(plain("IQ4_NL", 25, Iq4Nl), Shared(Q5K, Iq4Nl), Base, FirstEighthUnweighted(Q5K))),
        q5_output_of_8(mixed(plain("IQ4_XS", 30, Iq4Xs), Shared(Q5K, Iq4Xs), Base, FirstEighthUnweighted(Q5K))),
        plain("MXFP4", 38, Mxfp4),
        plain(MXFP4_MOE, 38, Mxfp4),
        // What other formats call symmetric integers with a scale a group, of 32 weights where nothing is said.
        plain("INT4", 2, Q4_0),
        groups(64, plain("INT4:G64", 2, Q4_0)),
        groups(128, plain("INT4:G128", 2, Q4_0)),
        plain("INT8", 7, Q8_0),
        groups(64, plain("INT8:G64", 7, Q8_0)),
        groups(128, plain("INT8:G128", 7, Q8_0)),
    ];

    /// The mixture of this name, in any case; `Q3_K`, `Q4_K` and `Q5_K` are their `_M`. Behind `INT4` and
    /// `INT8` may stand the size of their groups, 32, 64 or 128: `int4:g128`, or `int4:128`.
    ///
    /// # Errors
    /// [`QuantizeError::UnknownType`], which lists the names there are; [`QuantizeError::GroupSize`] for
    /// other sizes.
    pub fn parse(name: &str) -> Result<&'static Self, QuantizeError> {
        let mut name = name.to_owned();
        if let Some((kind, group)) = name.split_once(':')
            && ["int4", "int8"].contains(&&*kind.to_ascii_lowercase())
        {
            let size = group.strip_prefix(['g', 'G']).unwrap_or(group);
            name = match size {
                "32" => kind.to_owned(),
                "64" | "128" => format!("{kind}:g{size}"),
                _ => {
                    return Err(QuantizeError::GroupSize {
                        name: kind.to_owned(),
                        group: group.to_owned(),
                    });
                }
            };
        }
        let medium = format!("{name}_M");
        Self::ALL
            .iter()
            .find(|m| m.name.eq_ignore_ascii_case(&name))
            .or_else(|| {
                Self::ALL
                    .iter()
                    .find(|m| m.name.eq_ignore_ascii_case(&medium))
            })
            .ok_or_else(|| QuantizeError::UnknownType {
                name: name.clone(),
                known: Self::ALL
                    .iter()
                    .map(|m| m.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Whether only experts get the base type, and all else Q8_0.
    pub(super) fn is_experts_only(&self) -> bool {
        self.name == MXFP4_MOE
    }
}

/// MXFP4 for experts, as gpt-oss is published.
const MXFP4_MOE: &str = "MXFP4_MOE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_short() {
        assert_eq!(Mixture::parse("q4_k_m").unwrap().file_type, 15);
        assert_eq!(Mixture::parse("q4_k").unwrap().name, "Q4_K_M");
        assert_eq!(Mixture::parse("Q6_K").unwrap().base, Q6K);
        let error = Mixture::parse("q4").unwrap_err().to_string();
        assert!(
            error.contains("'q4'") && error.contains("Q4_K_M"),
            "{error}"
        );
    }

    #[test]
    fn integers_have_groups_of_32_and_more() {
        for (name, base, group) in [
            ("int4", Q4_0, None),
            ("INT4:G32", Q4_0, None),
            ("int8:32", Q8_0, None),
            ("int4:g64", Q4_0, Some(64)),
            ("Int8:128", Q8_0, Some(128)),
        ] {
            let found = Mixture::parse(name).unwrap();
            assert_eq!((found.base, found.group), (base, group), "{name}");
        }
        for name in ["int4:g16", "int8:gg64", "int4:"] {
            let error = Mixture::parse(name).unwrap_err().to_string();
            assert!(error.contains("groups of 32, 64 or 128"), "{error}");
        }
        for name in ["int5", "int5:g32", "q4_0:g32"] {
            let error = Mixture::parse(name).unwrap_err().to_string();
            assert!(error.contains("unknown"), "{error}");
        }
    }

    #[test]
    fn every_type_of_every_mixture_can_be_encoded() {
        for m in Mixture::ALL {
            assert!(zse_quant::can_encode(m.base), "{}", m.name);
        }
    }
}
