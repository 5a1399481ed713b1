//! Experts as transformers 5 has them, where PEFT adapts parameters (`target_parameters`): all experts of
//! a layer in `gate_up_proj`, `[experts, 2 * ff, hidden]`, and `down_proj`, `[experts, hidden, ff]`.
//!
//! The matrices of an adapter are `A: [experts * rank, in]`, expert after expert, and
//! `B: [out, rank * experts]`, whose columns are those of all experts for one rank after another. Tensors
//! are not called by their parameter but by how PEFT's wrappers are nested, as `experts.lora_A` and
//! `experts.base_layer.lora_A`; their shapes tell which parameter it is, as no model has
//! `2 * ff = hidden` and `ff = hidden`.

use std::collections::BTreeMap;

use super::{Base, CONFIG, Settings};
use crate::FormatError;
use crate::hf::modules::block_of_experts;
use crate::lora::{LoraMatrix, NO_PLACE, Pairs, Place, Side, unusable};

const GATE_UP: &str = "gate_up_proj";
const DOWN: &str = "down_proj";

/// A weight of the model, and its rows.
type Rows = (String, usize);

/// Whether `target_parameters` may have this entry.
pub(super) fn is_known(parameter: &str) -> bool {
    let name = parameter.rsplit('.').next();
    name.is_some_and(|name| [GATE_UP, DOWN].contains(&name))
}

/// What a tensor is of: the experts of a layer, in one of their parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stack {
    /// `model.layers.N.mlp.experts`.
    module: String,
    /// Wrappers around its own.
    depth: usize,
    /// `blk.N`.
    block: String,
}

impl Stack {
    /// What `module` is, if it is one.
    pub(super) fn of(base: &Base<'_>, module: &str) -> Option<Self> {
        let (mut name, mut depth) = (module, 0);
        while let Some(outer) = name.strip_suffix(".base_layer") {
            (name, depth) = (outer, depth + 1);
        }
        Some(Self {
            block: block_of_experts(&base.architecture, name)?,
            module: name.to_owned(),
            depth,
        })
    }

    /// The parameter that matrices of these shapes adapt, and the model's weights that it consists of.
    fn parameter(
        &self,
        base: &Base<'_>,
        a: &LoraMatrix,
        b: &LoraMatrix,
    ) -> Result<(&'static str, Vec<Rows>), String> {
        let weight = |name: &str| format!("{}.ffn_{name}_exps.weight", self.block);
        let gate = weight("gate");
        let found = base.checkpoint.tensor(&gate);
        let Some(&[hidden, ff, _]) = found.as_ref().map(|tensor| tensor.shape) else {
            return Err(NO_PLACE.to_owned());
        };
        let shape = [a.cols as u64, b.rows as u64];
        if shape == [hidden, 2 * ff] {
            let rows = ff as usize;
            return Ok((GATE_UP, vec![(gate, rows), (weight("up"), rows)]));
        }
        if shape == [ff, hidden] {
            return Ok((DOWN, vec![(weight("down"), hidden as usize)]));
        }
        Err(format!(
            "has matrices [{}, {}] and [{}, {}], but the model's experts are [{ff}, {hidden}]: the \
             adapter is for another model",
            a.rows, a.cols, b.rows, b.cols
        ))
    }
}

/// What adapts parameters, while it is collected.
#[derive(Default)]
pub(super) struct Parameters {
    by_stack: BTreeMap<Stack, [Option<LoraMatrix>; 2]>,
}

impl Parameters {
    /// Adds a matrix that was not there.
    pub(super) fn add(
        &mut self,
        stack: Stack,
        side: Side,
        matrix: LoraMatrix,
    ) -> Result<(), String> {
        let pair = self.by_stack.entry(stack).or_default();
        match pair[side as usize].replace(matrix) {
            None => Ok(()),
            Some(_) => Err("is there twice".to_owned()),
        }
    }

    /// Adds the matrices of each expert to `pairs`, and to `modules` what their settings go by.
    pub(super) fn finish(
        self,
        file: &str,
        base: &Base<'_>,
        settings: &Settings,
        pairs: &mut Pairs,
        modules: &mut BTreeMap<Place, String>,
    ) -> Result<(), FormatError> {
        for (stack, pair) in self.by_stack {
            let failed = |problem: String| unusable(file, &stack.module, problem);
            let [Some(a), Some(b)] = pair else {
                return Err(failed("has only one of its two matrices".to_owned()));
            };
            let (parameter, weights) = stack.parameter(base, &a, &b).map_err(failed)?;
            let key = format!("{}.{parameter}", stack.module);
            let rank = settings.rank(&key) as usize;
            let experts = base.experts(&weights[0].0);
            if rank == 0 || [a.rows, b.cols] != [rank.saturating_mul(experts); 2] {
                return Err(failed(format!(
                    "has ranks {} and {} in all, but {CONFIG} says {rank} for each of {experts} experts",
                    a.rows, b.cols
                )));
            }
            for (expert, b) in b.every(experts).into_iter().enumerate() {
                let a = a.part(expert * rank, rank);
                let mut first = 0;
                for (weight, rows) in &weights {
                    let place = (weight.clone(), expert);
                    pairs
                        .add(place.clone(), Side::A, a.clone())
                        .and_then(|()| pairs.add(place.clone(), Side::B, b.part(first, *rows)))
                        .map_err(failed)?;
                    modules.insert(place, key.clone());
                    first += rows;
                }
            }
        }
        Ok(())
    }
}
