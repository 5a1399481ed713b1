//! The rules that every program keeps, checked once when it is built.

use super::{
    Mask, Node, NodeId, Op, Program, ProgramOutput, Rope, RopeId, Rows, StateId, Tensor, TensorId,
    Value, ValueId,
};

/// A program that breaks a rule: a mistake in an architecture or a pass, never in a file.
#[derive(Debug, thiserror::Error)]
#[error("node {node} ({op}): {what}", node = node.0)]
pub struct ProgramError {
    /// The offending node; of what belongs to none, the number after the last.
    pub node: NodeId,
    /// Its operation, or what else it is.
    pub op: &'static str,
    /// The rule that it breaks.
    pub what: String,
}

impl Program {
    /// Checks that every index is in its table, then that values are defined once and before use
    /// and that every shape fits.
    ///
    /// # Errors
    /// Names a node that breaks a rule: the first with a stray index or, if all are in their
    /// tables, the first with another fault.
    pub fn check(&self) -> Result<(), ProgramError> {
        self.check_ids()?;
        self.check_ropes()?;
        let mut defined = vec![false; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |what: String| ProgramError {
                node: NodeId(i as u32),
                op: node.op.name(),
                what,
            };
            if let Some(v) = node.op.inputs().iter().find(|v| !defined[v.index()]) {
                return Err(fail(format!("value %{} is used before it is defined", v.0)));
            }
            let expected = self.shape_of(&node.op).map_err(&fail)?;
            match (expected, node.out) {
                (None, None) => {}
                (Some(shape), Some(out)) if self.value(out) == shape => {
                    if std::mem::replace(&mut defined[out.index()], true) {
                        return Err(fail(format!("value %{} is defined twice", out.0)));
                    }
                }
                (expected, out) => {
                    let got = out.map(|v| self.value(v));
                    return Err(fail(format!("defines {got:?}, should define {expected:?}")));
                }
            }
        }
        let out = self.output.value();
        let rows = match self.output {
            ProgramOutput::Logits(_) => Rows::Outputs,
            ProgramOutput::Pooled(_) => Rows::Seqs,
            ProgramOutput::Hidden(_) => Rows::Tokens,
        };
        if !defined[out.index()] || self.value(out).rows != rows {
            let what = format!("%{} is not defined with rows {rows:?}", out.0);
            return Err(self.beside_nodes("output", what));
        }
        Ok(())
    }

    /// An error of what belongs to no node.
    fn beside_nodes(&self, op: &'static str, what: String) -> ProgramError {
        ProgramError {
            node: NodeId(self.nodes.len() as u32),
            op,
            what,
        }
    }

    /// Checks that what nodes, ropes and the output name exists, so that it can be looked up.
    fn check_ids(&self) -> Result<(), ProgramError> {
        let values = |ids: &[ValueId]| {
            let stray = ids.iter().find(|v| v.index() >= self.values.len());
            stray.map(|v| format!("%{} of {} values", v.0, self.values.len()))
        };
        let tensors = |ids: &[TensorId]| {
            ids.iter().find_map(|t| match self.tensors.get(t.index()) {
                None => Some(format!("tensor {} of {}", t.0, self.tensors.len())),
                Some(t) if t.rows == 0 || t.cols == 0 || t.experts == 0 => {
                    Some(format!("tensor '{}' is empty", t.name))
                }
                Some(_) => None,
            })
        };
        let state = |id: StateId| {
            (id.index() >= self.states.len())
                .then(|| format!("state {} of {}", id.0, self.states.len()))
        };
        let rope = |id: RopeId| {
            (id.index() >= self.ropes.len())
                .then(|| format!("rope {} of {}", id.0, self.ropes.len()))
        };
        for (i, Node { op, out, .. }) in self.nodes.iter().enumerate() {
            let wrong = values(&op.inputs())
                .or_else(|| values(out.as_slice()))
                .or_else(|| tensors(&op.tensors()))
                .or_else(|| op.state().and_then(state))
                .or_else(|| op.rope().and_then(rope));
            if let Some(what) = wrong {
                return Err(ProgramError {
                    node: NodeId(i as u32),
                    op: op.name(),
                    what,
                });
            }
        }
        let factors = self.ropes.iter().flat_map(|r| r.factors);
        if let Some(what) = tensors(&factors.collect::<Vec<_>>()) {
            return Err(self.beside_nodes("rope", what));
        }
        match values(&[self.output.value()]) {
            None => Ok(()),
            Some(what) => Err(self.beside_nodes("output", what)),
        }
    }

    /// Checks that every rope, whether a node names it or not, has a factor for each pair: their
    /// angles are computed for all.
    fn check_ropes(&self) -> Result<(), ProgramError> {
        let factors = self.ropes.iter().filter_map(|r| Some((r, r.factors?)));
        for (rope, factors) in factors {
            self.check_vector("number of factors", factors, rope.dims / 2)
                .map_err(|what| self.beside_nodes("rope", what))?;
        }
        Ok(())
    }

    /// The shape of a tensor that is no stack.
    fn single(&self, t: TensorId) -> Result<&Tensor, String> {
        let t = self.tensor(t);
        want("matrices stacked", t.experts, 1).map(|()| t)
    }

    fn check_vector(&self, what: &str, t: TensorId, cols: usize) -> Result<(), String> {
        let t = self.single(t)?;
        want(what, t.rows.saturating_mul(t.cols), cols)
    }

