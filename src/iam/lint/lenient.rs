//! A document, parsed leniently for the rules: missing elements are empty, unknown ones are ignored. The strict parser
//! is `document`; lint needs a second one because it checks documents that the strict parser refuses.

use super::Kind;
use crate::iam::json::Json;
use crate::iam::service::{Action, actions_named};

/// A document.
pub(super) struct LenientDocument<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Whether policy variables are enabled.
    pub(super) variables: bool,
    pub(super) statements: Vec<LenientStatement>,
}

/// A statement.
#[derive(Default)]
pub(super) struct LenientStatement {
    pub(super) number: usize,
    pub(super) sid: Option<String>,
    pub(super) allows: bool,
    pub(super) denies: bool,
    /// Kind and name.
    pub(super) principals: Vec<(String, String)>,
    pub(super) not_principal: bool,
    pub(super) actions: Vec<String>,
    pub(super) not_action: bool,
    pub(super) resources: Vec<String>,
    pub(super) not_resource: bool,
    pub(super) conditions: Vec<LenientCondition>,
}

/// A condition.
pub(super) struct LenientCondition {
    /// As written.
    pub(super) operator: String,
    /// Without `ForAllValues:`, `ForAnyValue:` and `IfExists`, lower case.
    pub(super) bare: String,
    pub(super) for_all: bool,
    pub(super) for_any: bool,
    pub(super) if_exists: bool,
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

impl LenientCondition {
    /// Whether it compares texts, with wildcards or without.
    pub(super) fn compares_text(&self) -> bool {
        self.bare.starts_with("string")
    }

    /// Whether its values may contain wildcards.
    pub(super) fn has_wildcards(&self) -> bool {
        self.bare.ends_with("like") || self.bare.starts_with("arn")
    }

    /// Whether it is true for a request without the key.
    pub(super) fn true_without_key(&self) -> bool {
        self.if_exists || self.for_all || self.bare.contains("not") && !self.for_any
    }
}

impl LenientStatement {
    /// Whether the statement's `Action` names an action.
    pub(super) fn names(&self, action: &str) -> bool {
        !self.not_action && self.known_actions().any(|known| known.name == action)
    }

    /// SES's actions that its `Action` names. Nothing for `NotAction`.
    pub(super) fn known_actions(&self) -> impl Iterator<Item = Action> {
        let named = if self.not_action { &[] } else { self.actions.as_slice() };
        named.iter().flat_map(|text| actions_named(text))
    }
}

impl<'a> LenientDocument<'a> {
    pub(super) fn read(kind: Kind, text: &'a str, variables: bool, statements: Vec<Json>) -> Self {
        let statements =
            statements.into_iter().enumerate().map(|(before, value)| statement(before + 1, value)).collect();
        Self { kind, text, variables, statements }
    }
}

fn statement(number: usize, value: Json) -> LenientStatement {
    let mut statement = LenientStatement { number, ..LenientStatement::default() };
    for (element, value) in members(value) {
        match element.as_str() {
            "Sid" => statement.sid = value.into_text(),
            "Effect" => {
                let effect = value.into_text().unwrap_or_default();
                (statement.allows, statement.denies) = (effect == "Allow", effect == "Deny");
            }
            "Principal" | "NotPrincipal" => {
                statement.not_principal = element == "NotPrincipal";
                statement.principals = match value {
                    Json::Text(name) => vec![("*".to_owned(), name)],
                    object => members(object)
                        .into_iter()
                        .flat_map(|(kind, names)| texts(names).into_iter().map(move |name| (kind.clone(), name)))
                        .collect(),
                };
            }
            "Action" | "NotAction" => {
                (statement.not_action, statement.actions) = (element == "NotAction", texts(value));
            }
            "Resource" | "NotResource" => {
                (statement.not_resource, statement.resources) = (element == "NotResource", texts(value));
            }
            "Condition" => {
                statement.conditions =
                    members(value).into_iter().flat_map(|(name, keys)| condition(&name, keys)).collect()
            }
            _ => {}
        }
    }
    statement
}

fn condition(operator: &str, keys: Json) -> Vec<LenientCondition> {
    let folded = operator.to_ascii_lowercase();
    let (for_all, for_any) = (folded.starts_with("forallvalues:"), folded.starts_with("foranyvalue:"));
    let bare = folded.rsplit(':').next().unwrap_or_default();
    let (bare, if_exists) = bare.strip_suffix("ifexists").map_or((bare, false), |bare| (bare, true));
    members(keys)
        .into_iter()
        .map(|(key, values)| LenientCondition {
            operator: operator.to_owned(),
            bare: bare.to_owned(),
            for_all,
            for_any,
            if_exists,
            key,
            values: texts(values),
        })
        .collect()
}

fn members(value: Json) -> Vec<(String, Json)> {
    match value {
        Json::Object(members) => members,
        _ => Vec::new(),
    }
}

fn texts(value: Json) -> Vec<String> {
    match value {
        Json::Array(list) => list.into_iter().filter_map(Json::into_text).collect(),
        single => single.into_text().into_iter().collect(),
    }
}
