//! Which files of a repository make a model.

use std::collections::BTreeMap;

use crate::{Choice, HubError, quant};

/// A model's files within a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Paths in the repository, the one to be opened first: of GGUF files the first part, of
    /// safetensors `config.json`.
    pub files: Vec<String>,
    /// The quant, where the files are GGUF and say it.
    pub quant: Option<String>,
    /// All quants that there are, the preferred ones first.
    pub quants: Vec<String>,
}

impl Selection {
    /// Whether the model is a folder of safetensors: neither GGUF nor one file that was asked for.
    pub fn is_folder(&self) -> bool {
        self.files.len() > 1 && !self.files[0].ends_with(".gguf")
    }
}

/// Files beside the weights that a folder of safetensors needs.
const BESIDE: [&str; 17] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "quantize_config.json",
    "adapter_config.json",
];

/// The folder of a model's further chat templates, `NAME.jinja`.
const TEMPLATES: &str = "additional_chat_templates/";

/// The files of `paths` that `choice` asks for.
///
/// # Errors
/// [`HubError::Nothing`] says what there is instead.
pub(crate) fn select(repo: &str, paths: &[&str], choice: &Choice) -> Result<Selection, HubError> {
    let models = gguf_models(paths);
    let quants = quants(&models);
    let nothing = |wanted: String| HubError::Nothing {
        repo: repo.to_owned(),
        wanted,
        offered: offered(&models, &quants, paths),
    };
    let of_model = |model: &Model| {
        if !model.is_whole() {
            return Err(nothing(format!("complete {}", model.parts[0])));
        }
        Ok(Selection {
            files: model.parts.clone(),
            quant: model.quant.clone(),
            quants: quants.clone(),
        })
    };
    match choice {
        Choice::File(file) => {
            if let Some(model) = models.iter().find(|m| m.parts.contains(file)) {
                return of_model(model);
            }
            // Projectors and adapters are no models by themselves, but may be asked for.
            match paths.contains(&file.as_str()) {
                true => Ok(Selection {
                    files: vec![file.clone()],
                    quant: None,
                    quants,
                }),
                false => Err(nothing(format!("file {file}"))),
            }
        }
        Choice::Quant(asked) => {
            let fits = |m: &&Model| m.quant.as_ref().is_some_and(|q| quant::matches(asked, q));
            let whole = |m: &&Model| fits(m) && m.is_whole();
            match models
                .iter()
                .find(whole)
                .or_else(|| models.iter().find(fits))
            {
                Some(model) => of_model(model),
                None => Err(nothing(format!("GGUF file of the quant {asked}"))),
            }
        }
        Choice::Best => match models.iter().find(|m| m.is_whole()) {
            Some(model) => of_model(model),
            None => {
                safetensors(paths).ok_or_else(|| nothing("GGUF or safetensors files".to_owned()))
            }
        },
    }
}

/// Every GGUF model that is whole, the preferred quants first.
pub(crate) fn all_gguf(paths: &[&str]) -> Vec<Selection> {
    let models = gguf_models(paths);
    let quants = quants(&models);
    let whole = models.into_iter().filter(Model::is_whole);
    whole
        .map(|model| Selection {
            files: model.parts,
            quant: model.quant,
            quants: quants.clone(),
        })
        .collect()
}

/// A GGUF model: a file, or the parts of a split one in their order.
struct Model {
    parts: Vec<String>,
    of: u32,
    quant: Option<String>,
}

impl Model {
    fn is_whole(&self) -> bool {
        self.parts.len() == self.of as usize
    }
}

/// All GGUF models, the preferred first.
fn gguf_models(paths: &[&str]) -> Vec<Model> {
    let mut models: BTreeMap<(String, u32), BTreeMap<u32, String>> = BTreeMap::new();
    for path in paths {
        let Some(stem) = path.strip_suffix(".gguf") else {
            continue;
        };
        if is_companion(stem) {
            continue;
        }
        let (key, part) = match part_of(stem) {
            Some((prefix, part, of)) => ((prefix.to_owned(), of), part),
            None => ((stem.to_owned(), 1), 1),
        };
        models
            .entry(key)
            .or_default()
            .insert(part, (*path).to_owned());
    }
    let mut models: Vec<Model> = models
        .into_iter()
        .map(|((stem, of), parts)| Model {
            parts: parts.into_values().collect(),
            of,
            quant: quant::of_file(&stem),
        })
        .collect();
    // Stable: what is equally good stays in the order of names.
    models.sort_by_key(|m| m.quant.as_deref().map_or(usize::MAX, quant::place));
    models
}

/// Whether a GGUF file is no model by itself, by the words of its name: a projector, an adapter, or
/// statistics for quantizing (which `imatrix` beside a quant only says were used).
fn is_companion(stem: &str) -> bool {
    let name = stem.rsplit('/').next().unwrap_or(stem).to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| match word {
        "mmproj" | "lora" => true,
        "imatrix" => quant::of_file(&name).is_none(),
        _ => false,
    })
}

/// Whether a GGUF file is a part of a split model, by its name.
pub(crate) fn is_part(file: &str) -> bool {
    file.strip_suffix(".gguf")
        .and_then(part_of)
        .is_some_and(|(_, _, of)| of > 1)
}

