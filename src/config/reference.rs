//! `config/reference.toml`: every key with its description and its default or an example, generated from the schema.
//!
//! The file works as it stands, so that an operator can copy it. Sections that change what the relay does by being there are
//! comments; so are keys without a default, which show an example.

use super::Config;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write;

impl Config {
    /// The reference of all keys, which `config/reference.toml` contains.
    pub fn reference() -> String {
        let schema = Schema(schemars::schema_for!(Self).to_value());
        let mut reference = Reference { schema: &schema, text: HEAD.to_owned(), described: HashMap::new() };
        let (sections, keys): (Vec<_>, Vec<_>) =
            schema.properties(&schema.0).into_iter().partition(|(_, property)| schema.is_table(property));
        for (name, property) in keys {
            reference.text.push('\n');
            reference.key("", name, property, false);
        }
        for (name, property) in sections {
            reference.section(name, property);
        }
        reference.text
    }
}

const HEAD: &str = r##"#:schema ./schema.json
# Every key of gatepost's configuration, with its default. A line that begins with "# key =" shows a key that has no
# default, with an example, or a section that is off by default. This file works as it is, except for the region, which comes
# from the environment. `gatepost reference` prints it.
#
# Location: --config FILE, else $GATEPOST_CONFIG, else /etc/gatepost/gatepost.toml.
# Paths: relative paths are relative to the directory that gatepost is started in, not to this file.
# Overrides: GATEPOST_SECTION__KEY=value in the environment, for example
#   GATEPOST_SES__REGION=eu-west-1, GATEPOST_LISTENER__0__ADDRESS=127.0.0.1:25, GATEPOST_POLICY__FROM='["*@example.com"]'.
#   A value is TOML, or else plain text. Names are converted to lower case. A variable that matches no key is an error. With
#   --config /dev/null, the environment is the whole configuration.
# Secrets: a key with { file = "…" } in its description takes the text itself in quotes, or { file = "PATH" }, or
#   { env = "NAME" }, or { credential = "NAME" } for a file that systemd's LoadCredential= puts into $CREDENTIALS_DIRECTORY.
# Check a file with `gatepost check --config FILE`. Editors read schema.json.
"##;

/// Sections that are comments: without them, the feature is off.
const OFF: [&str; 7] = ["app", "limit", "limits", "redis", "aws", "ses_emulator", "admin"];
/// Keys whose default does not work, so the file sets the example.
const SET: [&str; 2] = ["listener.address", "policy.from"];
/// The width of a comment.
const WIDTH_MAX: usize = 120;

