//! Fusion as grouping: marks operations that an executor may run as one kernel.
//!
//! A group is made of ordinary nodes; run one by one they give the result by definition, so an
//! executor claims the kinds that it has kernels for and runs the rest as they are.

use crate::program::{NodeId, Op, Program, ValueId};

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Linears over one input, such as the query, key and value projections. Nodes: the
    /// linears; before them the norm that makes the input, if nothing else reads it.
    Linears,
    /// Gate and up projections of one input and their product. Nodes: gate, up, `Glu`; before
    /// them the norm that makes the input, if nothing else reads it.
    GatedUp,
    /// Keys rotated on their way into the cache. Nodes: `Rope`, `KvWrite`.
    RopeKvWrite,
    /// A linear and the sum with something else (the residual) that alone reads it. Nodes: the
    /// linear, `Add`.
    LinearAdd,
}

impl GroupKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::Linears,
        Self::GatedUp,
        Self::RopeKvWrite,
        Self::LinearAdd,
    ];

    /// Whether the result of `op` stays within a group of this kind: the kernel of the group never
    /// stores it, and nothing outside reads it.
    pub fn hides(self, op: &Op) -> bool {
        match self {
            Self::GatedUp | Self::LinearAdd => matches!(op, Op::Linear { .. }),
            Self::RopeKvWrite => matches!(op, Op::Rope { .. }),
            Self::Linears => false,
        }
    }
}

/// A part of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One operation.
    One(NodeId),
    /// Operations that run as one.
    Group(GroupKind, Vec<NodeId>),
}

impl Step {
    /// Its operations in the order of the program.
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Self::One(node) => std::slice::from_ref(node),
            Self::Group(_, nodes) => nodes,
        }
    }

    /// The values that it stores: what its operations define, less what its kind hides.
    pub fn stores<'a>(&'a self, program: &'a Program) -> impl Iterator<Item = ValueId> + 'a {
        let nodes = self.nodes().iter().map(|n| &program.nodes[n.index()]);
        let hides = move |op: &Op| match self {
            Self::One(_) => false,
            Self::Group(kind, _) => kind.hides(op),
        };
        nodes.filter(move |n| !hides(&n.op)).filter_map(|n| n.out)
    }
}

/// The program's operations in an order of execution, grouped into the kinds in `claim` where
/// possible. With an empty `claim`, each operation by itself.
pub fn schedule(program: &Program, claim: &[GroupKind]) -> Vec<Step> {
    let uses = Uses::of(program);
    let mut taken = vec![false; program.nodes.len()];
    // Kinds in the order in which they pay: two linears go to their product before they go to each
    // other.
    let finders: [(GroupKind, Finder); 4] = [
        (GroupKind::GatedUp, gated_up),
        (GroupKind::Linears, linears),
        (GroupKind::RopeKvWrite, rope_kv_write),
        (GroupKind::LinearAdd, linear_add),
    ];
    let mut groups: Vec<(GroupKind, Vec<NodeId>)> = Vec::new();
    for (kind, find) in finders.into_iter().filter(|(kind, _)| claim.contains(kind)) {
        for i in 0..program.nodes.len() {
            let Some(nodes) = find(program, &uses, NodeId(i as u32)) else {
                continue;
            };
            if nodes.iter().any(|n| taken[n.index()]) {
                continue;
            }
            nodes.iter().for_each(|n| taken[n.index()] = true);
            groups.push((kind, nodes));
        }
    }
    place(program, groups)
}

type Finder = fn(&Program, &Uses, NodeId) -> Option<Vec<NodeId>>;

/// Puts each group where all its inputs exist and nobody has yet asked for its results: at its
/// first node, except that a write into the cache and a sum stay where they are.
fn place(program: &Program, groups: Vec<(GroupKind, Vec<NodeId>)>) -> Vec<Step> {
    let mut at = vec![None; program.nodes.len()];
    let mut grouped = vec![false; program.nodes.len()];
    for (kind, nodes) in groups {
        nodes.iter().for_each(|n| grouped[n.index()] = true);
        let anchor = match kind {
            GroupKind::RopeKvWrite | GroupKind::LinearAdd => nodes[nodes.len() - 1],
            GroupKind::Linears | GroupKind::GatedUp => nodes[0],
        };
        at[anchor.index()] = Some(Step::Group(kind, nodes));
    }
    let mut steps = Vec::with_capacity(program.nodes.len());
    for (i, group) in at.into_iter().enumerate() {
        match group {
            Some(step) => steps.push(step),
            None if grouped[i] => {}
            None => steps.push(Step::One(NodeId(i as u32))),
        }
    }
    steps
}

/// Who makes and who reads each value.
struct Uses {
    readers: Vec<Vec<NodeId>>,
}

impl Uses {
    fn of(program: &Program) -> Self {
        let mut readers = vec![Vec::new(); program.values.len()];
        for (i, node) in program.nodes.iter().enumerate() {
            for v in node.op.inputs() {
                readers[v.index()].push(NodeId(i as u32));
            }
        }
        Self { readers }
    }

    fn of_value(&self, v: ValueId) -> &[NodeId] {
        &self.readers[v.index()]
    }
}

/// `[norm] + linears` without a norm that others read too.
fn with_norm(program: &Program, uses: &Uses, x: ValueId, rest: Vec<NodeId>) -> Vec<NodeId> {
    let norm = program.nodes.iter().position(|n| n.out == Some(x));
    match norm {
        Some(i)
            if matches!(program.nodes[i].op, Op::RmsNorm { group, .. } if group == program.value(x).cols)
                && uses.of_value(x).iter().all(|r| rest.contains(r)) =>
        {
            std::iter::once(NodeId(i as u32)).chain(rest).collect()
        }
        _ => rest,
    }
}

