//! Cuts a program in two at a layer, for two executors that run one after the other.

use crate::program::{
    Node, Op, Program, ProgramOutput, RopeId, Rows, StateId, TensorId, Value, ValueId,
};

/// `program` before `layer`, which gives the rows that the residual stream has there, and from `layer` on,
/// which takes them. Each names the tensors, states and rotary embeddings that it needs, in their order.
///
/// `None` if there is nothing before or from `layer` on, if more than one value of the tokens crosses, or if
/// the program does not give next-token logits.
pub fn split(program: &Program, layer: usize) -> Option<[Program; 2]> {
    let ProgramOutput::Logits(logits) = program.output else {
        return None;
    };
    let starts = |node: &Node| node.layer.is_some_and(|l| l as usize >= layer);
    let at = program.nodes.iter().position(starts)?;
    let (front, back) = program.nodes.split_at(at);
    let crosses = |v: ValueId| front.iter().any(|node| node.out == Some(v));
    let mut crossing: Vec<ValueId> = back
        .iter()
        .flat_map(|node| node.op.inputs())
        .filter(|v| crosses(*v))
        .collect();
    crossing.sort_unstable();
    crossing.dedup();
    let &[seam] = &crossing[..] else { return None };
    let Value { rows, cols } = program.value(seam);
    if rows != Rows::Tokens || front.iter().all(|node| node.layer.is_none()) {
        return None;
    }
    let hidden = Node {
        op: Op::Hidden { cols },
        out: Some(seam),
        layer: back[0].layer,
    };
    let back: Vec<Node> = std::iter::once(hidden)
        .chain(back.iter().cloned())
        .collect();
    Some([
        part(program, front.to_vec(), ProgramOutput::Hidden(seam)),
        part(program, back, ProgramOutput::Logits(logits)),
    ])
}

/// `nodes` as a program of their own, with what they name and nothing else.
fn part(whole: &Program, mut nodes: Vec<Node>, output: ProgramOutput) -> Program {
    let values = Kept::of(nodes.iter().filter_map(|n| n.out.map(|v| v.0)));
    let states = Kept::of(nodes.iter().filter_map(|n| n.op.state().map(|s| s.0)));
    let ropes = Kept::of(nodes.iter().filter_map(|n| n.op.rope().map(|r| r.0)));
    let factors = ropes
        .0
        .iter()
        .filter_map(|&r| whole.ropes[r as usize].factors);
    let named = nodes.iter().flat_map(|n| n.op.tensors()).chain(factors);
    let tensors = Kept::of(named.map(|t| t.0));
    for node in &mut nodes {
        let op = &mut node.op;
        op.inputs_mut()
            .into_iter()
            .for_each(|v| v.0 = values.place(v.0));
        op.tensors_mut()
            .into_iter()
            .for_each(|t| t.0 = tensors.place(t.0));
        op.rope_mut()
            .into_iter()
            .for_each(|r| r.0 = ropes.place(r.0));
        op.state_mut()
            .into_iter()
            .for_each(|s| s.0 = states.place(s.0));
        node.out.iter_mut().for_each(|v| v.0 = values.place(v.0));
    }
    let out = ValueId(values.place(output.value().0));
    Program {
        name: whole.name.clone(),
        values: values.all(|v| whole.value(ValueId(v))),
        tensors: tensors.all(|t| whole.tensor(TensorId(t)).clone()),
        ropes: ropes.all(|r| {
            let mut rope = whole.ropes[RopeId(r).index()].clone();
            rope.factors
                .iter_mut()
                .for_each(|t| t.0 = tensors.place(t.0));
            rope
        }),
        states: states.all(|s| whole.states[StateId(s).index()].clone()),
        nodes,
        output: match output {
            ProgramOutput::Logits(_) => ProgramOutput::Logits(out),
            ProgramOutput::Pooled(_) => ProgramOutput::Pooled(out),
            ProgramOutput::Hidden(_) => ProgramOutput::Hidden(out),
        },
    }
}

/// The numbers that are kept of a table, rising: their places are the new numbers.
struct Kept(Vec<u32>);

impl Kept {
    fn of(numbers: impl Iterator<Item = u32>) -> Self {
        let mut kept: Vec<u32> = numbers.collect();
        kept.sort_unstable();
        kept.dedup();
        Self(kept)
    }

    fn place(&self, old: u32) -> u32 {
        self.0.binary_search(&old).expect("kept by what names it") as u32
    }

    fn all<T>(&self, of: impl Fn(u32) -> T) -> Vec<T> {
        self.0.iter().map(|&old| of(old)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{DecoderSpec, decoder};

    #[test]
    fn both_parts_keep_the_rules_and_share_nothing_but_the_seam() {
        let spec = DecoderSpec {
            layers: 3,
            ..DecoderSpec::small(zse_quant::GgmlType::F32)
        };
        let whole = &decoder(&spec, 1).unwrap().program;
        for layer in 1..3 {
            let [front, back] = split(whole, layer).unwrap();
            front.check().unwrap();
            back.check().unwrap();
            // The operation that takes the rows is new, and so is their value there.
            assert_eq!(front.nodes.len() + back.nodes.len(), whole.nodes.len() + 1);
            assert_eq!(
                front.values.len() + back.values.len(),
                whole.values.len() + 1
            );
            assert_eq!(front.states.len(), layer);
            assert_eq!(back.states.len(), 3 - layer);
            assert_eq!(back.states[..], whole.states[layer..]);
            let tensors = front.tensors.iter().chain(&back.tensors);
            assert_eq!(tensors.count(), whole.tensors.len());
        }
    }

    #[test]
    fn no_part_is_without_a_layer() {
        let model = decoder(&DecoderSpec::small(zse_quant::GgmlType::F32), 1).unwrap();
        for layer in [0, 2, 9] {
            assert!(split(&model.program, layer).is_none(), "{layer}");
        }
    }
}
