//! Which results can share memory: values whose lifetimes do not overlap get one buffer.

use crate::program::{Program, Rows, ValueId};

use super::schedule::Step;

/// A buffer of `cols` f32 for each row of the batch's `rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// What its rows stand for.
    pub rows: Rows,
    /// Widest value that it ever holds.
    pub cols: usize,
}

/// A buffer for every value of a program that is stored, for one order of execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// For each value, its buffer; `None` for values that no step stores ([`Step::stores`]).
    pub of_value: Vec<Option<usize>>,
}

impl BufferPlan {
    /// Plans `steps` of `program`. Results of a step never share a buffer with its inputs or with
    /// one another; the program's output keeps its buffer to the end.
    pub fn new(program: &Program, steps: &[Step]) -> Self {
        let mut last_use = vec![0; program.values.len()];
        for (at, step) in steps.iter().enumerate() {
            for v in step_values(program, step) {
                last_use[v.index()] = at;
            }
        }
        last_use[program.output.value().index()] = usize::MAX;

        let mut plan = Self {
            buffers: Vec::new(),
            of_value: vec![None; program.values.len()],
        };
        let mut free: Vec<usize> = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            for v in step.stores(program) {
                plan.of_value[v.index()] = Some(plan.take(&mut free, program, v));
            }
            let mut ended: Vec<usize> = step_values(program, step)
                .filter(|v| last_use[v.index()] == at)
                .filter_map(|v| plan.of_value[v.index()])
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended);
        }
        plan
    }

    /// The buffer of `v`.
    ///
    /// # Panics
    /// If no step stores it.
    pub fn buffer(&self, v: ValueId) -> usize {
        self.of_value[v.index()].expect("stored by a step")
    }

    /// The free buffer that fits best, widened if none is wide enough, or a new one.
    fn take(&mut self, free: &mut Vec<usize>, program: &Program, v: ValueId) -> usize {
        let value = program.value(v);
        let fit = (0..free.len())
            .filter(|&i| self.buffers[free[i]].rows == value.rows)
            .min_by_key(|&i| self.buffers[free[i]].cols.abs_diff(value.cols));
        match fit {
            Some(i) => {
                let buffer = free.swap_remove(i);
                self.buffers[buffer].cols = self.buffers[buffer].cols.max(value.cols);
                buffer
            }
            None => {
                self.buffers.push(Buffer {
                    rows: value.rows,
                    cols: value.cols,
                });
                self.buffers.len() - 1
            }
        }
    }
}

/// The values that a step reads or defines; some more than once.
fn step_values<'a>(program: &'a Program, step: &'a Step) -> impl Iterator<Item = ValueId> + 'a {
    step.nodes().iter().flat_map(|n| {
        let node = &program.nodes[n.index()];
        node.op.inputs().into_iter().chain(node.out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{DecoderSpec, decoder};
    use crate::passes::{GroupKind, schedule};

    #[test]
    fn values_that_live_together_have_buffers_of_their_own() {
        let model = decoder(&DecoderSpec::small(zse_quant::GgmlType::F32), 1).unwrap();
        let program = &model.program;
        let mut widths = Vec::new();
        for claim in [&GroupKind::ALL[..], &[]] {
            let steps = schedule(program, claim);
            let plan = BufferPlan::new(program, &steps);
            // Who owns each buffer, replayed: a value must still own its buffer at every use, and
            // one without a buffer is used only where it is made.
            let mut owner = vec![None; plan.buffers.len()];
            let mut hidden = 0;
            for step in &steps {
                let mut within = Vec::new();
                for node in step.nodes() {
                    let node = &program.nodes[node.index()];
                    for v in node.op.inputs() {
                        match plan.of_value[v.index()] {
                            Some(buffer) => assert_eq!(owner[buffer], Some(v), "{node:?}"),
                            None => assert!(within.contains(&v), "{node:?}"),
                        }
                    }
                    let Some(v) = node.out else { continue };
                    let Some(buffer) = plan.of_value[v.index()] else {
                        within.push(v);
                        continue;
                    };
                    owner[buffer] = Some(v);
                    let buffer = plan.buffers[buffer];
                    assert!(buffer.cols >= program.value(v).cols);
                    assert_eq!(buffer.rows, program.value(v).rows);
                }
                hidden += within.len();
            }
            // Of both layers: the rotated key, gate and up, and what is added to the residual.
            assert_eq!(hidden, if claim.is_empty() { 0 } else { 10 });
            widths.push(plan.buffers.iter().map(|b| b.cols).sum::<usize>());
            let out = program.output.value();
            assert_eq!(owner[plan.buffer(out)], Some(out));
        }
        assert!(widths[0] < widths[1], "fused {} {}", widths[0], widths[1]);
    }

    #[test]
    fn memory_does_not_grow_with_the_layers() {
        let plan = |layers| {
            let spec = DecoderSpec {
                layers,
                ..DecoderSpec::small(zse_quant::GgmlType::F32)
            };
            let model = decoder(&spec, 1).unwrap();
            let steps = schedule(&model.program, &[]);
            BufferPlan::new(&model.program, &steps).buffers.len()
        };
        assert_eq!(plan(2), plan(6));
    }
}
