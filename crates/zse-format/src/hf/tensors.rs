//! GGUF's tensors by the rules of an architecture.

use zse_quant::GgmlType;

use super::rules::{Change, Rule};
use super::stored::Stored;
use super::weights::{Matrix, Recipe};
use super::{Config, Quantization, common};
use crate::FormatError;
use crate::Layout;
use crate::checkpoint::Tensor;
use crate::data::Made;

/// Matrices that GGUF has in F32, as its vectors.
const PRECISE: [&str; 3] = ["ffn_gate_inp", "position_embd", "token_types"];

/// Collects them.
pub(super) struct Tensors<'a, 'f> {
    stored: &'a mut Stored<'f>,
    quantization: Quantization,
    counts: Counts,
    tensors: Vec<Tensor>,
}

/// What `config.json` says of which tensors there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    layers: usize,
    experts: usize,
    query_heads: usize,
    key_heads: usize,
    /// Whether the logits come from the embeddings.
    is_tied: bool,
    /// Whether it is said that they do not.
    is_untied: bool,
}

impl Counts {
    pub(super) fn read(c: &Config) -> Result<Self, FormatError> {
        Ok(Self {
            layers: common::layers(c)?,
            experts: common::experts(c)? as usize,
            query_heads: common::heads(c)? as usize,
            key_heads: common::kv_heads(c)? as usize,
            is_tied: c.bool("tie_word_embeddings", false)?,
            is_untied: !c.bool("tie_word_embeddings", true)?,
        })
    }
}

