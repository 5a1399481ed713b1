//! Importance matrices: how much each column of each weight matters.

use std::collections::HashMap;
use std::path::Path;

use zse_format::{Checkpoint, Checksummer, TensorView};
use zse_quant::GgmlType;

use super::QuantizeError;

/// For each weight, the mean square of the activations that meet each of its columns, as
/// `llama-imatrix` gathers it over a text.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    /// By tensor: `[experts, cols]`.
    columns: HashMap<String, Vec<f32>>,
}

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Importance {
    /// By tensor: `[experts, cols]`.
    pub(super) fn new(columns: HashMap<String, Vec<f32>>) -> Self {
        Self { columns }
    }

    /// Reads an importance matrix in GGUF, as llama.cpp has written them since 2025: `<name>.in_sum2`
    /// is `[cols, experts]` sums of squares, `<name>.counts` how many rows went into each expert's.
    ///
    /// # Errors
    /// If the file cannot be read, is no importance matrix, or one of its tensors is malformed.
    pub fn open(path: &Path) -> Result<Self, QuantizeError> {
        let file = Checkpoint::open(path)?;
        if file.metadata().str("general.type")? != Some("imatrix") {
            return Err(QuantizeError::NotImportance {
                file: path.display().to_string(),
            });
        }
        let malformed = |tensor: &TensorView<'_>, why: String| QuantizeError::ImportanceTensor {
            tensor: tensor.name.to_owned(),
            file: path.display().to_string(),
            why,
        };
        let floats = |tensor: &TensorView<'_>| floats(tensor).map_err(|why| malformed(tensor, why));
        let mut columns = HashMap::new();
        for sums in file.tensors() {
            let Some(name) = sums.name.strip_suffix(SUMS) else {
                continue;
            };
            let counts = file
                .tensor(&format!("{name}{COUNTS}"))
                .ok_or_else(|| malformed(&sums, format!("there is no '{name}{COUNTS}'")))?;
            let cols = sums.shape[0] as usize;
            let means = means(cols, floats(&sums)?, &floats(&counts)?)
                .map_err(|why| malformed(&sums, why))?;
            columns.insert(name.to_owned(), means);
        }
        Ok(Self::new(columns))
    }

    /// Number of tensors that it speaks of.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether it speaks of none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Feeds all of it to `all`, in an order that does not change.
    pub(crate) fn digest(&self, all: &mut Checksummer) {
        let mut tensors: Vec<_> = self.columns.iter().collect();
        tensors.sort_unstable_by_key(|(name, _)| *name);
        for (name, columns) in tensors {
            all.write(name.as_bytes());
            all.write(&(columns.len() as u64).to_le_bytes());
            columns.iter().for_each(|v| all.write(&v.to_le_bytes()));
        }
    }

    /// The weights of `tensor`'s columns, `[experts, cols]`, where they are known.
    pub(crate) fn of(&self, tensor: &TensorView<'_>) -> Result<Option<&[f32]>, QuantizeError> {
        let Some(found) = self.columns.get(tensor.name) else {
            return Ok(None);
        };
        // One row for each matrix, as `encode::tensor` takes them; a count that does not fit equals
        // no length.
        let matrices = tensor.shape.iter().skip(2);
        let expected = matrices
            .fold(tensor.shape[0], |n, &dim| n.saturating_mul(dim))
            .try_into()
            .unwrap_or(usize::MAX);
        if found.len() != expected {
            return Err(QuantizeError::ImportanceShape {
                tensor: tensor.name.to_owned(),
                found: found.len(),
                expected,
            });
        }
        Ok(Some(found))
    }
}

/// `sums / counts` for each expert, of `cols` columns; all 1 for an expert that saw nothing. The
/// error says what is wrong with the sums.
pub(super) fn means(cols: usize, mut sums: Vec<f32>, counts: &[f32]) -> Result<Vec<f32>, String> {
    let (found, experts) = (sums.len() / cols, counts.len());
    if found != experts {
        return Err(format!(
            "it has sums of {found} experts and counts of {experts}"
        ));
    }
    for (row, &count) in sums.chunks_exact_mut(cols).zip(counts) {
        match count > 0.0 {
            true => row.iter_mut().for_each(|v| *v /= count),
            false => row.fill(1.0),
        }
    }
    Ok(sums)
}

/// The values of a tensor, or what is wrong with it.
fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if tensor.ty != GgmlType::F32 {
        return Err(format!("its type is {}, not f32", tensor.ty));
    }
    let bytes = tensor.data.bytes();
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect())
}
