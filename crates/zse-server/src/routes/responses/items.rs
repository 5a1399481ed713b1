//! `GET /v1/responses/{id}/input_items`: what a stored response was made from.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::json;
use crate::error::ApiError;
use crate::guard::Tenant;
use crate::state::App;
use crate::usage;

/// Items of a page where nothing is said of that, and the most.
const LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// Items of a conversation, a page of them.
#[derive(Serialize, ToSchema)]
#[schema(as = ResponseItemList)]
pub(super) struct ItemList {
    /// `list`.
    object: &'static str,
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
    /// `null` where there are none.
    first_id: Option<String>,
    last_id: Option<String>,
    /// Whether others follow.
    has_more: bool,
}

/// What a stored response was made from
///
/// The items of its conversation, those of the responses before it included, but for instructions; the newest
/// first, unless `order` is `asc`.
#[utoipa::path(
    get,
    path = "/v1/responses/{id}/input_items",
    tag = "OpenAI",
    params(
        ("id" = String, Path, description = "The id of a response"),
        ("order" = Option<String>, Query, description = "`desc` (the default) or `asc`"),
        ("limit" = Option<usize>, Query, description = "Most items, from 1 to 100; 20 by default"),
        ("after" = Option<String>, Query, description = "The id of an item behind which the list begins"),
    ),
    responses((status = 200, body = ItemList)),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let page = Page::read(&query)?;
    let found = app.responses.find(&tenant, &id);
    let found = found.ok_or_else(|| ApiError::no_response("response_id", &id))?;
    Ok(json(&page.of(&found.items)?))
}

/// Which of the items are wanted.
struct Page<'a> {
    is_ascending: bool,
    limit: usize,
    after: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn read(query: &'a [(String, String)]) -> Result<Self, ApiError> {
        let mut page = Self {
            is_ascending: false,
            limit: LIMIT,
            after: None,
        };
        for (name, value) in query {
            // Clients write a list so.
            match name.strip_suffix("[]").unwrap_or(name) {
                "order" => {
                    page.is_ascending = match value.as_str() {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err(ApiError::param("order", "order must be asc or desc")),
                    }
                }
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    page.limit = limit.ok_or_else(|| {
                        let message = format!("limit must be a number from 1 to {MAX_LIMIT}");
                        ApiError::param("limit", message)
                    })?;
                }
                "after" => page.after = Some(value),
                name @ "include" => {
                    let why = "items have what they were given with";
                    return Err(ApiError::unsupported(name, why));
                }
                other => return Err(ApiError::unknown(other)),
            }
        }
        Ok(page)
    }

    fn of(&self, items: &[Value]) -> Result<ItemList, ApiError> {
        let mut ordered: Vec<&Value> = items.iter().collect();
        if !self.is_ascending {
            ordered.reverse();
        }
        let begin = match self.after {
            None => 0,
            Some(after) => {
                let at = ordered.iter().position(|item| item["id"] == after);
                let missing = || ApiError::param("after", "after: there is no such item");
                at.ok_or_else(missing)? + 1
            }
        };
        let rest = &ordered[begin..];
        let data = &rest[..rest.len().min(self.limit)];
        let id = |item: Option<&&Value>| Some(item?["id"].as_str()?.to_owned());
        Ok(ItemList {
            object: "list",
            data: data.iter().map(|&item| item.clone()).collect(),
            first_id: id(data.first()),
            last_id: id(data.last()),
            has_more: data.len() < rest.len(),
        })
    }
}

/// The items of an `input` that was found sound, as they are told again: each with an id, and content in parts.
pub(super) fn kept(input: Value) -> Vec<Value> {
    match input {
        Value::Array(items) => items.into_iter().map(complete).collect(),
        text => vec![complete(json!({ "role": "user", "content": text }))],
    }
}

fn complete(mut item: Value) -> Value {
    if item["type"].is_null() {
        item["type"] = "message".into();
    }
    let prefix = match item["type"].as_str() {
        Some("message") => "msg",
        Some("reasoning") => "rs",
        _ => "fc",
    };
    if !item["id"].is_string() {
        item["id"] = usage::id(prefix).replace('-', "_").into();
    }
    if prefix != "rs" && !item["status"].is_string() {
        item["status"] = "completed".into();
    }
    if prefix == "msg" {
        let is_said = item["role"] == "assistant";
        let part = |text: Value| match is_said {
            true => json!({ "type": "output_text", "text": text, "annotations": [] }),
            false => json!({ "type": "input_text", "text": text }),
        };
        item["content"] = match item["content"].take() {
            Value::Array(parts) => parts
                .into_iter()
                .map(|mut p| part(p["text"].take()))
                .collect(),
            text => json!([part(text)]),
        };
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_in_both_orders() {
        let items: Vec<Value> = (0..5).map(|i| json!({ "id": i.to_string() })).collect();
        let page = |query: &[(&str, &str)]| {
            let query = query
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            let query: Vec<_> = query.collect();
            let page = Page::read(&query).and_then(|page| page.of(&items));
            page.map(|page| {
                let ids = page.data.iter().map(|item| item["id"].as_str().unwrap());
                (
                    ids.collect::<String>(),
                    page.first_id,
                    page.last_id,
                    page.has_more,
                )
            })
        };
        let ends = |first: &str, last: &str| (Some(first.to_owned()), Some(last.to_owned()));
        let (first, last) = ends("4", "0");
        assert_eq!(page(&[]), Ok(("43210".to_owned(), first, last, false)));
        let (first, last) = ends("0", "1");
        let two = [("order", "asc"), ("limit", "2")];
        assert_eq!(page(&two), Ok(("01".to_owned(), first, last, true)));
        let (first, last) = ends("2", "1");
        let next = [("after", "3"), ("limit", "2")];
        assert_eq!(page(&next), Ok(("21".to_owned(), first, last, true)));
        let none = page(&[("after", "0")]);
        assert_eq!(none, Ok((String::new(), None, None, false)));
        for (name, value) in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "x"),
            ("order", "up"),
            ("after", "9"),
            ("include[]", "x"),
            ("mood", "bad"),
        ] {
            let error = page(&[(name, value)]).unwrap_err().body();
            assert_eq!(error["error"]["param"], name.trim_end_matches("[]"));
        }
    }
}
