//! Reading a body: limits first, then parameters by name. What no endpoint asked for is refused.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body::Body as _;
use hyper::header::CONTENT_LENGTH;
use serde::de::value::Error as PlainError;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::connection::Begun;
use crate::error::ApiError;
use crate::guard::Tenant;
use crate::job;
use crate::json;
use crate::sampling::Sampling;
use crate::state::App;

/// Bytes of a body that take so long to parse that other connections should not wait for it.
const LARGE: usize = 64 << 10;
/// How often the most bytes of a body are read from a client whose body is refused for its length.
const LINGER: usize = 16;

/// The parameters of a request that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    tenant: Tenant,
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let tenant = Tenant::of(request.extensions());
        Self::read(body(request, app).await?, tenant).await
    }
}

/// A body that asks for nothing, and may be missing.
pub(crate) struct Nothing;

impl FromRequest<Arc<App>> for Nothing {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let tenant = Tenant::of(request.extensions());
        let body = body(request, app).await?;
        if !body.is_empty() {
            Fields::read(body, tenant).await?.finish(&[])?;
        }
        Ok(Self)
    }
}

/// A body that is a list.
pub(crate) struct Items<T>(pub(crate) Vec<T>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Items<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let list = json::read(&body(request, app).await?)?;
        let list = serde_json::from_value(list);
        let wrong = |error| ApiError::invalid(format!("the body must be a list: {error}"));
        list.map(Self).map_err(wrong)
    }
}

/// The body of a request, within the limits of size and time.
async fn body(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let limit = app.config.max_body;
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let patience = app.config.read_timeout;
    let begun = request.extensions().get::<Begun>();
    // Headers that took longer were refused: bytes that came so early were the end of a request before.
    let begun = begun.filter(|begun| begun.0.elapsed() <= patience);
    let deadline = begun.map_or_else(Instant::now, |begun| begun.0) + patience;
    let mut body = request.into_body();
    let read = match length.is_some_and(|length| length > limit as u64) {
        true => Err(Unread::Long),
        false => tokio::time::timeout_at(deadline, collect(&mut body, limit))
            .await
            .map_err(|_| ApiError::slow_body())?,
    };
    match read {
        Ok(data) => Ok(data.into()),
        Err(Unread::Gone) => Err(ApiError::invalid("the body ended before its length")),
        Err(Unread::Long) => {
            tokio::spawn(linger(body, limit.saturating_mul(LINGER), deadline));
            Err(ApiError::too_large(limit))
        }
    }
}

/// Why there is no body.
enum Unread {
    /// It has too many bytes.
    Long,
    /// The client went away.
    Gone,
}

/// The next bytes of a body; `None` at its end.
async fn chunk(body: &mut Body) -> Option<Result<Bytes, Unread>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            Err(_) => return Some(Err(Unread::Gone)),
            // What is no data are trailers, which mean nothing here.
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_) => continue,
            },
        }
    }
}

