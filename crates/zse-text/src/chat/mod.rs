//! Chat templates: from messages to the text that a model continues.

mod cost;
mod guard;
mod ids;
mod json;
mod message;
mod meter;
mod render;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use zse_format::Metadata;

pub use message::{Content, FunctionCall, Message, Role, ToolCall};

use crate::{TextError, Tokenizer};

/// The template of models whose vocabulary has `<|im_start|>` and that bring none: ChatML.
pub const CHATML: &str = "\
{{- bos_token if adds_bos else '' -}}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// The template of other models that bring none: a heading for each message, and the end-of-text
/// token behind each of the model's own.
pub const PLAIN: &str = "\
{{- bos_token if adds_bos else '' -}}
{%- for message in messages -%}
{{- '### ' + message.role | capitalize + ':\\n' + (message.content or '') -}}
{{- (eos_token if message.role == 'assistant' else '') + '\\n\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}";

/// The names of the two templates that are chosen without being asked for.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A model's chat template, in Jinja as Hugging Face's `apply_chat_template` takes it.
///
/// Templates come with model files and are not trusted: rendering takes bounded time and memory
/// whatever the template does, and cannot reach anything but its input.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// By name; there is one called `default`.
    sources: BTreeMap<String, String>,
    /// Names of special tokens as templates know them, and their spelling; and `adds_bos`, whether
    /// the tokenizer puts `bos_token` before a text.
    tokens: Map<String, Value>,
    is_fallback: bool,
}

/// Whether a chat template's source reads a variable, such as `tools`.
pub fn template_reads(source: &str, variable: &str) -> bool {
    render::reads(source, variable)
}

/// What a chat template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct ChatInput<'a> {
    /// The chat so far.
    pub messages: &'a [Message],
    /// The tools that the model may call, as OpenAI's API describes them.
    pub tools: &'a [Value],
    /// Documents to answer from.
    pub documents: &'a [Value],
    /// Whether the model is to speak next.
    pub add_generation_prompt: bool,
    /// Further variables, e.g. `enable_thinking`; they win over the others.
    pub extra: Map<String, Value>,
    /// What `strftime_now` takes for now, in UTC; by default now, in the local time zone.
    pub now: Option<SystemTime>,
}

