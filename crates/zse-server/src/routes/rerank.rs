//! `POST /v1/rerank`: which documents answer a query best. As Jina's and Cohere's clients ask it, also
//! at `/rerank` and `/v2/rerank`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use zse::Engine;

use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Unsupported, never, unsupported};
use crate::state::App;
use crate::usage;

/// Most documents of a request.
const MAX_DOCUMENTS: usize = 2048;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RerankRequest)]
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

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RerankDocument)]
#[serde(
    untagged,
    expecting = "must be a text, or {\"text\": ...} with nothing else"
)]
enum Document {
    Plain(String),
    Named(Named),
}

/// A document by the name of its text.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = RerankNamedDocument)]
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

#[derive(Serialize, ToSchema)]
struct Ranking {
    id: String,
    object: &'static str,
    model: String,
    /// The best first.
    results: Vec<Ranked>,
    usage: RankingUsage,
}

#[derive(Serialize, ToSchema)]
struct Ranked {
    /// Of the document, in the request.
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Named>,
}

#[derive(Serialize, ToSchema)]
struct RankingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Which documents answer a query best
#[utoipa::path(
    post,
    path = "/v1/rerank",
    tag = "Text",
    request_body = Body,
    responses((status = 200, body = Ranking)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    fields: Fields,
) -> Result<Response, ApiError> {
    rank(app, fields).await
}

/// As `/v1/rerank`, where Cohere's newer clients look
#[utoipa::path(
    post,
    path = "/v2/rerank",
    tag = "Text",
    request_body = Body,
    responses((status = 200, body = Ranking)),
)]
pub(super) async fn post_v2(
    State(app): State<Arc<App>>,
    fields: Fields,
) -> Result<Response, ApiError> {
    rank(app, fields).await
}

/// As `/v1/rerank`, where llama.cpp's and vLLM's clients look
#[utoipa::path(
    post,
    path = "/rerank",
    tag = "Text",
    request_body = Body,
    responses((status = 200, body = Ranking)),
)]
pub(super) async fn post_short(
    State(app): State<Arc<App>>,
    fields: Fields,
) -> Result<Response, ApiError> {
    rank(app, fields).await
}

async fn rank(app: Arc<App>, mut fields: Fields) -> Result<Response, ApiError> {
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
    if body.instruction.is_some() && !model.engine.takes_instruction() {
        let why = "this model ranks by a head or a template, which takes none";
        return Err(ApiError::unsupported("instruction", why));
    }
    job::blocking(move |is_gone| {
        let _slot = slot;
        // All are looked at before the first is scored, and one is held at a time.
        let mut tokens = 0;
        for index in 0..body.documents.len() {
            if is_gone() {
                break;
            }
            tokens += body.pair(&model.engine, index)?.len();
        }
        let mut ranked = Vec::with_capacity(body.documents.len());
        for index in 0..body.documents.len() {
            if is_gone() {
                break;
            }
            let pair = body.pair(&model.engine, index)?;
            let asked = model.engine.until(is_gone);
            ranked.push((index, asked.relevance(pair, tenant.salt())?));
        }
        // The order of the request where two are equal.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(body.top_n.unwrap_or(usize::MAX));
        let results = ranked.into_iter().map(|(index, relevance_score)| Ranked {
            index,
            relevance_score,
            document: (body.return_documents == Some(true)).then(|| Named {
                text: body.documents[index].text().to_owned(),
            }),
        });
        Ok(super::json(&Ranking {
            id: usage::id("rerank"),
            object: "list",
            results: results.collect(),
            model: model.name.clone(),
            usage: RankingUsage {
                prompt_tokens: tokens,
                total_tokens: tokens,
            },
        }))
    })
    .await
}

impl Body {
    /// The tokens of the query with a document.
    ///
    /// # Errors
    /// Names the document if it is too long with the query, and says both numbers.
    fn pair(&self, engine: &Engine, index: usize) -> Result<Vec<u32>, ApiError> {
        let limits = engine.limits();
        let longest = match engine.is_reranker() {
            true => limits.sequence().min(limits.batch_tokens),
            // One place is for the answer.
            false => limits.sequence().saturating_sub(1),
        };
        let document = self.documents[index].text();
        let tokens = engine.pair_tokens(&self.query, document, self.instruction.as_deref());
        let tokens = tokens.map_err(|error| match ApiError::from(error) {
            // Of the question that the template is asked with, and not of the client's.
            error if error.status.is_client_error() => error.at("model"),
            error => error,
        })?;
        match tokens.len() > longest {
            true => {
                Err(ApiError::too_long(tokens.len(), longest).at(format!("documents[{index}]")))
            }
            false => Ok(tokens),
        }
    }
}