/// A whole body of at most `limit` bytes.
async fn collect(body: &mut Body, limit: usize) -> Result<Vec<u8>, Unread> {
    let mut all = Vec::new();
    while let Some(data) = chunk(body).await {
        let data = data?;
        if data.len() > limit - all.len() {
            return Err(Unread::Long);
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// Takes what is left of a body that was refused, up to so many bytes and that time: a connection
/// that is closed while its client still sends is reset, and few clients then read why.
async fn linger(mut body: Body, bytes: usize, deadline: Instant) {
    let rest = async {
        let mut left = bytes;
        while let Some(Ok(data)) = chunk(&mut body).await {
            left = left.saturating_sub(data.len());
            if left == 0 {
                return;
            }
        }
    };
    // Whether it ended or not, the client was answered.
    let _ = tokio::time::timeout_at(deadline, rest).await;
}

/// The fields of a JSON object.
///
/// # Errors
/// If it is none.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match json::read(body)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::invalid("the body must be a JSON object")),
    }
}

impl Fields {
    /// The parameters in a body, or in the message that stands for one.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub(crate) async fn read(body: Bytes, tenant: Tenant) -> Result<Self, ApiError> {
        let fields = match body.len() > LARGE {
            true => job::blocking(move |_| parse(&body)).await?,
            false => parse(&body)?,
        };
        Ok(Self { fields, tenant })
    }

    /// These parameters, of a request that belongs to nobody.
    #[cfg(test)]
    pub(crate) fn of(fields: Value) -> Self {
        Self {
            fields: serde_json::from_value(fields).expect("an object"),
            tenant: Tenant::default(),
        }
    }

    /// Sets a parameter.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// Parameters that are grouped within others, of the same request.
    pub(crate) fn nested(&self, fields: Map<String, Value>) -> Self {
        Self {
            fields,
            tenant: self.tenant.clone(),
        }
    }

    /// Whose request it is.
    pub(crate) fn tenant(&self) -> Tenant {
        self.tenant.clone()
    }

    /// A parameter that nobody has taken yet.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Takes the parameters of a draw.
    ///
    /// # Errors
    /// If one is of the wrong type; says which.
    pub(crate) fn sampling(&mut self) -> Result<Sampling, ApiError> {
        Sampling::count(self)?;
        let mut sampling: Sampling = self.take()?;
        sampling.belongs_to(&self.tenant);
        Ok(sampling)
    }

    /// Whether a parameter is there that nobody has taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes a parameter that may be any value, and large: at once, where [`take`](Self::take) visits all
    /// of it.
    pub(crate) fn take_whole(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Takes the fields that `T` has; `null` counts as absent.
    ///
    /// # Errors
    /// If one is of the wrong type; says which.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut own = Map::new();
        for name in names::<T>() {
            match self.fields.remove(*name) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    own.insert((*name).to_owned(), value);
                }
            }
        }
        serde_path_to_error::deserialize(Value::Object(own)).map_err(|error| {
            let path = error.path().to_string();
            let why = error.into_inner();
            match path.as_str() {
                // A field that is missing has no path.
                "." => ApiError::invalid(why.to_string()),
                path => ApiError::param(path, format!("{path}: {why}")),
            }
        })
    }

    /// Refuses what is left, by name: first what clients may expect to work, for which
    /// `unsupported` has the reason, or its default, which asks for nothing.
    ///
    /// # Errors
    /// If anything is left.
    pub(crate) fn finish(self, unsupported: &[Unsupported]) -> Result<(), ApiError> {
        for (name, value) in self.fields {
            let known = unsupported.iter().find(|u| u.name == name);
            match known {
                _ if value.is_null() => {}
                None => return Err(ApiError::unknown(&name)),
                Some(known) if (known.is_default)(&value) => {}
                Some(known) => return Err(ApiError::unsupported(name, known.why)),
            }
        }
        Ok(())
    }
}

/// A parameter that has no effect here, and is taken only where it asks for none.
pub(crate) struct Unsupported {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// Whether a value asks for what happens anyway.
    pub(crate) is_default: fn(&Value) -> bool,
}

/// One of them; a table of them is a constant.
pub(crate) const fn unsupported(
    name: &'static str,
    why: &'static str,
    is_default: fn(&Value) -> bool,
) -> Unsupported {
    Unsupported {
        name,
        why,
        is_default,
    }
}

/// For parameters of which every value asks for something.
pub(crate) fn never(_: &Value) -> bool {
    false
}

/// For parameters that are off unless true.
pub(crate) fn if_false(value: &Value) -> bool {
    value == false
}

