//! The names of quants, as they stand in the names of GGUF files.

/// Those that most people are served best with, first: quality near the original at about half a
/// byte a weight, then those next to it.
const PREFERRED: [&str; 33] = [
    "Q4_K_M",
    "Q4_K_XL",
    "Q4_K",
    "Q4_K_L",
    "Q4_K_S",
    "MXFP4",
    "MXFP4_MOE",
    "Q4_0",
    "Q4_1",
    "Q4",
    "IQ4_XS",
    "IQ4_NL",
    "Q5_K_M",
    "Q5_K_XL",
    "Q5_K",
    "Q5_K_L",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q5",
    "Q6_K_XL",
    "Q6_K",
    "Q6_K_L",
    "Q6",
    "Q8_0",
    "Q8",
    "Q8_K_XL",
    "Q3_K_L",
    "Q3_K_XL",
    "Q3_K_M",
    "Q3_K",
    "BF16",
    "F16",
];

/// A quant's name in capitals, where `text` is one: `q4_k_m` is `Q4_K_M`; `Q4_K` stands for itself,
/// and so does `Q4`, as some call a quant of that many bits.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let name = text.to_ascii_uppercase();
    let name = match name.as_str() {
        "FP16" => "F16".to_owned(),
        "FP32" => "F32".to_owned(),
        _ => name,
    };
    let is_float = matches!(
        name.as_str(),
        "F16" | "F32" | "BF16" | "MXFP4" | "MXFP4_MOE"
    );
    let bits = ["IQ", "TQ", "Q"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind));
    let is_blocks = bits.is_some_and(|rest| {
        let mut parts = rest.split('_');
        let bits = parts.next().unwrap_or_default();
        matches!(bits, "1" | "2" | "3" | "4" | "5" | "6" | "8")
            && parts.all(|part| {
                matches!(
                    part,
                    "0" | "1" | "4" | "8" | "K" | "S" | "M" | "L" | "XL" | "XS" | "XXS" | "NL"
                )
            })
    });
    (is_float || is_blocks).then_some(name)
}

/// The quant that a file's name gives: the last of its words that is one. Words end at `-` and `.`;
/// of a word with `_` the end may be one.
pub(crate) fn of_file(path: &str) -> Option<String> {
    path.rsplit(['/', '-', '.']).find_map(|word| {
        let ends = word.match_indices('_').map(|(at, _)| &word[at + 1..]);
        std::iter::once(word).chain(ends).find_map(canonical)
    })
}

/// Whether the quant of a file is the one asked for; `Q4_K` and `Q4_K_M` are names of one,
/// as in llama.cpp.
pub(crate) fn matches(asked: &str, found: &str) -> bool {
    let Some(asked) = canonical(asked) else {
        return false;
    };
    asked == found || format!("{asked}_M") == found || asked == format!("{found}_M")
}

/// Place of a quant among those that are preferred; what is not among them comes last.
pub(crate) fn place(quant: &str) -> usize {
    let place = PREFERRED.iter().position(|name| *name == quant);
    place.unwrap_or(PREFERRED.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quants_are_found_in_the_names_that_people_give_files() {
        for (file, quant) in [
            ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
            ("phi-2.q5_0.gguf", "Q5_0"),
            ("qwen2_5_7b_Q4_K_M.gguf", "Q4_K_M"),
            ("Qwen3-8B-UD-Q4_K_XL.gguf", "Q4_K_XL"),
            ("Q8_0/model-00001-of-00002.gguf", "Q8_0"),
            ("model-IQ4_XS-00001-of-00003.gguf", "IQ4_XS"),
            ("ggml-model-f16.gguf", "F16"),
            ("model-fp16.gguf", "F16"),
            ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
            ("model.Q4_0_4_4.gguf", "Q4_0_4_4"),
            ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ] {
            assert_eq!(of_file(file).as_deref(), Some(quant), "{file}");
        }
        for file in ["model.gguf", "Q.gguf", "Qwen3-8B.gguf", "Q7.gguf"] {
            assert_eq!(of_file(file), None, "{file}");
        }
    }

    #[test]
    fn a_quant_is_preferred_to_the_original() {
        assert!(place("Q4") < place("F16") && place("Q4_K_M") < place("Q4"));
    }

    #[test]
    fn a_short_name_asks_for_the_medium_mixture() {
        assert!(
            matches("q4_k", "Q4_K_M")
                && matches("q4_k_m", "Q4_K_M")
                && matches("Q6_K", "Q6_K")
                && matches("q4_k_m", "Q4_K")
        );
        assert!(!matches("q4_k", "Q4_K_S") && !matches("nothing", "Q4_K_M"));
    }
}
