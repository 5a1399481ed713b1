//! BERT: how rows are pooled, and which heads are read.

use serde_json::json;
use zse_format::{Checkpoint, FormatError};

use crate::directory::{Model, floats};

/// One layer of width 8, with a pooler.
fn bert(class: &str, prefix: &str) -> Model {
    let config = json!({
        "architectures": [class], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 12, "type_vocab_size": 2,
    });
    let mut tensors = Vec::new();
    for (name, shape) in [
        ("embeddings.word_embeddings.weight", &[6, 8][..]),
        ("embeddings.position_embeddings.weight", &[12, 8]),
        ("embeddings.token_type_embeddings.weight", &[2, 8]),
        ("pooler.dense.weight", &[8, 8]),
        ("pooler.dense.bias", &[8]),
    ] {
        tensors.push(floats(&format!("{prefix}{name}"), shape));
    }
    for (name, shape) in [
        ("embeddings.LayerNorm", &[8][..]),
        ("encoder.layer.0.attention.self.query", &[8, 8]),
        ("encoder.layer.0.attention.self.key", &[8, 8]),
        ("encoder.layer.0.attention.self.value", &[8, 8]),
        ("encoder.layer.0.attention.output.dense", &[8, 8]),
        ("encoder.layer.0.attention.output.LayerNorm", &[8]),
        ("encoder.layer.0.intermediate.dense", &[16, 8]),
        ("encoder.layer.0.output.dense", &[8, 16]),
        ("encoder.layer.0.output.LayerNorm", &[8]),
    ] {
        tensors.push(floats(&format!("{prefix}{name}.weight"), shape));
        tensors.push(floats(&format!("{prefix}{name}.bias"), &shape[..1]));
    }
    Model {
        config,
        tensors,
        files: Vec::new(),
    }
}

fn pooled(modes: serde_json::Value) -> Result<Checkpoint, FormatError> {
    let mut model = bert("BertModel", "");
    model
        .files
        .push(("1_Pooling/config.json", modes.to_string()));
    model.write().open()
}

#[test]
fn an_embedding_model_has_no_head() {
    let mut model = bert("BertModel", "");
    for tensor in &mut model.tensors {
        tensor.0 = tensor.0.replace("LayerNorm.weight", "LayerNorm.gamma");
        tensor.0 = tensor.0.replace("LayerNorm.bias", "LayerNorm.beta");
    }
    let model = model.write().open().unwrap();
    assert!(model.tensor("cls.weight").is_none());
    assert!(model.metadata().get("bert.pooling_type").is_none());
    assert!(
        !model
            .metadata()
            .require_bool("bert.attention.causal")
            .unwrap()
    );
    let positions = model.tensor("position_embd.weight").unwrap();
    assert_eq!(
        (positions.ty.name(), positions.shape),
        ("f32", &[8, 12][..])
    );
}

#[test]
fn a_cross_encoder_ranks_by_its_head() {
    let mut model = bert("BertForSequenceClassification", "bert.");
    model.tensors.push(floats("classifier.weight", &[1, 8]));
    model.tensors.push(floats("classifier.bias", &[1]));
    let model = model.write().open().unwrap();
    assert_eq!(
        model.metadata().require_u32("bert.pooling_type").unwrap(),
        4
    );
    assert_eq!(model.tensor("cls.weight").unwrap().shape, [8, 8]);
    assert_eq!(model.tensor("cls.output.weight").unwrap().shape, [8, 1]);
}

#[test]
fn pooling_is_that_of_sentence_transformers() {
    for (modes, expected) in [
        (json!({"pooling_mode_mean_tokens": true}), 1),
        (
            json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
            2,
        ),
        (json!({"pooling_mode_lasttoken": true}), 3),
    ] {
        let model = pooled(modes).unwrap();
        assert_eq!(
            model.metadata().require_u32("bert.pooling_type").unwrap(),
            expected
        );
    }
    for (modes, expected) in [
        (
            json!({"pooling_mode_max_tokens": true}),
            "pooling_mode_max_tokens is true",
        ),
        (json!({}), "pooling_mode must be one of"),
        (
            json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}),
            "but 2 are true",
        ),
    ] {
        let error = pooled(modes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut dense = bert("BertModel", "");
    dense.files.push(("2_Dense/config.json", "{}".to_owned()));
    let error = dense.refused();
    assert!(
        error.contains("2_Dense is a layer after pooling"),
        "{error}"
    );
}

/// `modules.json` of steps (class, folder).
fn steps(steps: &[(&str, &str)]) -> (&'static str, String) {
    let step = |(class, path): &(&str, &str)| json!({ "type": class, "path": path });
    let steps: serde_json::Value = steps.iter().map(step).collect();
    ("modules.json", steps.to_string())
}

/// The files of a step may be left out by who fetched the model, but not the step.
#[test]
fn a_step_behind_the_pooling_is_refused_by_its_name() {
    let first = ("sentence_transformers.models.Transformer", "");
    let pooling = ("sentence_transformers.models.Pooling", "1_Pooling");
    let dense = ("sentence_transformers.models.Dense", "2_Dense");
    let normalize = ("sentence_transformers.models.Normalize", "2_Normalize");
    // As later versions name it.
    let moved = "sentence_transformers.sentence_transformer.modules.pooling.Pooling";
    let modes = json!({ "pooling_mode_cls_token": true }).to_string();
    let model = |files: &[(&'static str, String)]| {
        let mut model = bert("BertModel", "");
        model.files.extend_from_slice(files);
        model
    };
    for known in [
        &[first, pooling][..],
        &[first, (moved, "1_Pooling"), normalize],
    ] {
        let files = [steps(known), ("1_Pooling/config.json", modes.clone())];
        let model = model(&files).write().open().unwrap();
        let pooling = model.metadata().require_u32("bert.pooling_type").unwrap();
        assert_eq!(pooling, 2);
    }
    for (wrong, expected) in [
        (
            &[first, pooling, dense][..],
            "type is \"sentence_transformers.models.Dense\", which is not implemented",
        ),
        (
            &[("custom_st.Transformer", ""), pooling],
            "type is \"custom_st.Transformer\"",
        ),
        (&[first, (moved, "pool")], "path is \"pool\""),
    ] {
        let files = [steps(wrong), ("1_Pooling/config.json", modes.clone())];
        let error = model(&files).refused();
        assert!(error.contains(expected), "{error}");
    }
    let error = model(&[steps(&[first, pooling])]).refused();
    assert!(error.contains("is missing, though modules.json"), "{error}");
    let error = model(&[("modules.json", "{}".to_owned())]).refused();
    assert!(error.contains("modules.json"), "{error}");
}