/// The names of the fields of a struct, other spellings included: what its derived `Deserialize`
/// asks a format for.
fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Spy<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Spy<'_> {
        type Error = PlainError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, PlainError> {
            Err(PlainError::custom("only structs have names"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, PlainError> {
            *self.0 = fields;
            Err(PlainError::custom("the names were all that is wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    let mut found: &'static [&'static str] = &[];
    // It fails in any case; what counts is what was asked for.
    let _ = T::deserialize(Spy(&mut found));
    found
}

/// One value, or a list of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Many<T>(pub(crate) Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let list = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        let items = list.into_iter().map(serde_json::from_value);
        items
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// A text, or several.
pub(crate) type Texts = Many<String>;

/// Text or tokens: what OpenAI's `prompt` and `input` may be, one or several of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// See [`Prompt`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prompts(pub(crate) Vec<Prompt>);

impl Prompts {
    /// Takes the prompts that the parameter `name` has.
    ///
    /// # Errors
    /// Names it, if it is missing or something else.
    pub(crate) fn take(fields: &mut Fields, name: &str) -> Result<Self, ApiError> {
        let missing = || ApiError::param(name, format!("missing field `{name}`"));
        let value = fields.take_whole(name).ok_or_else(missing)?;
        Self::of(&value).ok_or_else(|| {
            let what = "must be text, tokens, or a list of texts or of tokens";
            ApiError::param(name, format!("{name}: {what}"))
        })
    }

    fn of(value: &Value) -> Option<Self> {
        let tokens = |list: &[Value]| -> Option<Vec<u32>> {
            let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
            list.iter().map(id).collect()
        };
        let one = |value: &Value| match value {
            Value::String(text) => Some(Prompt::Text(text.clone())),
            Value::Array(list) => Some(Prompt::Tokens(tokens(list)?)),
            _ => None,
        };
        let prompts = match value {
            Value::String(text) => Some(vec![Prompt::Text(text.clone())]),
            Value::Array(list) if list.first().is_some_and(Value::is_number) => {
                tokens(list).map(|tokens| vec![Prompt::Tokens(tokens)])
            }
            Value::Array(list) if !list.is_empty() => list.iter().map(one).collect(),
            _ => None,
        };
        prompts.map(Self)
    }
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Tokens(tokens) => write!(f, "{} tokens", tokens.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Some2 {
        #[serde(alias = "other")]
        one: Option<u32>,
        stop: Option<Many<String>>,
    }

    fn take(body: &str) -> Result<(Some2, Fields), String> {
        let fields = parse(body.as_bytes()).map_err(|e| e.body().to_string())?;
        let mut fields = Fields::of(fields.into());
        let taken = fields.take().map_err(|e| e.body().to_string())?;
        Ok((taken, fields))
    }

    #[test]
    fn fields_are_taken_by_name_and_the_rest_is_refused() {
        let (taken, rest) = take(r#"{"other": 3, "stop": "x", "two": null}"#).unwrap();
        assert_eq!(
            (taken.one, taken.stop),
            (Some(3), Some(Many(vec!["x".to_owned()])))
        );
        assert_eq!(rest.finish(&[]), Ok(()));

        let (_, rest) = take(r#"{"one": null, "topp": 1}"#).unwrap();
        assert_eq!(rest.finish(&[]), Err(ApiError::unknown("topp")));

        let store = Unsupported {
            name: "store",
            why: "nothing is kept",
            is_default: if_false,
        };
        let (_, rest) = take(r#"{"store": false}"#).unwrap();
        assert_eq!(rest.finish(&[store]), Ok(()));
    }

    #[test]
    fn mistakes_name_the_parameter() {
        for (body, name) in [
            (r#"{"one": -1}"#, r#""param":"one""#),
            (r#"{"one": "1"}"#, r#""param":"one""#),
            (r#"{"stop": [1]}"#, r#""param":"stop""#),
            ("[]", "must be a JSON object"),
            ("{", "not valid JSON"),
            (&"[".repeat(100_000), "not valid JSON"),
        ] {
            let error = take(body).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let parse = |json: &str| {
            let body = parse(format!("{{\"prompt\": {json}}}").as_bytes());
            let mut fields = Fields::of(body.unwrap().into());
            Prompts::take(&mut fields, "prompt").map(|prompts| prompts.0)
        };
        let text = |t: &str| Prompt::Text(t.to_owned());
        assert_eq!(parse(r#""a""#).unwrap(), [text("a")]);
        assert_eq!(parse(r#"["a", "b"]"#).unwrap(), [text("a"), text("b")]);
        assert_eq!(parse("[1, 2]").unwrap(), [Prompt::Tokens(vec![1, 2])]);
        let two = [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])];
        assert_eq!(parse("[[1], [2, 3]]").unwrap(), two);
        for wrong in [
            "1",
            "{}",
            "[1, \"a\"]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[null]",
            "null",
        ] {
            let error = parse(wrong).expect_err(wrong).body().to_string();
            assert!(error.contains(r#""param":"prompt""#), "{error}");
        }
    }
}
