//! The catalogue as lists show it: filtered, with the memory that its models take, and which are here.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{Catalogue, Entry, HubError, LocalModel, QuantPlan, Shape};

/// Which models of the catalogue are listed.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Only those of this category.
    pub category: Option<&'static str>,
    /// The quant whose memory is told.
    pub quant: &'static QuantPlan,
    /// Only those that are recommended.
    pub recommended: bool,
    /// Only those that run in so many bytes.
    pub memory: Option<u64>,
    /// Only those that are on this machine.
    pub local: bool,
}

impl Filter {
    /// The quant where none is asked for.
    pub const QUANT: &'static str = "Q4_K_M";

    /// All models, or those of a category, with their memory in `quant`.
    ///
    /// # Errors
    /// [`HubError::Unknown`] where there is no such category or quant.
    pub fn new(category: Option<&str>, quant: &str) -> Result<Self, HubError> {
        let unknown = |what, given: &str, known: &[&str]| HubError::Unknown {
            what,
            given: given.to_owned(),
            known: known.join(", "),
        };
        let category = category.map(|name| {
            let found = Catalogue::CATEGORIES.iter().find(|known| **known == name);
            found.ok_or_else(|| unknown("category", name, &Catalogue::CATEGORIES))
        });
        Ok(Self {
            category: category.transpose()?.copied(),
            quant: QuantPlan::parse(quant).ok_or_else(|| {
                let known = QuantPlan::ALL.each_ref().map(|plan| plan.name);
                unknown("quant", quant, &known)
            })?,
            recommended: false,
            memory: None,
            local: false,
        })
    }

    fn takes(&self, entry: &Entry) -> bool {
        let of_category = |name: &str| entry.categories.iter().any(|c| c == name);
        let fits = |limit| entry.is_runnable() && self.memory_of(entry).bytes <= limit;
        self.category.is_none_or(of_category)
            && (!self.recommended || entry.recommended)
            && self.memory.is_none_or(fits)
    }

    fn memory_of(&self, entry: &Entry) -> Memory {
        let context = entry.context.min(Shape::CONTEXT);
        Memory {
            quant: self.quant.name,
            context,
            bytes: entry.shape.memory(self.quant, context),
        }
    }
}

/// Models of the catalogue, and others that are on this machine.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Listing {
    /// Those of the catalogue.
    pub catalogue: Vec<Listed>,
    /// Those that are here and not in the catalogue; none where a filter asks for what only the
    /// catalogue knows.
    pub others: Vec<LocalModel>,
}

/// A model of the catalogue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Listed {
    /// What the catalogue says of it.
    #[serde(flatten)]
    pub entry: Entry,
    /// Whether it can be run here.
    pub runs: bool,
    /// What it takes.
    pub memory: Memory,
    /// Its copies on this machine.
    pub local: Vec<LocalModel>,
}

/// The memory of a model in a quant.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Memory {
    /// The quant.
    pub quant: &'static str,
    /// Tokens of context.
    pub context: u64,
    /// Bytes: weights, keys and values, intermediate results.
    pub bytes: u64,
}

impl Catalogue {
    /// What `filter` asks for, with the copies among the models that are `here`.
    pub fn list(&self, filter: &Filter, here: &[LocalModel]) -> Listing {
        let is_of = |entry: &Entry, model: &LocalModel| {
            let repo = model.repo.as_str();
            repo == entry.repo || Some(repo) == entry.gguf.as_deref()
        };
        let listed = self.models.iter().filter(|entry| filter.takes(entry));
        let listed = listed.map(|entry| Listed {
            entry: entry.clone(),
            runs: entry.is_runnable(),
            memory: filter.memory_of(entry),
            local: (here.iter().filter(|model| is_of(entry, model)).cloned()).collect(),
        });
        let is_filtered =
            filter.category.is_some() || filter.recommended || filter.memory.is_some();
        let is_other = |model: &&LocalModel| {
            !is_filtered && !self.models.iter().any(|entry| is_of(entry, model))
        };
        Listing {
            catalogue: listed
                .filter(|listed| !filter.local || !listed.local.is_empty())
                .collect(),
            others: here.iter().filter(is_other).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filtered_by_is_checked() {
        let error = Filter::new(Some("poetry"), "Q4_K_M").unwrap_err();
        assert!(error.to_string().contains("multilingual"), "{error}");
        let error = Filter::new(None, "Q1").unwrap_err();
        assert!(error.to_string().contains("Q4_K_M"), "{error}");
    }

    #[test]
    fn models_that_are_here_stand_beside_their_entry_or_by_themselves() {
        let local = |repo: &str| LocalModel {
            repo: crate::RepoId::new(repo).expect("a name"),
            commit: "0".repeat(40),
            path: "m.gguf".into(),
            files: vec!["m.gguf".to_owned()],
            quant: None,
            bytes: 1,
        };
        let catalogue = Catalogue::builtin();
        let entry = &catalogue.models[0];
        let here = [local(&entry.repo), local("org/other")];
        let mut filter = Filter::new(None, Filter::QUANT).unwrap();
        filter.local = true;
        let listing = catalogue.list(&filter, &here);
        let ids = listing.catalogue.iter().map(|listed| &listed.entry.id);
        // Entries may share a repository.
        assert!(ids.collect::<Vec<_>>().contains(&&entry.id));
        assert_eq!(listing.others, here[1..]);
        filter.recommended = true;
        assert!(catalogue.list(&filter, &here).others.is_empty());
    }
}
