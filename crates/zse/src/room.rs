//! What would fit a GPU that has no room for a model as it was asked for.

use zse_model::Model;
use zse_model::executor::{Backend, Budget, KvType, LoadError};

use crate::{Device, Error, LoadOptions};

/// Tokens by which contexts are told apart.
const STEP: usize = 256;

/// A model for a GPU, and what that has free.
pub(crate) struct Room<'a> {
    pub(crate) gpu: &'a dyn Backend,
    pub(crate) model: &'a Model,
    pub(crate) budget: &'a Budget,
    /// Sequences whose keys and values it keeps.
    pub(crate) sequences: usize,
    /// Layers that the GPU is to take.
    pub(crate) layers: usize,
    /// Bytes free.
    pub(crate) free: u64,
}

impl Room<'_> {
    /// Whether the GPU has room for the last `layers` layers with these keys and values.
    fn fits(&self, layers: usize, context: usize, kv_type: KvType) -> bool {
        let blocks = context.div_ceil(self.budget.block_len);
        let budget = Budget {
            kv_blocks: blocks.saturating_mul(self.sequences),
            kv_type,
            ..self.budget.clone()
        };
        let all = self.model.info.layers;
        let planned = match layers >= all {
            true => self.gpu.plan(self.model, &budget),
            false => match self.model.split(all - layers) {
                Some(Ok([_, last])) => self.gpu.plan(&last, &budget),
                Some(Err(_)) | None => return false,
            },
        };
        planned.is_ok_and(|plan| plan.total().saturating_sub(plan.mapped) <= self.free)
    }

    /// The longest context for which there is room, in steps of [`STEP`] tokens.
    fn context(&self, kv_type: KvType) -> Option<usize> {
        let fits = |steps| self.fits(self.layers, steps * STEP, kv_type);
        most(self.model.info.context / STEP, fits).map(|steps| steps * STEP)
    }

    /// What to ask for instead, each by itself; says so if nothing would do.
    pub(crate) fn advice(&self) -> String {
        let (asked, kv_type) = (self.model.info.context, self.budget.kv_type);
        let mut all = Vec::new();
        all.extend(self.context(kv_type).map(|n| format!("--ctx {n}")));
        let short = KvType::Q8_0;
        if kv_type.head_bytes(32) > short.head_bytes(32)
            && let Some(context) = self.context(short)
        {
            let whole = self.fits(self.layers, asked, short);
            all.push(match whole {
                true => format!("--kv-type {short}"),
                false => format!("--kv-type {short} --ctx {context}"),
            });
        }
        let layers = most(self.layers.saturating_sub(1), |n| {
            self.fits(n, asked, kv_type)
        });
        all.extend(layers.map(|n| format!("--gpu-layers {n} (the CPU takes the others)")));
        match all.len() {
            0 => "No context and no number of layers fits: free memory of the GPU, take a smaller model, or run on \
                  the CPU (--device cpu)"
                .to_owned(),
            _ => format!("What would fit: {}", all.join(", or ")),
        }
    }
}

impl LoadOptions {
    /// Why `model` was not loaded: where a GPU has no room for it, with what would fit.
    pub(crate) fn not_loaded(&self, model: &Model, budget: &Budget, error: LoadError) -> Error {
        let (device, layers) = (self.device.resolved(), model.info.layers);
        let (Device::Cuda(_), LoadError::OutOfMemory { needed, .. }) = (device, &error) else {
            return error.into();
        };
        let Ok(gpu) = self.device.backend_for(self.weights, self.deterministic) else {
            return error.into();
        };
        let Ok(Some(free)) = gpu.available() else {
            return error.into();
        };
        let room = Room {
            gpu: &*gpu,
            model,
            budget,
            sequences: self.sequences,
            layers: self.gpu_layers.unwrap_or(layers).min(layers),
            free,
        };
        Error::NoRoom {
            device: gpu.caps().name,
            needed: *needed,
            free,
            advice: room.advice(),
        }
    }
}

/// The largest of 1 to `last` for which `fits`, which holds up to some number and not beyond.
fn most(last: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut good, mut least, mut end) = (None, 1, last);
    while least <= end {
        let n = least.midpoint(end);
        match fits(n) {
            true => (good, least) = (Some(n), n + 1),
            false => end = n - 1,
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zse_cpu::CpuBackend;
    use zse_model::conformance::{DecoderSpec, decoder};
    use zse_quant::GgmlType;

    use super::*;

    #[test]
    fn the_largest_that_fits_is_found() {
        for last in 0..20 {
            for limit in 0..22 {
                let found = most(last, |n| n <= limit);
                assert_eq!(found.unwrap_or(0), limit.min(last));
            }
        }
    }

    #[test]
    fn what_is_advised_fits_and_no_more_would() {
        let spec = DecoderSpec {
            layers: 4,
            ..DecoderSpec::small(GgmlType::F32)
        };
        let model = decoder(&spec, 1).unwrap();
        let mut model = Arc::into_inner(model).unwrap();
        model.info.context = 8192;
        let cpu = CpuBackend::default();
        let budget = Budget::for_context(8192, 2, 64);
        let held = |budget: &Budget| {
            let plan = cpu.plan(&model, budget).unwrap();
            plan.total() - plan.mapped
        };
        let room = |free| Room {
            gpu: &cpu,
            model: &model,
            budget: &budget,
            sequences: 2,
            layers: 4,
            free,
        };
        let half = held(&Budget::for_context(4096, 2, 64));
        let advice = room(half).advice();
        assert!(advice.contains("--ctx 4096,"), "{advice}");
        assert!(advice.contains("--kv-type q8_0 --ctx "), "{advice}");
        assert!(advice.contains("--gpu-layers "), "{advice}");
        let most = held(&budget) - 1;
        assert!(room(most).advice().contains("--ctx 7936,"));
        assert!(room(most).advice().contains("--kv-type q8_0,"));
        assert!(room(1000).advice().contains("--device cpu"));
    }
}
