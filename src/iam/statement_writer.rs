//! Writes generated policies, with statements in a readable order, and the commands that apply them.

use super::lint::Kind;
use serde::Serialize;
use std::collections::BTreeMap;

/// One document.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Generated {
    /// The title.
    pub title: String,
    /// The file's name that the commands use.
    pub file: String,
    /// The kind, for [`super::lint::lint`].
    #[serde(skip)]
    pub kind: Kind,
    /// The document; one line, without white space between.
    pub json: String,
    /// The commands that apply the document.
    pub commands: Vec<String>,
    /// Notes to read before.
    pub notes: Vec<String>,
}

/// A policy, with its elements in a readable order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    pub(super) version: &'static str,
    pub(super) statement: Vec<Line>,
}

/// A statement.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Line {
    pub(super) sid: &'static str,
    pub(super) effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<Who>,
    pub(super) action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) condition: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

/// A principal: all, or kind and names.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Who {
    Everybody(&'static str),
    Named(BTreeMap<&'static str, Vec<String>>),
}

impl Who {
    pub(super) fn named(kind: &'static str, names: Vec<String>) -> Option<Self> {
        Some(Self::Named(BTreeMap::from([(kind, names)])))
    }
}

impl Line {
    pub(super) fn when(mut self, operator: &'static str, key: impl Into<String>, values: Vec<String>) -> Self {
        self.condition.entry(operator).or_default().insert(key.into(), values);
        self
    }
}

/// A document by itself.
pub(super) fn document(title: impl Into<String>, file: &str, kind: Kind, statement: Vec<Line>) -> Generated {
    let policy = Policy { version: "2012-10-17", statement };
    // Serialising maps and lists of strings cannot fail.
    let json = serde_json::to_string(&policy).unwrap_or_default();
    Generated { title: title.into(), file: file.to_owned(), kind, json, commands: Vec::new(), notes: Vec::new() }
}

impl Generated {
    pub(super) fn command(mut self, command: String) -> Self {
        self.commands.push(command);
        self
    }

    pub(super) fn noted(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }
}