impl<'a, 'f> Tensors<'a, 'f> {
    pub(super) fn new(
        counts: Counts,
        quantization: Quantization,
        stored: &'a mut Stored<'f>,
    ) -> Self {
        Self {
            stored,
            quantization,
            counts,
            tensors: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Tensor> {
        self.tensors
    }

    /// Adds the tensors of `rule`.
    pub(super) fn add(&mut self, rule: &Rule) -> Result<(), FormatError> {
        if !rule.from.contains("{l}") {
            return self.add_of(rule, rule.from, rule.to);
        }
        for l in 0..self.counts.layers {
            let number = l.to_string();
            let of_layer = |name: &str| name.replace("{l}", &number);
            let to = of_layer(rule.to);
            let stacked = rule.stacked.map(of_layer);
            match stacked.filter(|module| self.stored.has(&format!("{module}.weight"))) {
                Some(module) => self.add_stack(rule, &module, &to)?,
                None => self.add_of(rule, &of_layer(rule.from), &to)?,
            }
        }
        Ok(())
    }

    /// Adds the weights of all experts, which the module `from` has in one tensor.
    fn add_stack(&mut self, rule: &Rule, from: &str, to: &str) -> Result<(), FormatError> {
        let mut weights = Vec::new();
        for e in 0..self.counts.experts {
            self.stored.take_of_stacks(Some((e, self.counts.experts)));
            weights.extend(self.quantization.weight(self.stored, from)?);
        }
        self.stored.take_of_stacks(None);
        let name = format!("{from}.weight");
        if weights.is_empty() {
            let problem = "is of experts, but config.json has none".to_owned();
            return Err(self.stored.unusable(&name, problem));
        }
        self.push(rule, &name, format!("{to}.weight"), weights)
    }

    /// Adds weight and bias of the module `from`, or those of all experts.
    fn add_of(&mut self, rule: &Rule, from: &str, to: &str) -> Result<(), FormatError> {
        let mut weights = Vec::new();
        if from.contains("{e}") {
            for e in 0..self.counts.experts {
                let module = from.replace("{e}", &e.to_string());
                match self.quantization.weight(self.stored, &module)? {
                    Some(weight) => weights.push(weight),
                    None if weights.is_empty() && rule.optional => return Ok(()),
                    None => return Err(self.stored.missing(&format!("{module}.weight"))),
                }
            }
        } else {
            weights.extend(self.quantization.weight(self.stored, from)?);
        }
        if weights.is_empty() {
            // Logits from the embeddings would be those of another model.
            let is_needed = !rule.optional || self.counts.is_untied && to == "output";
            return match is_needed {
                true => Err(self.stored.missing(&format!("{from}.weight"))),
                false => Ok(()),
            };
        }
        if rule.first_row > 0 {
            for weight in &mut weights {
                let rows = match weight {
                    Matrix::Plain(raw, _) => raw.rows_from(rule.first_row),
                    _ => None,
                };
                let Some(rows) = rows else {
                    let problem = format!("must be floats of more than {} rows", rule.first_row);
                    return Err(self.stored.unusable(&format!("{from}.weight"), problem));
                };
                if let Matrix::Plain(raw, _) = weight {
                    *raw = rows;
                }
            }
        }
        let is_unused = self.counts.is_tied && to == "output";
        if is_unused {
            return Ok(());
        }
        self.push(
            rule,
            &format!("{from}.weight"),
            format!("{to}.weight"),
            weights,
        )?;
        if let Some(raw) = self.stored.take(&format!("{from}.bias")) {
            let name = format!("{from}.bias");
            let ty = raw.float().ok_or_else(|| {
                let problem = format!("has dtype {}, but is no weight", raw.dtype.name());
                self.stored.unusable(&name, problem)
            })?;
            self.push(
                rule,
                &name,
                format!("{to}.bias"),
                vec![Matrix::Plain(raw, ty)],
            )?;
        }
        Ok(())
    }

    /// Adds the tensor `to` of `parts`, which are called `from` in messages.
    fn push(
        &mut self,
        rule: &Rule,
        from: &str,
        to: String,
        parts: Vec<Matrix>,
    ) -> Result<(), FormatError> {
        let unusable = |problem: String| Err(self.stored.unusable(from, problem));
        let (shape, ty) = (parts[0].shape(), parts[0].ty());
        let (rows, cols) = match shape[..] {
            [cols] => (None, cols),
            [rows, cols] => (Some(rows), cols),
            _ => {
                return unusable(format!(
                    "has shape {shape:?}, but must be a vector or matrix"
                ));
            }
        };
        if let Some(other) = parts.iter().find(|p| p.shape() != shape || p.ty() != ty) {
            return unusable(format!(
                "differs among experts: {} {shape:?} and {} {:?}",
                ty.name(),
                other.ty().name(),
                other.shape()
            ));
        }
        let heads = match rule.change {
            Change::None | Change::PlusOne => None,
            Change::RotatedQueries => Some(self.counts.query_heads),
            Change::RotatedKeys => Some(self.counts.key_heads),
        };
        if let Some(heads) = heads
            && !rows.unwrap_or(cols).is_multiple_of(2 * heads as u64)
        {
            return unusable(format!(
                "has shape {shape:?}, which {heads} heads of even length do not divide"
            ));
        }
        let is_precise = rows.is_none()
            || rule.change == Change::PlusOne
            || PRECISE.iter().any(|name| rule.to.ends_with(name));
        let recipe = Recipe {
            parts,
            rows: rows.map(|n| n as usize),
            cols: cols as usize,
            from: ty,
            to: if is_precise { GgmlType::F32 } else { ty },
            change: rule.change,
            heads: heads.unwrap_or(1),
        };
        match tensor(&to, recipe) {
            Ok(tensor) => {
                self.tensors.push(tensor);
                Ok(())
            }
            Err(problem) => unusable(problem),
        }
    }
}

/// The vector `name` of `numbers`.
pub(super) fn of_numbers(name: &str, numbers: Vec<f32>) -> Result<Tensor, String> {
    let recipe = Recipe {
        rows: None,
        cols: numbers.len(),
        parts: vec![Matrix::Numbers(numbers)],
        from: GgmlType::F32,
        to: GgmlType::F32,
        change: Change::None,
        heads: 1,
    };
    tensor(name, recipe)
}

/// The tensor that `recipe` makes, or what is wrong with it.
fn tensor(name: &str, recipe: Recipe) -> Result<Tensor, String> {
    let rows = recipe.rows.unwrap_or(1);
    let dims = [
        recipe.cols as u64,
        rows as u64,
        recipe.parts.len() as u64,
        1,
    ];
    if dims.contains(&0) {
        return Err("has no numbers".to_owned());
    }
    let n_dims = match (recipe.parts.len(), recipe.rows) {
        (1, None) => 1,
        (1, Some(_)) => 2,
        _ => 3,
    };
    let ty = recipe.to;
    let size = Layout::Rows
        .tensor_bytes(ty, &dims)
        .map_err(|problem| format!("a dimension {problem}"))?;
    let (source, start, made) = match recipe.in_place() {
        Some(raw) => (raw.number, raw.start as u64, None),
        None => (0, 0, Some(Box::new(Made::new(recipe)))),
    };
    Ok(Tensor {
        name: name.into(),
        ty,
        n_dims,
        dims,
        size,
        source,
        start,
        at: 0,
        made,
        layout: Layout::Rows,
    })
}