/// The input of a linear.
fn linear_input(program: &Program, node: NodeId) -> Option<ValueId> {
    match program.nodes[node.index()].op {
        Op::Linear { x, .. } => Some(x),
        _ => None,
    }
}

fn gated_up(program: &Program, uses: &Uses, first: NodeId) -> Option<Vec<NodeId>> {
    let x = linear_input(program, first)?;
    let out = program.nodes[first.index()].out?;
    let &[glu] = uses.of_value(out) else {
        return None;
    };
    let Op::Glu { gate, up, .. } = program.nodes[glu.index()].op else {
        return None;
    };
    let maker = |v: ValueId| {
        let i = program.nodes.iter().position(|n| n.out == Some(v))?;
        let node = NodeId(i as u32);
        let hidden = uses.of_value(v) == [glu] && program.output.value() != v;
        (linear_input(program, node) == Some(x) && hidden).then_some(node)
    };
    let (gate, up) = (maker(gate)?, maker(up)?);
    (first == gate.min(up) && gate != up).then(|| with_norm(program, uses, x, vec![gate, up, glu]))
}

fn linears(program: &Program, uses: &Uses, first: NodeId) -> Option<Vec<NodeId>> {
    let x = linear_input(program, first)?;
    let same: Vec<NodeId> = uses
        .of_value(x)
        .iter()
        .copied()
        .filter(|&n| linear_input(program, n) == Some(x))
        .collect();
    if same[0] != first {
        return None;
    }
    let group = with_norm(program, uses, x, same);
    (group.len() > 1).then_some(group)
}

fn rope_kv_write(program: &Program, uses: &Uses, rope: NodeId) -> Option<Vec<NodeId>> {
    let node = &program.nodes[rope.index()];
    let (Op::Rope { .. }, Some(out)) = (&node.op, node.out) else {
        return None;
    };
    let &[write] = uses.of_value(out) else {
        return None;
    };
    match program.nodes[write.index()].op {
        Op::KvWrite { k, v, .. } if k == out && v != out => Some(vec![rope, write]),
        _ => None,
    }
}

fn linear_add(program: &Program, uses: &Uses, linear: NodeId) -> Option<Vec<NodeId>> {
    linear_input(program, linear)?;
    let out = program.nodes[linear.index()].out?;
    let &[add] = uses.of_value(out) else {
        return None;
    };
    let hidden = program.output.value() != out;
    match program.nodes[add.index()].op {
        Op::Add { a, b } if a != b && hidden => Some(vec![linear, add]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{DecoderSpec, decoder};

    fn program() -> Program {
        decoder(&DecoderSpec::small(zse_quant::GgmlType::F32), 1)
            .unwrap()
            .program
            .clone()
    }

    fn names(program: &Program, step: &Step) -> Vec<&'static str> {
        step.nodes()
            .iter()
            .map(|n| program.nodes[n.index()].op.name())
            .collect()
    }

    #[test]
    fn a_decoder_layer_fuses_into_its_groups() {
        let program = program();
        let steps = schedule(&program, &GroupKind::ALL);
        let layer: Vec<_> = steps
            .iter()
            .filter(|s| program.nodes[s.nodes()[0].index()].layer == Some(0))
            .map(|s| names(&program, s))
            .collect();
        assert!(
            layer.contains(&vec!["rms_norm", "linear", "linear", "linear"]),
            "{layer:?}"
        );
        assert!(
            layer.contains(&vec!["rms_norm", "linear", "linear", "glu"]),
            "{layer:?}"
        );
        assert!(layer.contains(&vec!["rope", "kv_write"]), "{layer:?}");
        let sums = layer.iter().filter(|l| **l == ["linear", "add"]);
        assert_eq!(sums.count(), 2, "{layer:?}");
    }

    #[test]
    fn nothing_claimed_keeps_the_order_of_the_program() {
        let program = program();
        let steps = schedule(&program, &[]);
        let order: Vec<_> = steps.iter().map(|s| s.nodes()[0].index()).collect();
        assert_eq!(order, (0..program.nodes.len()).collect::<Vec<_>>());
    }

    #[test]
    fn every_node_runs_once_and_after_its_inputs() {
        let program = program();
        for claim in [
            &GroupKind::ALL[..],
            &[GroupKind::GatedUp],
            &[GroupKind::RopeKvWrite],
            &[GroupKind::LinearAdd],
        ] {
            let steps = schedule(&program, claim);
            let order: Vec<_> = steps
                .iter()
                .flat_map(|s| s.nodes().iter().copied())
                .collect();
            let mut defined = vec![false; program.values.len()];
            for node in &order {
                let node = &program.nodes[node.index()];
                assert!(
                    node.op.inputs().iter().all(|v| defined[v.index()]),
                    "{node:?}"
                );
                node.out.into_iter().for_each(|v| defined[v.index()] = true);
            }
            let mut once = order.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), program.nodes.len());
            assert_eq!(order.len(), program.nodes.len());
        }
    }

    #[test]
    fn a_key_is_written_before_it_is_attended_to() {
        let program = program();
        let steps = schedule(&program, &GroupKind::ALL);
        let position = |name: &str| {
            steps
                .iter()
                .position(|s| names(&program, s).contains(&name))
                .unwrap()
        };
        assert!(position("kv_write") < position("attention"));
    }
}
