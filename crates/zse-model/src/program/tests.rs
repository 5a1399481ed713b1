//! Programs that break a rule, each of which `check` names.

use super::{Mask, Op, Program, ProgramOutput, Rope, RopeId, StateId, TensorId, ValueId};
use crate::conformance::{DecoderSpec, decoder, op_cases};
use zse_quant::GgmlType;

/// A change that breaks a program.
type Break = fn(&mut Program);

/// The first operation called `name`.
fn op<'p>(program: &'p mut Program, name: &str) -> &'p mut Op {
    let mut ops = program.nodes.iter_mut().map(|n| &mut n.op);
    ops.find(|op| op.name() == name).unwrap()
}

/// The weight of the first linear.
fn weight(program: &mut Program) -> TensorId {
    op(program, "linear").tensors()[0]
}

/// A rope that no node names.
fn unused_rope(program: &mut Program) -> &mut Rope {
    let rope = program.ropes[0].clone();
    program.ropes.push(rope);
    program.ropes.last_mut().unwrap()
}

fn each_is_refused(program: &Program, breaks: &[(&str, Break)]) {
    program.check().unwrap();
    for (message, change) in breaks {
        let mut broken = program.clone();
        change(&mut broken);
        let error = broken.check().expect_err(message).to_string();
        assert!(error.contains(message), "{error} for {message}");
    }
}

#[test]
fn indices_beyond_their_tables_are_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    each_is_refused(
        &model.program,
        &[
            ("(rms_norm): %999 of", |p| {
                if let Op::RmsNorm { x, .. } = op(p, "rms_norm") {
                    *x = ValueId(999);
                }
            }),
            ("(embed): %998 of", |p| p.nodes[0].out = Some(ValueId(998))),
            ("(output): %997 of", |p| {
                p.output = ProgramOutput::Logits(ValueId(997));
            }),
            ("(linear): tensor 996 of", |p| {
                if let Op::Linear { weight, .. } = op(p, "linear") {
                    *weight = TensorId(996);
                }
            }),
            ("(linear): tensor 995 of", |p| {
                if let Op::Linear { bias, .. } = op(p, "linear") {
                    *bias = Some(TensorId(995));
                }
            }),
            ("(attention): state 9 of 2", |p| {
                if let Op::Attention { state, .. } = op(p, "attention") {
                    *state = StateId(9);
                }
            }),
            ("(rope): rope 7 of 1", |p| {
                if let Op::Rope { rope, .. } = op(p, "rope") {
                    *rope = RopeId(7);
                }
            }),
            ("(rope): tensor 994 of", |p| {
                p.ropes[0].factors = Some(TensorId(994));
            }),
            ("(rope): tensor 993 of", |p| {
                unused_rope(p).factors = Some(TensorId(993));
            }),
        ],
    );
}

#[test]
fn shapes_that_no_executor_could_run_are_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    each_is_refused(
        &model.program,
        &[
            ("matrices stacked is 2", |p| {
                let id = weight(p);
                p.tensors[id.index()].experts = 2;
            }),
            ("(rms_norm): matrices stacked is 3", |p| {
                let id = op(p, "rms_norm").tensors()[0];
                p.tensors[id.index()].experts = 3;
            }),
            ("number of factors is 256, should be 32", |p| {
                p.ropes[0].factors = Some(op(p, "rms_norm").tensors()[0]);
            }),
            ("(rope): number of factors is 256, should be 16", |p| {
                let factors = op(p, "rms_norm").tensors()[0];
                let rope = unused_rope(p);
                (rope.dims, rope.factors) = (32, Some(factors));
            }),
            ("cannot rotate 0", |p| p.ropes[0].dims = 0),
            ("query columns is 256, should be 0", |p| {
                if let Op::Attention { heads, .. } = op(p, "attention") {
                    *heads = 0;
                }
            }),
            ("'blk.0.attn_q.weight' is empty", |p| {
                let id = weight(p);
                p.tensors[id.index()].rows = 0;
            }),
            ("a window of no positions", |p| {
                if let Op::Attention { mask, .. } = op(p, "attention") {
                    *mask = Mask::Window(0);
                }
            }),
        ],
    );
}

#[test]
fn experts_are_routed_by_a_route_over_as_many() {
    let mut cases = op_cases(1).unwrap().into_iter();
    let case = cases.find(|c| c.name.starts_with("moe"));
    each_is_refused(
        &case.unwrap().model.program,
        &[
            ("is no route", |p| {
                if let Op::MoeFfn { x, route, .. } = op(p, "moe_ffn") {
                    *route = *x;
                }
            }),
            ("number of routed experts is", |p| {
                for id in op(p, "moe_ffn").tensors() {
                    p.tensors[id.index()].experts -= 1;
                }
            }),
        ],
    );
}