/// `name-00002-of-00005` is part 2 of 5 of `name`.
fn part_of(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (prefix, part) = rest.rsplit_once('-')?;
    let number = |text: &str| {
        (text.len() == 5)
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (part, of) = (number(part)?, number(of)?);
    (1 <= part && part <= of).then_some((prefix, part, of))
}

fn quants(models: &[Model]) -> Vec<String> {
    let mut quants: Vec<String> = Vec::new();
    for quant in models
        .iter()
        .filter(|m| m.is_whole())
        .filter_map(|m| m.quant.clone())
    {
        if !quants.contains(&quant) {
            quants.push(quant);
        }
    }
    quants
}

/// The safetensors files and what they need. A repository may hold the same weights a second time
/// under another name (`consolidated`), which is left out.
fn safetensors(paths: &[&str]) -> Option<Selection> {
    let at_top = |path: &&&str| !path.contains('/');
    let all: Vec<&str> = paths
        .iter()
        .filter(at_top)
        .filter(|p| p.ends_with(".safetensors"))
        .copied()
        .collect();
    let usual: Vec<&str> = all
        .iter()
        .copied()
        .filter(|p| p.starts_with("model"))
        .collect();
    let weights = if usual.is_empty() { all } else { usual };
    let is_sharded_whole =
        weights.iter().all(
            |path| match path.strip_suffix(".safetensors").and_then(part_of) {
                None => true,
                Some((prefix, _, of)) => (1..=of).all(|part| {
                    weights.contains(&format!("{prefix}-{part:05}-of-{of:05}.safetensors").as_str())
                }),
            },
        );
    let has_config = ["config.json", "adapter_config.json"]
        .iter()
        .any(|c| paths.contains(c));
    if weights.is_empty() || !is_sharded_whole || !has_config {
        return None;
    }
    let beside = BESIDE.iter().filter(|name| paths.contains(name)).copied();
    let indexes = paths
        .iter()
        .filter(at_top)
        .filter(|p| p.ends_with(".safetensors.index.json"));
    let templates = paths.iter().filter(|path| {
        let name = path.strip_prefix(TEMPLATES);
        name.is_some_and(|name| name.ends_with(".jinja") && !name.contains('/'))
    });
    let beside = beside.chain(templates.copied());
    let files = beside.chain(indexes.copied()).chain(weights);
    Some(Selection {
        files: files.map(str::to_owned).collect(),
        quant: None,
        quants: Vec::new(),
    })
}

/// What a repository has, in a few words.
fn offered(models: &[Model], quants: &[String], paths: &[&str]) -> String {
    if !quants.is_empty() {
        return quants.join(", ");
    }
    if let Some(model) = models.first() {
        return model.parts[0].clone();
    }
    match paths.iter().any(|p| p.ends_with(".safetensors")) {
        true => "safetensors, without a quant to choose".to_owned(),
        false => format!("{} files of other kinds", paths.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GGUF: [&str; 8] = [
        "README.md",
        "m-BF16-00001-of-00002.gguf",
        "m-BF16-00002-of-00002.gguf",
        "m-Q2_K.gguf",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "mmproj-F16.gguf",
        "m-Q6_K-00001-of-00002.gguf",
    ];

    fn quant(name: &str) -> Choice {
        Choice::Quant(name.to_owned())
    }

    #[test]
    fn the_best_quant_is_chosen_and_the_others_named() {
        let chosen = select("a/b", &GGUF, &Choice::Best).unwrap();
        assert_eq!(chosen.files, ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen.quants, ["Q4_K_M", "Q8_0", "BF16", "Q2_K"]);
    }

    #[test]
    fn companions_are_told_by_whole_words() {
        for companion in [
            "mmproj-F16",
            "x.imatrix",
            "imatrix",
            "my-lora-F16",
            "sub/imatrix_a",
        ] {
            assert!(is_companion(companion), "{companion}");
        }
        for model in [
            "Flora-7B-Q4_K_M",
            "Explora-F16",
            "m-imatrix-Q4_K_M",
            "lora/m-Q8_0",
        ] {
            assert!(!is_companion(model), "{model}");
        }
    }

    #[test]
    fn split_models_are_taken_whole() {
        let parts = ["m-BF16-00001-of-00002.gguf", "m-BF16-00002-of-00002.gguf"];
        assert_eq!(select("a/b", &GGUF, &quant("bf16")).unwrap().files, parts);
        let second = Choice::File(parts[1].to_owned());
        assert_eq!(select("a/b", &GGUF, &second).unwrap().files, parts);
        let mixed = ["a-Q6_K-00001-of-00002.gguf", "b-Q6_K.gguf"];
        let chosen = select("a/b", &mixed, &quant("q6_k")).unwrap();
        assert_eq!(chosen.files, ["b-Q6_K.gguf"]);
        let error = select("a/b", &GGUF, &quant("q6_k"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("complete"), "{error}");
    }

    #[test]
    fn what_is_missing_is_told_with_what_there_is() {
        let error = select("a/b", &GGUF, &quant("q5_k_m"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("q5_k_m") && error.contains("Q4_K_M, Q8_0"),
            "{error}"
        );
        assert!(select("a/b", &["README.md"], &Choice::Best).is_err());
        assert!(select("a/b", &["m.safetensors", "config.json"], &quant("q8_0")).is_err());
    }

    #[test]
    fn safetensors_come_with_what_they_need() {
        let paths = [
            "additional_chat_templates/rag.jinja",
            "additional_chat_templates/README.md",
            "additional_chat_templates/old/rag.jinja",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "original/model.safetensors",
            "pytorch_model.bin",
        ];
        let chosen = select("a/b", &paths, &Choice::Best).unwrap();
        assert!(chosen.is_folder());
        assert_eq!(
            chosen.files,
            [
                "config.json",
                "tokenizer.json",
                "additional_chat_templates/rag.jinja",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ]
        );
        let missing: Vec<&str> = paths
            .iter()
            .copied()
            .filter(|p| !p.contains("00002-of"))
            .collect();
        assert!(select("a/b", &missing, &Choice::Best).is_err());
    }
}
