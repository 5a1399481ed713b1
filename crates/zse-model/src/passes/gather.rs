//! Computes what follows the last attention only for the rows that want an output.
//!
//! A decoder gathers those rows behind its last layer. What lies between the layer's attention and
//! there treats each row by itself, so gathering before it leaves the same numbers.

use crate::program::{Node, Op, Program, ProgramOutput, Rows, Value, ValueId};

/// `program`, which must keep the rules of [`Program::check`], with its rows gathered as early as
/// they can be.
pub fn gather_early(program: &Program) -> Program {
    let narrow = narrow_values(program);
    let mut new = Program {
        values: Vec::new(),
        nodes: Vec::new(),
        ..program.clone()
    };
    // By value of `program`: the value in `new`, and its gathered rows.
    let mut id = vec![ValueId(u32::MAX); program.values.len()];
    let mut gathered = vec![None; program.values.len()];
    for Node { op, out, layer } in &program.nodes {
        let narrowed = out.is_some_and(|v| narrow[v.index()]);
        let mut op = op.clone();
        for v in op.inputs_mut() {
            let (old, x) = (v.index(), id[v.index()]);
            *v = match gathered[old] {
                _ if !narrowed || narrow[old] => x,
                Some(rows) => rows,
                None => {
                    let value = Value {
                        rows: Rows::Outputs,
                        ..new.value(x)
                    };
                    let rows = push(&mut new, Op::GatherRows { x }, Some(value), *layer);
                    *gathered[old].insert(rows)
                }
            };
        }
        let value = out.map(|v| program.value(v)).map(|v| Value {
            rows: if narrowed { Rows::Outputs } else { v.rows },
            ..v
        });
        let made = match op {
            Op::GatherRows { x } if new.value(x).rows == Rows::Outputs => x,
            op => push(&mut new, op, value, *layer),
        };
        if let Some(out) = out {
            id[out.index()] = made;
        }
    }
    new.output = match program.output {
        ProgramOutput::Logits(v) => ProgramOutput::Logits(id[v.index()]),
        ProgramOutput::Pooled(v) => ProgramOutput::Pooled(id[v.index()]),
        ProgramOutput::Hidden(v) => ProgramOutput::Hidden(id[v.index()]),
    };
    new
}

fn push(program: &mut Program, op: Op, value: Option<Value>, layer: Option<u32>) -> ValueId {
    let id = ValueId(program.values.len() as u32);
    program.values.extend(value);
    let out = value.map(|_| id);
    program.nodes.push(Node { op, out, layer });
    id
}

/// Which values need only the rows that want an output: each row is made by itself, and whatever
/// reads them gathers, or makes such a value too.
fn narrow_values(program: &Program) -> Vec<bool> {
    let of_tokens = program.values.iter().map(|v| v.rows == Rows::Tokens);
    let mut narrow: Vec<bool> = of_tokens.collect();
    // From the last reader to the first.
    for Node { op, out, .. } in program.nodes.iter().rev() {
        let narrowed = match out {
            Some(v) => {
                narrow[v.index()] &= op.is_row_wise();
                narrow[v.index()]
            }
            None => false,
        };
        if !narrowed && !matches!(op, Op::GatherRows { .. }) {
            op.inputs().iter().for_each(|v| narrow[v.index()] = false);
        }
    }
    narrow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{DecoderSpec, batch, decoder, op_cases};
    use crate::executor::{Backend, Budget, Masks, Output};
    use crate::model::Model;
    use crate::reference::Reference;
    use std::sync::Arc;
    use zse_quant::GgmlType;

    fn small() -> Arc<Model> {
        decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap()
    }

    #[test]
    fn only_the_last_attention_sees_all_rows() {
        let program = &small().program;
        let last: Vec<_> = program
            .nodes
            .iter()
            .filter(|n| n.layer == Some(1))
            .filter_map(|n| Some((n.op.name(), program.value(n.out?).rows)))
            .collect();
        let attention = last.iter().position(|(name, _)| *name == "attention");
        let (before, after) = last.split_at(attention.unwrap() + 1);
        assert!(before.iter().all(|(_, rows)| *rows == Rows::Tokens));
        assert!(after.iter().all(|(_, rows)| *rows == Rows::Outputs));
        let gathers = after.iter().filter(|(name, _)| *name == "gather_rows");
        assert_eq!(gathers.count(), 2, "attention and residual: {after:?}");
        assert_eq!(gather_early(program), *program);
    }

    #[test]
    fn a_row_is_the_same_whichever_others_are_wanted() {
        let cases = op_cases(1).unwrap().into_iter();
        let mixtures = cases.filter(|c| c.name.starts_with("moe f32"));
        let models: Vec<_> = mixtures.map(|c| c.model).chain([small()]).collect();
        assert_eq!(models.len(), 2, "a mixture and a decoder");
        for model in models {
            let budget = Budget::for_context(64, 1, 16);
            let mut executor = Reference.compile(model.clone(), &budget).unwrap();
            let mut logits = |wanted: &[usize]| -> Vec<Output> {
                let mut batch = batch(&model, &budget, &[(&[1, 2, 3, 4], 0)]);
                batch.outputs.retain(|o| wanted.contains(&o.token));
                let ticket = executor.submit(&batch).unwrap();
                executor.sample(ticket, &Masks::default()).unwrap();
                executor.wait(ticket).unwrap().rows
            };
            let all = logits(&[0, 1, 2, 3]);
            assert_eq!(logits(&[1, 3]), [all[1].clone(), all[3].clone()]);
            assert_eq!(logits(&[]), []);
        }
    }
}
