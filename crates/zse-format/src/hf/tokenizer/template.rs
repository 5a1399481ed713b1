//! Chat templates: one, or several by name.

use serde_json::Value;

use super::{Entries, MAX_TEMPLATES, TokenizerFiles, check_size, error, object};
use crate::{EncodedValue, FormatError};

/// Writes the chat templates. As in transformers, a file of its own wins over the configuration.
pub(super) fn write(
    files: &TokenizerFiles<'_>,
    tokenizer_config: &Value,
    entries: &mut Entries,
) -> Result<(), FormatError> {
    let mut templates: Vec<(String, String)> = Vec::new();
    let mut source = "additional_chat_templates";
    let text = |file: &str, bytes: &[u8]| -> Result<String, FormatError> {
        check_size(files, file, bytes)?;
        let text = std::str::from_utf8(bytes);
        Ok(text
            .map_err(|_| error(files, file, "is not UTF-8", ""))?
            .to_owned())
    };
    if let Some(bytes) = files.chat_template {
        templates.push(("default".to_owned(), text("chat_template.jinja", bytes)?));
        for (name, bytes) in files.additional_chat_templates {
            let file = format!("additional_chat_templates/{name}.jinja");
            templates.push((alphanumeric(name), text(&file, bytes)?));
        }
    } else {
        let json = object(files, "chat_template.json", files.chat_template_json)?;
        let configured = [
            ("chat_template.json", &json["chat_template"]),
            ("tokenizer_config.json", &tokenizer_config["chat_template"]),
        ];
        if let Some((file, template)) = configured.iter().find(|(_, found)| !found.is_null()) {
            source = file;
            templates = read(template).ok_or_else(|| {
                let what = "has a chat_template that is no text and no list of name and template";
                error(files, file, what, "")
            })?;
        }
    }
    if templates.len() > MAX_TEMPLATES {
        let what = format!("has more than {MAX_TEMPLATES} chat templates");
        return Err(error(files, source, &what, ""));
    }
    // The first of two of one name counts.
    let mut names: Vec<&str> = Vec::new();
    for (name, template) in &templates {
        if names.contains(&&**name) {
            continue;
        }
        names.push(name);
        let key = match &**name {
            "default" => "tokenizer.chat_template".to_owned(),
            name => format!("tokenizer.chat_template.{name}"),
        };
        entries.push((key, template.as_str().into()));
    }
    names.retain(|name| *name != "default");
    if !names.is_empty() {
        entries.push((
            "tokenizer.chat_templates".to_owned(),
            EncodedValue::strings(names),
        ));
    }
    Ok(())
}

/// A template, or several by name.
fn read(value: &Value) -> Option<Vec<(String, String)>> {
    if let Some(template) = value.as_str() {
        return Some(vec![("default".to_owned(), template.to_owned())]);
    }
    let named = value.as_array()?.iter().map(|item| {
        let name = alphanumeric(item["name"].as_str()?);
        Some((name, item["template"].as_str()?.to_owned()))
    });
    let named: Vec<(String, String)> = named.collect::<Option<_>>()?;
    Some(
        named
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .collect(),
    )
}

/// `name` as part of a key.
fn alphanumeric(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}
