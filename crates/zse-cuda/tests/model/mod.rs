//! Models of one operation, or of a few.

use std::sync::Arc;

use zse_model::conformance::Synth;
use zse_model::program::ProgramOutput;
use zse_model::{Builder, Model, ModelInfo, Weights};

/// The model of one layer that `info` names, with the weights of `synth`.
pub(crate) fn model(
    info: ModelInfo,
    synth: Synth,
    describe: impl FnOnce(&mut Builder) -> ProgramOutput,
) -> Arc<Model> {
    let checkpoint = synth.finish().expect("a good checkpoint");
    let mut b = Builder::new(&info.name, Arc::clone(&checkpoint));
    let output = describe(&mut b);
    let program = b.finish(output).expect("a good program");
    let weights = Weights::new(checkpoint, &program).expect("its weights");
    Arc::new(Model {
        info,
        program,
        weights,
    })
}
