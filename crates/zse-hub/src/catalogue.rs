//! The catalogue: models that many people run, described in `catalogue.toml`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Choice, HubError, ModelRef, RepoId, Shape};

/// The curated list of models, part of the program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The models, by family and size.
    #[serde(rename = "model")]
    pub models: Vec<Entry>,
}

/// A model of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called on the command line, such as `llama-3.2-1b`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Repository of the weights that its makers published (safetensors).
    pub repo: String,
    /// Repository with GGUF files, where there is a usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gguf: Option<String>,
    /// Architecture, as GGUF files name it.
    pub architecture: String,
    /// Parameters, as its makers count them.
    pub parameters: u64,
    /// Tokens of context that it was made for.
    pub context: u64,
    /// Licence, by SPDX or as the hub names it.
    pub licence: String,
    /// What it is for.
    pub categories: Vec<String>,
    /// Whether it is among the best of its size and kind.
    #[serde(default)]
    pub recommended: bool,
    /// Why it cannot be run here; empty: it can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub not_run: String,
    /// Page with its dimensions.
    pub source: String,
    /// Its dimensions.
    pub shape: Shape,
}

/// Whether a model of an architecture can be run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    /// It can; with the name that GGUF files give the architecture.
    Yes(&'static str),
    /// It cannot.
    No,
}

/// Architectures that are run, as `config.json` (`model_type`) and as GGUF files name them.
const ARCHITECTURES: [(&str, &str); 15] = [
    ("llama", "llama"),
    ("mistral", "llama"),
    ("mixtral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3_moe", "qwen3moe"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3"),
    ("gemma3_text", "gemma3"),
    ("phi3", "phi3"),
    ("starcoder2", "starcoder2"),
    ("bert", "bert"),
    ("roberta", "bert"),
    ("xlm-roberta", "bert"),
    ("qwen3moe", "qwen3moe"),
];

impl Runs {
    /// Whether models of this `model_type`, or GGUF architecture, are run.
    pub fn architecture(name: &str) -> Self {
        let known = ARCHITECTURES.iter().find(|(kind, _)| *kind == name);
        known.map_or(Self::No, |(_, gguf)| Self::Yes(gguf))
    }
}

impl Catalogue {
    /// What an entry may be for.
    pub const CATEGORIES: [&str; 8] = [
        "chat",
        "code",
        "reasoning",
        "small",
        "large",
        "multilingual",
        "embedding",
        "rerank",
    ];

    /// The catalogue that is part of this program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
            toml::from_str(include_str!("catalogue.toml")).expect("a test reads the same text")
        });
        &BUILTIN
    }

    /// The entry of this id, in any case.
    pub fn find(&self, id: &str) -> Option<&Entry> {
        self.models
            .iter()
            .find(|entry| entry.id.eq_ignore_ascii_case(id))
    }

    /// The model that a name stands for: an id of the catalogue, or what the hub calls it; in `quant`,
    /// where one is given.
    ///
    /// # Errors
    /// [`HubError::Name`] for a name that is neither, a quant that is none, and a name that has a quant
    /// or a file already.
    pub fn model(&self, name: &str, quant: Option<&str>) -> Result<ModelRef, HubError> {
        let wrong = |name: &str, why| HubError::Name {
            name: name.to_owned(),
            why,
        };
        let model = match self.resolve(name) {
            Some(model) => model,
            None if name.contains('/') => name.parse()?,
            None => {
                let why = "it is no id of the catalogue (`zse models list`), and models of the hub \
                           are called `org/name`";
                return Err(wrong(name, why));
            }
        };
        let Some(quant) = quant else {
            return Ok(model);
        };
        if model.choice != Choice::Best {
            let why = "it has a quant or a file already, and a quant is asked for beside: give one \
                       of them";
            return Err(wrong(name, why));
        }
        let known = crate::quant::canonical(quant);
        known.ok_or_else(|| wrong(quant, "it is no quant, such as Q4_K_M"))?;
        Ok(ModelRef {
            choice: Choice::Quant(quant.to_owned()),
            ..model
        })
    }

    /// The model of the hub that `id` stands for; `id:QUANT` asks for that quant.
    fn resolve(&self, id: &str) -> Option<ModelRef> {
        let (id, quant) = match id.split_once(':') {
            Some((id, quant)) => (id, Some(quant)),
            None => (id, None),
        };
        let entry = self.find(id)?;
        let choice = match quant {
            None => Choice::Best,
            Some(quant) => Choice::Quant(crate::quant::canonical(quant)?),
        };
        let repo = entry.gguf.as_ref().unwrap_or(&entry.repo);
        Some(ModelRef {
            choice,
            ..ModelRef::best_of(RepoId::new(repo).ok()?)
        })
    }
}

