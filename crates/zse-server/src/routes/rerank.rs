//! `POST /v1/rerank`: which documents answer a query best. As Jina's and Cohere's clients ask it, also
//! at `/rerank` and `/v2/rerank`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::job;
use crate::models::Model;
use crate::request::{Fields, Unsupported, never, unsupported};
use crate::state::App;
use crate::usage;

/// Most documents of a request.
const MAX_DOCUMENTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    query: String,
    documents: Vec<Document>,
    /// How many of the best are given; all, where it does not say.
    top_n: Option<usize>,
    /// Whether the documents are given with their scores.
    return_documents: Option<bool>,
    /// What a generative model judges by.
    instruction: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text, or {\"text\": ...} with nothing else"
)]
enum Document {
    Plain(String),
    Named(Named),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    text: String,
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Named(Named { text }) => text,
        }
    }
}

const CUT: &str = "documents are never cut here";

const UNSUPPORTED: [Unsupported; 5] = [
    unsupported("max_tokens_per_doc", CUT, never),
    unsupported("max_chunks_per_doc", CUT, never),
    unsupported("truncate_prompt_tokens", CUT, never),
    unsupported("truncation", CUT, |v| v == false),
    unsupported("rank_fields", "documents have one field, text", |v| {
        *v == json!(["text"])
    }),
];

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    let tenant = fields.tenant();
    fields.finish(&UNSUPPORTED)?;
    if body.documents.is_empty() || body.documents.len() > MAX_DOCUMENTS {
        let message = format!("documents must have from 1 to {MAX_DOCUMENTS} documents");
        return Err(ApiError::param("documents", message));
    }
    if body.top_n == Some(0) {
        return Err(ApiError::param("top_n", "top_n is 0, must be at least 1"));
    }
    let slot = app.admit(1)?;
    let model = app.model(body.model.as_deref()).await?;
    if model.engine.is_embedder() {
        let message = format!(
            "the model '{}' gives embeddings; it cannot rank documents",
            model.name
        );
        return Err(ApiError::param("model", message));
    }
    if body.instruction.is_some() && model.engine.is_reranker() {
        let why = "this model ranks by a head, which takes none";
        return Err(ApiError::unsupported("instruction", why));
    }
    job::blocking(move |is_gone| {
        let _slot = slot;
        let pairs = body.pairs(&model)?;
        let tokens: usize = pairs.iter().map(Vec::len).sum();
        let mut ranked = Vec::with_capacity(pairs.len());
        for (index, pair) in pairs.into_iter().enumerate() {
            if is_gone() {
                break;
            }
            ranked.push((index, model.engine.relevance(pair, tenant.salt())?));
        }
        // The order of the request where two are equal.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(body.top_n.unwrap_or(usize::MAX));
        let results: Vec<Value> = ranked
            .into_iter()
            .map(|(index, score)| {
                let mut result = json!({ "index": index, "relevance_score": score });
                if body.return_documents == Some(true) {
                    result["document"] = json!({ "text": body.documents[index].text() });
                }
                result
            })
            .collect();
        Ok(super::json(&json!({
            "id": usage::id("rerank"),
            "object": "list",
            "model": model.name,
            "results": results,
            "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        })))
    })
    .await
}

impl Body {
    /// The tokens of the query with each document.
    ///
    /// # Errors
    /// Names the first document with which it is too long, and says both numbers.
    fn pairs(&self, model: &Model) -> Result<Vec<Vec<u32>>, ApiError> {
        let limits = model.engine.limits();
        let longest = match model.engine.is_reranker() {
            true => limits.sequence().min(limits.batch_tokens),
            // One place is for the answer.
            false => limits.sequence().saturating_sub(1),
        };
        let one = |(i, document): (usize, &Document)| {
            let instruction = self.instruction.as_deref();
            let engine = &model.engine;
            let tokens = engine.pair_tokens(&self.query, document.text(), instruction)?;
            match tokens.len() > longest {
                true => {
                    Err(ApiError::too_long(tokens.len(), longest).at(format!("documents[{i}]")))
                }
                false => Ok(tokens),
            }
        };
        self.documents.iter().enumerate().map(one).collect()
    }
}
