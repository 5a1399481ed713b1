//! How strongly the columns of weights are met: the sums that importance matrices are made of.

use crate::program::{Op, Program, TensorId, ValueId};

/// For each weight that activations are multiplied with, the sums of the squares of what meets each of
/// its columns. In f64: a text has many rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Squares {
    /// By tensor of the program; `None` for those that are no matrices of a product.
    weights: Vec<Option<WeightSquares>>,
}

/// The sums of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSquares {
    /// Columns of each matrix.
    pub cols: usize,
    /// `[experts, cols]`: sums of squares.
    pub sums: Vec<f64>,
    /// By expert: how many rows met it.
    pub rows: Vec<u64>,
}

impl Squares {
    /// Nothing seen yet.
    pub fn new(program: &Program) -> Self {
        let mut weights = vec![None; program.tensors.len()];
        for node in &program.nodes {
            let matrices = match node.op {
                Op::Linear { weight, .. } => vec![weight],
                Op::MoeFfn { gate, up, down, .. } => vec![gate, up, down],
                _ => Vec::new(),
            };
            for id in matrices {
                let tensor = program.tensor(id);
                weights[id.index()] = Some(WeightSquares {
                    cols: tensor.cols,
                    sums: vec![0.0; tensor.experts * tensor.cols],
                    rows: vec![0; tensor.experts],
                });
            }
        }
        Self { weights }
    }

    /// The weights that were looked at, with their sums.
    pub fn weights(&self) -> impl Iterator<Item = (TensorId, &WeightSquares)> {
        let weights = self.weights.iter().enumerate();
        weights.filter_map(|(i, sums)| Some((TensorId(i as u32), sums.as_ref()?)))
    }

    /// Adds what the weights of `op` met in a pass: `value` gives the rows of a value, `hidden` what a
    /// mixture's last matrices met, `[rows, top_k, ff]` in the order of the route. Operations without
    /// products add nothing.
    pub fn observe<'v>(
        &mut self,
        program: &Program,
        op: &Op,
        value: impl Fn(ValueId) -> &'v [f32],
        hidden: &[f32],
    ) {
        match *op {
            Op::Linear { x, weight, .. } => {
                for row in value(x).chunks_exact(program.value(x).cols) {
                    self.add(weight, 0, row);
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
                let top_k = program.value(route).cols / 2;
                let mut hidden = hidden.chunks_exact(program.tensor(down).cols);
                let rows = value(x).chunks_exact(program.value(x).cols);
                for (row, route) in rows.zip(value(route).chunks_exact(2 * top_k)) {
                    for (&expert, hidden) in route[..top_k].iter().zip(&mut hidden) {
                        self.add(gate, expert as usize, row);
                        self.add(up, expert as usize, row);
                        self.add(down, expert as usize, hidden);
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, weight: TensorId, expert: usize, row: &[f32]) {
        let Some(squares) = &mut self.weights[weight.index()] else {
            return;
        };
        squares.rows[expert] += 1;
        let sums = &mut squares.sums[expert * squares.cols..][..squares.cols];
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
}