impl Entry {
    /// Whether it can be run here.
    pub fn is_runnable(&self) -> bool {
        self.not_run.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_catalogue_holds_what_it_must() {
        let catalogue = Catalogue::builtin();
        assert!(catalogue.models.iter().filter(|e| e.is_runnable()).count() >= 40);
        let mut ids = HashSet::new();
        for entry in &catalogue.models {
            let id = &entry.id;
            assert!(ids.insert(id.to_ascii_lowercase()), "{id} is there twice");
            assert!(
                !id.contains(['/', ':', '@']) && !id.ends_with("gguf"),
                "{id}"
            );
            for repo in entry.gguf.iter().chain([&entry.repo]) {
                assert!(RepoId::new(repo).is_ok(), "{id}: {repo}");
            }
            assert!(
                entry.source.starts_with("https://huggingface.co/"),
                "{id}: {}",
                entry.source
            );
            assert!(!entry.categories.is_empty(), "{id}");
            for category in &entry.categories {
                assert!(
                    Catalogue::CATEGORIES.contains(&category.as_str()),
                    "{id}: {category}"
                );
            }
            assert!(!entry.licence.is_empty() && entry.context > 0, "{id}");
            assert!(
                entry.is_runnable() || !entry.recommended,
                "{id}: recommended, but not run"
            );
        }
    }

    #[test]
    fn dimensions_give_the_parameters() {
        for entry in &Catalogue::builtin().models {
            let ratio = entry.shape.parameters() as f64 / entry.parameters as f64;
            assert!((ratio - 1.0).abs() < 0.02, "{}: {ratio}", entry.id);
        }
    }

    #[test]
    fn only_architectures_that_are_run_are_said_to_be() {
        let known: Vec<&str> = zse_model::arch::ARCHITECTURES
            .iter()
            .map(|a| a.name)
            .collect();
        for (_, gguf) in ARCHITECTURES {
            assert!(known.contains(&gguf), "{gguf}");
        }
        for entry in Catalogue::builtin()
            .models
            .iter()
            .filter(|e| e.is_runnable())
        {
            assert!(known.contains(&entry.architecture.as_str()), "{}", entry.id);
        }
    }

    #[test]
    fn embedding_and_ranking_in_many_languages_are_run() {
        assert_eq!(Runs::architecture("xlm-roberta"), Runs::Yes("bert"));
        for id in ["bge-m3", "bge-reranker-v2-m3", "multilingual-e5-large"] {
            assert!(Catalogue::builtin().find(id).unwrap().is_runnable(), "{id}");
        }
    }

    #[test]
    fn an_id_stands_for_a_repository_and_takes_a_quant() {
        let catalogue = Catalogue::builtin();
        let model = catalogue.resolve("Llama-3.2-1B:q8_0").unwrap();
        assert_eq!(
            model.to_string(),
            "bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0"
        );
        assert_eq!(catalogue.resolve("llama-3.2-1b:banana"), None);
        assert_eq!(catalogue.resolve("no-such-model"), None);
    }

    #[test]
    fn names_are_ids_of_the_catalogue_or_the_hubs() {
        let model = |name, quant| Catalogue::builtin().model(name, quant);
        let name = |name, quant| model(name, quant).unwrap().to_string();
        assert_eq!(name("org/name:q8_0", None), "org/name:q8_0");
        assert_eq!(name("org/name@v1", Some("q4_k_m")), "org/name:q4_k_m@v1");
        assert!(name("qwen3-0.6b", None).starts_with("unsloth/"));
        assert!(name("qwen3-0.6b", Some("q4_k_m")).ends_with(":q4_k_m"));
        for (wrong, quant, why) in [
            ("nothing", None, "zse models list"),
            ("org/name", Some("file.gguf"), "no quant"),
            ("org/name", Some("banana"), "no quant"),
            ("org/name:q8_0", Some("q4_k_m"), "give one of them"),
            ("qwen3-0.6b:q8_0", Some("q4_k_m"), "give one of them"),
        ] {
            let error = model(wrong, quant).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