impl ChatTemplate {
    /// The templates in a GGUF file's metadata. A model without one, or with a blank one, gets
    /// [`CHATML`] if its vocabulary has ChatML's tokens, and [`PLAIN`] otherwise; see
    /// [`is_fallback`](Self::is_fallback).
    ///
    /// # Errors
    /// [`TextError::Template`] and [`TextError::TemplateLimit`] for templates that do not parse or
    /// are too large, [`TextError::Metadata`] for keys of the wrong type.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let mut sources = BTreeMap::new();
        // Converters leave a blank where a model has no template.
        let template = |key: &str| {
            let source = metadata.str(key)?;
            Ok::<_, TextError>(source.filter(|source| !source.trim().is_empty()))
        };
        if let Some(source) = template("tokenizer.chat_template")? {
            sources.insert(DEFAULT.to_owned(), source.to_owned());
        }
        let names = "tokenizer.chat_templates";
        for name in metadata
            .strings(names)?
            .into_iter()
            .flat_map(|names| names.utf8())
        {
            let name = name?;
            if let Some(source) = template(&format!("tokenizer.chat_template.{name}"))? {
                sources.insert(name.to_owned(), source.to_owned());
            }
        }
        let is_fallback = !sources.contains_key(DEFAULT);
        sources.entry(DEFAULT.to_owned()).or_insert_with(|| {
            let chatml = ["<|im_start|>", "<|im_end|>"]
                .iter()
                .all(|t| tokenizer.token_id(t).is_some());
            if chatml { CHATML } else { PLAIN }.to_owned()
        });
        Ok(Self {
            is_fallback,
            ..Self::new(sources, tokenizer)?
        })
    }

    /// The template `source` alone, without special tokens.
    ///
    /// # Errors
    /// [`TextError::Template`] and [`TextError::TemplateLimit`].
    pub fn from_source(source: &str) -> Result<Self, TextError> {
        render::check(source)?;
        let sources = BTreeMap::from([(DEFAULT.to_owned(), source.to_owned())]);
        Ok(Self {
            sources,
            tokens: Map::new(),
            is_fallback: false,
        })
    }

    /// The template `source` for the model of `tokenizer`.
    ///
    /// # Errors
    /// As [`from_source`](Self::from_source).
    pub fn with_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        Self::new(
            BTreeMap::from([(DEFAULT.to_owned(), source.to_owned())]),
            tokenizer,
        )
    }

    fn new(sources: BTreeMap<String, String>, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        sources
            .values()
            .try_for_each(|source| render::check(source))?;
        let ids = tokenizer.special_ids();
        let named = [
            ("bos_token", ids.bos),
            ("eos_token", ids.eos),
            ("unk_token", ids.unk),
            ("pad_token", ids.pad),
            ("sep_token", ids.sep),
            ("mask_token", ids.mask),
        ];
        // Absent tokens are empty: templates write them without asking.
        let spelled = named.map(|(name, id)| {
            (
                name.to_owned(),
                id.map_or(String::new(), |id| tokenizer.piece(id).into_owned())
                    .into(),
            )
        });
        let mut tokens: Map<String, Value> = spelled.into_iter().collect();
        tokens.insert("adds_bos".to_owned(), tokenizer.adds_bos().into());
        Ok(Self {
            sources,
            tokens,
            is_fallback: false,
        })
    }

    /// Whether `default` is [`CHATML`] or [`PLAIN`] because the model brings none of its own, or a
    /// blank one; see [`from_metadata`](Self::from_metadata).
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// The names of all templates; `default` is one of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The source of the template `name`.
    pub fn source(&self, name: &str) -> Option<&str> {
        self.sources.get(name).map(String::as_str)
    }

    /// Renders the template that fits `input`: `tool_use` if there are tools and the model has it,
    /// else `default`.
    ///
    /// The text spells out special tokens, the one for the beginning of the text included if the
    /// template writes it: encode it with `parse_special`, and without adding another.
    ///
    /// # Errors
    /// [`TextError::Refused`] if the template raises an exception, [`TextError::Template`] if it
    /// fails, [`TextError::TemplateLimit`] if it takes too much.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        self.render_named(self.fitting(!input.tools.is_empty()), input)
    }

    /// The source of the template that is rendered with tools, or without.
    pub fn rendered(&self, with_tools: bool) -> &str {
        self.source(self.fitting(with_tools)).unwrap_or_default()
    }

    fn fitting(&self, with_tools: bool) -> &'static str {
        match with_tools && self.sources.contains_key(TOOL_USE) {
            true => TOOL_USE,
            false => DEFAULT,
        }
    }

    /// Renders the template `name`.
    ///
    /// # Errors
    /// As [`render`](Self::render), and [`TextError::NoSuchTemplate`].
    pub fn render_named(&self, name: &str, input: &ChatInput<'_>) -> Result<String, TextError> {
        let source = self
            .sources
            .get(name)
            .ok_or_else(|| TextError::NoSuchTemplate {
                name: name.to_owned(),
                available: self.names().collect::<Vec<_>>().join(", "),
            })?;
        let list = |items: &[Value]| match items {
            [] => Value::Null,
            items => items.into(),
        };
        let mut messages: Vec<Value> = input.messages.iter().map(Message::for_template).collect();
        developer_as_system(source, input.messages, &mut messages);
        if ids::are_short(source) {
            ids::shorten(input.messages, &mut messages);
        }
        let mut context = json!({
            "messages": messages,
            "tools": list(input.tools),
            "documents": list(input.documents),
            "add_generation_prompt": input.add_generation_prompt,
        });
        if let Value::Object(context) = &mut context {
            context.extend(self.tokens.clone());
            context.extend(input.extra.clone());
        }
        let items = input.messages.len() + input.tools.len() + input.documents.len();
        render::render(source, &context, items, input.now)
    }
}

/// Hands messages of the role `developer` on as `system` where the template `source` does not know the role: it
/// would drop them without a word, or refuse them.
fn developer_as_system(source: &str, messages: &[Message], rendered: &mut [Value]) {
    let is_developer = |message: &Message| message.role == Role::Developer;
    if !messages.iter().any(is_developer) || render::has_constant(source, "developer") {
        return;
    }
    for (message, rendered) in messages.iter().zip(rendered) {
        if is_developer(message) {
            rendered["role"] = json!(Role::System);
        }
    }
}