    /// The value that `op` defines (`None`: it only changes a state), or the rule that its inputs
    /// break.
    pub(crate) fn shape_of(&self, op: &Op) -> Result<Option<Value>, String> {
        let value = |id: ValueId| self.value(id);
        let tokens = |id: ValueId| {
            let v = value(id);
            if v.rows == Rows::Tokens {
                Ok(v)
            } else {
                Err(format!("%{} has rows {:?}", id.0, v.rows))
            }
        };
        let vector = |what: &str, t: TensorId, cols: usize| self.check_vector(what, t, cols);
        let shape = match *op {
            Op::Embed { table, .. } => Value {
                rows: Rows::Tokens,
                cols: self.single(table)?.cols,
            },
            Op::Hidden { cols } => Value {
                rows: Rows::Tokens,
                cols,
            },
            Op::RmsNorm {
                x, weight, group, ..
            } => {
                vector("weight length", weight, group)?;
                if group == 0 || value(x).cols % group != 0 {
                    return Err(format!(
                        "{} columns do not divide by {group}",
                        value(x).cols
                    ));
                }
                value(x)
            }
            Op::LayerNorm {
                x, weight, bias, ..
            } => {
                vector("weight length", weight, value(x).cols)?;
                bias.map_or(Ok(()), |b| vector("bias length", b, value(x).cols))?;
                value(x)
            }
            Op::Linear {
                x, weight, bias, ..
            } => {
                let (x, w) = (value(x), self.single(weight)?);
                want("input columns", x.cols, w.cols)?;
                bias.map_or(Ok(()), |b| vector("bias length", b, w.rows))?;
                Value {
                    rows: x.rows,
                    cols: w.rows,
                }
            }
            Op::Rope { x, head_dim, rope } => {
                let Rope { dims, .. } = self.ropes[rope.index()];
                if head_dim == 0
                    || dims == 0
                    || value(x).cols % head_dim != 0
                    || dims > head_dim
                    || !dims.is_multiple_of(2)
                {
                    return Err(format!("cannot rotate {dims} of a head of {head_dim}"));
                }
                tokens(x)?
            }
            Op::KvWrite { k, v, state } => {
                let p = self.paged(state);
                want(
                    "key columns",
                    tokens(k)?.cols,
                    p.kv_heads.saturating_mul(p.k_dim),
                )?;
                want(
                    "value columns",
                    tokens(v)?.cols,
                    p.kv_heads.saturating_mul(p.v_dim),
                )?;
                return Ok(None);
            }
            Op::Attention {
                q,
                state,
                heads,
                mask,
                ..
            } => {
                let p = self.paged(state);
                want(
                    "query columns",
                    tokens(q)?.cols,
                    heads.saturating_mul(p.k_dim),
                )?;
                if p.kv_heads == 0 || heads % p.kv_heads != 0 {
                    return Err(format!(
                        "{heads} heads do not divide by {} KV heads",
                        p.kv_heads
                    ));
                }
                if mask == Mask::Window(0) {
                    return Err("a window of no positions".to_owned());
                }
                if let (Mask::Window(n), Some(kept)) = (mask, p.window)
                    && n > kept
                {
                    return Err(format!(
                        "looks back {n} positions of a state that keeps {kept}"
                    ));
                }
                Value {
                    rows: Rows::Tokens,
                    cols: heads.saturating_mul(p.v_dim),
                }
            }
            Op::Glu { gate: a, up: b, .. } | Op::Add { a, b } => {
                if value(a) != value(b) {
                    return Err(format!("shapes differ: {:?} and {:?}", value(a), value(b)));
                }
                value(a)
            }
            Op::Activation { x, .. } | Op::Scale { x, .. } | Op::SoftCap { x, .. } => value(x),
            Op::MoeRoute { logits, top_k, .. } => {
                if top_k == 0 || top_k > value(logits).cols {
                    return Err(format!(
                        "cannot choose {top_k} of {} experts",
                        value(logits).cols
                    ));
                }
                Value {
                    rows: value(logits).rows,
                    cols: top_k.saturating_mul(2),
                }
            }
            Op::MoeFfn {
                x,
                route,
                gate,
                up,
                down,
                ..
            } => {
                let [g, u, d] = [gate, up, down].map(|t| self.tensor(t));
                want("input columns", value(x).cols, g.cols)?;
                want("up columns", u.cols, g.cols)?;
                want("up rows", u.rows, g.rows)?;
                want("down columns", d.cols, g.rows)?;
                want("up experts", u.experts, g.experts)?;
                want("down experts", d.experts, g.experts)?;
                let routed = self.nodes.iter().find_map(|n| match n.op {
                    Op::MoeRoute { logits, .. } if n.out == Some(route) => Some(value(logits).cols),
                    _ => None,
                });
                match routed {
                    Some(experts) => want("number of routed experts", experts, g.experts)?,
                    None => return Err(format!("%{} is no route", route.0)),
                }
                if value(x).rows != value(route).rows {
                    return Err(format!("%{} routes other rows than %{}", route.0, x.0));
                }
                Value {
                    rows: value(x).rows,
                    cols: d.rows,
                }
            }
            Op::GatherRows { x } => Value {
                rows: Rows::Outputs,
                cols: tokens(x)?.cols,
            },
            Op::Pool { x, .. } => Value {
                rows: Rows::Seqs,
                cols: tokens(x)?.cols,
            },
        };
        if shape.cols == 0 {
            return Err("has no columns".to_owned());
        }
        Ok(Some(shape))
    }
}

fn want(what: &str, got: usize, expected: usize) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what} is {got}, should be {expected}"))
    }
}
