//! A program as text, for `zse info --graph`: one line an operation.

use std::fmt;

use super::{Node, Op, Program, Rows};

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "n_tokens",
            Self::Outputs => "n_outputs",
            Self::Seqs => "n_seqs",
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} {{", self.name)?;
        let mut layer = None;
        for node in &self.nodes {
            if node.layer != layer {
                layer = node.layer;
                match layer {
                    Some(l) => writeln!(f, "  # layer {l}")?,
                    None => writeln!(f, "  # output")?,
                }
            }
            self.write_node(f, node)?;
        }
        writeln!(f, "  return %{}\n}}", self.output.value().0)
    }
}

impl Program {
    fn write_node(&self, f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
        f.write_str("  ")?;
        if let Some(out) = node.out {
            let v = self.value(out);
            write!(f, "%{} [{}, {}] = ", out.0, v.rows, v.cols)?;
        }
        f.write_str(node.op.name())?;
        for v in node.op.inputs() {
            write!(f, " %{}", v.0)?;
        }
        for t in node.op.tensors() {
            let t = self.tensor(t);
            write!(f, " {}", t.name)?;
            if t.first_row > 0 {
                write!(f, "[{}..{}]", t.first_row, t.first_row + t.rows)?;
            }
        }
        if let Some(s) = node.op.state() {
            write!(f, " @{}", self.states[s.index()].name)?;
        }
        match &node.op {
            Op::Attention {
                heads,
                scale,
                mask,
                softcap,
                ..
            } => {
                write!(f, " heads={heads} scale={scale} mask={mask:?}")?;
                if let Some(cap) = softcap {
                    write!(f, " softcap={cap}")?;
                }
            }
            Op::RmsNorm { eps, group, .. } => write!(f, " eps={eps:e} group={group}")?,
            Op::LayerNorm { eps, .. } => write!(f, " eps={eps:e}")?,
            Op::Rope { head_dim, rope, .. } => {
                let r = &self.ropes[rope.index()];
                write!(
                    f,
                    " head_dim={head_dim} dims={} base={} {:?}",
                    r.dims, r.base, r.style
                )?;
            }
            Op::Glu { act, .. } | Op::Activation { act, .. } | Op::MoeFfn { act, .. } => {
                write!(f, " {act:?}")?;
            }
            Op::Scale { by, .. } => write!(f, " by={by}")?,
            Op::SoftCap { cap, .. } => write!(f, " cap={cap}")?,
            Op::MoeRoute {
                top_k, normalize, ..
            } => {
                write!(f, " top_k={top_k} normalize={normalize}")?;
            }
            Op::Embed { index, .. } => write!(f, " by {index:?}")?,
            Op::Pool { kind, .. } => write!(f, " {kind:?}")?,
            Op::Hidden { .. }
            | Op::Linear { .. }
            | Op::KvWrite { .. }
            | Op::Add { .. }
            | Op::GatherRows { .. } => {}
        }
        writeln!(f)
    }
}