struct Reference<'a> {
    schema: &'a Schema,
    text: String,
    /// Key and description → the section that showed them. Sections share keys.
    described: HashMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Reference<'a> {
    fn section(&mut self, name: &'a str, property: &'a Value) {
        let is_off = OFF.contains(&name);
        let mark = if is_off { "# " } else { "" };
        self.text.push('\n');
        self.comment(&format!("--- {}", description(property)));
        let is_list = property.get("items").is_some();
        let _ = writeln!(self.text, "{mark}{}", if is_list { format!("[[{name}]]") } else { format!("[{name}]") });
        let properties = self.schema.properties(self.schema.table(property));
        let (tables, keys): (Vec<_>, Vec<_>) =
            properties.into_iter().partition(|(_, property)| self.schema.is_table(property));
        let mut shown_in = None;
        for (key, property) in keys {
            self.describe(name, key, property, &mut shown_in);
            self.key(name, key, property, is_off);
        }
        for (key, property) in tables {
            if !is_off {
                self.text.push('\n');
            }
            self.describe(name, key, property, &mut shown_in);
            // A table that is null by default has keys without a default.
            let mark = if property.get("default").is_none_or(Value::is_null) { "# " } else { mark };
            let _ = writeln!(self.text, "{mark}[{name}.{key}]");
            for (key, value) in example(property).and_then(Value::as_object).into_iter().flatten() {
                let _ = writeln!(self.text, "# {} = {}", quoted(key), toml(value));
            }
        }
    }

    /// The description of a key, or the section that has it. `shown_in`: the section of the key before.
    fn describe(&mut self, section: &'a str, key: &'a str, property: &'a Value, shown_in: &mut Option<&'a str>) {
        let first = *self.described.entry((key, description(property))).or_insert(section);
        if first == section {
            self.comment(description(property));
            *shown_in = None;
        } else if shown_in.replace(first) != Some(first) {
            let _ = writeln!(self.text, "# As in [{first}]:");
        }
    }

    /// One key with its value.
    fn key(&mut self, section: &'a str, key: &'a str, property: &'a Value, is_off: bool) {
        if section.is_empty() {
            self.comment(description(property));
        }
        let default = property.get("default").filter(|value| !value.is_null());
        let is_empty = default.is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        let example = example(property);
        let is_set = SET.contains(&format!("{section}.{key}").as_str());
        let (mark, value) = match (default, example) {
            (_, Some(example)) if is_set => ("", example),
            (_, Some(example)) if is_empty => ("# ", example),
            (Some(default), _) => (if is_off { "# " } else { "" }, default),
            (None, _) => ("# ", &Value::Null),
        };
        let _ = writeln!(self.text, "{mark}{} = {}", quoted(key), toml(value));
    }

    /// A text as comment lines.
    fn comment(&mut self, text: &str) {
        // In rustdoc, brackets need backticks.
        let text = text.replace("`[", "[").replace("]`", "]");
        let mut line = "#".to_owned();
        for word in words(&text) {
            if line.chars().count() + 1 + word.chars().count() > WIDTH_MAX {
                let _ = writeln!(self.text, "{line}");
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(&word);
        }
        let _ = writeln!(self.text, "{line}");
    }
}

/// A JSON schema, with the definitions that it refers to.
struct Schema(Value);

impl Schema {
    /// The definition behind a reference, or behind the only alternative to null.
    fn resolved<'a>(&'a self, node: &'a Value) -> &'a Value {
        if let Some(name) = node.get("$ref").and_then(Value::as_str) {
            return self.0.pointer(name.trim_start_matches('#')).unwrap_or(node);
        }
        let choices = node.get("anyOf").and_then(Value::as_array).map(Vec::as_slice);
        match choices {
            Some([one, null]) if null.get("type").is_some_and(|kind| kind == "null") => self.resolved(one),
            _ => node,
        }
    }

    /// The definition of a section: of the table, or of the tables in a list.
    fn table<'a>(&'a self, property: &'a Value) -> &'a Value {
        let node = self.resolved(property);
        node.get("items").map_or(node, |items| self.resolved(items))
    }

    /// Whether a key is written as a table: a section, or names with values. A list of texts is none, and a source neither.
    fn is_table(&self, property: &Value) -> bool {
        let node = self.resolved(property);
        let is_map = |node: &Value| node.get("additionalProperties").is_some_and(Value::is_object);
        let is_section = |node: &Value| node.get(super::section::ORDER).is_some();
        is_map(node) || node.get("properties").is_some() || is_section(self.table(property))
    }

    /// The keys of a table, in the order of the section.
    fn properties<'a>(&'a self, table: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let properties = table.get("properties").and_then(Value::as_object);
        let order = table.get(super::section::ORDER).and_then(Value::as_array).into_iter().flatten();
        let found = |key: &'a Value| properties.and_then(|all: &Map<_, _>| all.get_key_value(key.as_str()?));
        order.filter_map(found).map(|(key, property)| (key.as_str(), property)).collect()
    }
}

/// The words of a text. A value such as `{ file = "…" }` is one of them.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut depth = 0_usize;
    for word in text.split_whitespace() {
        match words.last_mut().filter(|_| depth > 0) {
            Some(value) => *value = format!("{value} {word}"),
            None => words.push(word.to_owned()),
        }
        depth = (depth + word.matches('{').count()).saturating_sub(word.matches('}').count());
    }
    words
}

fn description(property: &Value) -> &str {
    property.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn example(property: &Value) -> Option<&Value> {
    property.get("examples")?.get(0)
}

/// A key, in quotes if it needs them.
fn quoted(key: &str) -> String {
    let is_bare = key.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'));
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

fn toml(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}
