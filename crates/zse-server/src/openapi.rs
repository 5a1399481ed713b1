//! The OpenAPI document. Its paths come from the same list as the router's, its schemas from the
//! types that handlers read and write.

use std::borrow::Cow;
use std::marker::PhantomData;

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AllOfBuilder, OneOfBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema, SecurityRequirement,
};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};

use crate::error::{AnthropicError, Dialect, Error, OllamaError};
use crate::guard::is_open;
use crate::request::{Prompts, Texts};

/// What the document says of the server as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ZSE",
        description = "Large language models over HTTP, for the clients of OpenAI, Anthropic and \
                       Ollama. A parameter that is unknown, or that has no effect here, is refused \
                       with status 400; `null` counts as absent.",
    ),
    tags(
        (name = "OpenAI", description = "What OpenAI's clients speak"),
        (name = "Anthropic", description = "What Anthropic's clients speak"),
        (name = "Ollama", description = "What Ollama's clients speak"),
        (name = "Text", description = "Tokens"),
        (name = "Server", description = "For those who run the server"),
    ),
    components(schemas(Error, AnthropicError, OllamaError)),
    modifiers(&Keys),
)]
struct Document;

/// The document, before it has paths.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Adds what holds for all paths: the errors that each may answer with, and which need no key.
pub(crate) fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        let verbs = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in verbs.into_iter().filter_map(Option::as_mut) {
            finish(&path, operation);
        }
        // The router marks what may have slashes in it.
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    document
}

fn finish(path: &str, operation: &mut Operation) {
    if is_open(path) {
        operation.security = Some(vec![SecurityRequirement::default()]);
    }
    let error = RefOr::T(error(Dialect::of(path)));
    operation
        .responses
        .responses
        .insert("default".to_owned(), error);
}

/// Any error, in the shape that the clients of a path read.
fn error(dialect: Dialect) -> Response {
    let name = match dialect {
        Dialect::OpenAi => Error::name(),
        Dialect::Anthropic => AnthropicError::name(),
        Dialect::Ollama => OllamaError::name(),
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name)));
    ResponseBuilder::new()
        .description("What was wrong")
        .content("application/json", content.build())
        .build()
}

/// The ways to give a key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("key", SecurityScheme::ApiKey(header));
        let either = ["bearer", "key"];
        let either = either.map(|name| SecurityRequirement::new(name, [""; 0]));
        document.security = Some(either.into());
    }
}

/// The parameters of a request that is read in groups: all those of `T`, a tuple.
pub(crate) struct All<T>(PhantomData<T>);

macro_rules! all {
    ($($group:ident)+) => {
        impl<$($group: ToSchema),+> PartialSchema for All<($($group,)+)> {
            fn schema() -> RefOr<Schema> {
                let all = AllOfBuilder::new();
                $(let all = all.item(Ref::from_schema_name($group::name()));)+
                all.into()
            }
        }

        impl<$($group: ToSchema),+> ToSchema for All<($($group,)+)> {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(
                    schemas.push(($group::name().into_owned(), $group::schema()));
                    $group::schemas(schemas);
                )+
            }
        }
    };
}

all!(A B);
all!(A B C);

/// One of several forms.
fn one_of(forms: impl IntoIterator<Item = RefOr<Schema>>) -> RefOr<Schema> {
    let all = forms.into_iter();
    all.fold(OneOfBuilder::new(), OneOfBuilder::item).into()
}

impl PartialSchema for Texts {
    fn schema() -> RefOr<Schema> {
        one_of([String::schema(), Vec::<String>::schema()])
    }
}

impl ToSchema for Texts {
    fn name() -> Cow<'static, str> {
        "Texts".into()
    }
}

impl PartialSchema for Prompts {
    fn schema() -> RefOr<Schema> {
        one_of([
            String::schema(),
            Vec::<String>::schema(),
            Vec::<u32>::schema(),
            Vec::<Vec<u32>>::schema(),
        ])
    }
}

impl ToSchema for Prompts {}
