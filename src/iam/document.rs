//! IAM policy documents: JSON in, statements out. Strict: an element, operator or value that is not understood is an error
//! that names statement and key. IAM User Guide, "Grammar of the IAM JSON policy language".

use super::condition::{Condition, ConditionError};
use super::json::Json;
use super::pattern::Pattern;

/// What a document is attached to. This determines its required and forbidden elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A user, group or role; also a permissions boundary, session policy or SCP. No `Principal`.
    Identity,
    /// To a resource, or to a VPC endpoint. `Principal` is needed.
    Resource,
}

/// A policy document.
#[derive(Clone, Debug)]
pub struct Document {
    /// A name for messages: the file.
    pub name: String,
    /// Whether policy variables count: `Version` 2012-10-17.
    pub variables: bool,
    /// Its statements, in order.
    pub statements: Vec<Statement>,
}

/// Allow or Deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `Allow`.
    Allow,
    /// `Deny`.
    Deny,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Counted from 1.
    pub number: usize,
    /// `Sid`.
    pub sid: Option<String>,
    /// `Effect`.
    pub effect: Effect,
    /// `Principal` or `NotPrincipal`.
    pub principal: Option<Principals>,
    /// `Action` or `NotAction`.
    pub actions: Actions,
    /// `Resource` or `NotResource`. Absent in trust policies and, by convention, where the resource is the document's own.
    pub resources: Option<Resources>,
    /// `Condition`: all of them must hold.
    pub conditions: Vec<Condition>,
}

/// `Action` or `NotAction`.
#[derive(Clone, Debug)]
pub struct Actions {
    /// `NotAction`.
    pub negated: bool,
    /// As written, and compiled.
    pub patterns: Vec<(String, Pattern)>,
}

/// `Resource` or `NotResource`.
#[derive(Clone, Debug)]
pub struct Resources {
    /// `NotResource`.
    pub negated: bool,
    /// As written, and compiled by parts.
    pub patterns: Vec<ArnPattern>,
}

/// An ARN with wildcards: as written, and its six parts.
pub type ArnPattern = (String, Box<[Pattern; 6]>);

/// `Principal` or `NotPrincipal`.
#[derive(Clone, Debug)]
pub struct Principals {
    /// `NotPrincipal`.
    pub negated: bool,
    /// Kind (`AWS`, `Service`, `Federated`, `CanonicalUser`, or `*` for all principals) and value, as written.
    pub names: Vec<(String, String)>,
}

/// Why a document is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Typographic quotes: copied out of a text processor or a web page.
    #[error("{document}, line {line}: typographic quote {quote:?}; JSON needs the plain \\\"")]
    TypographicQuote {
        /// The document's name.
        document: String,
        /// Counted from 1.
        line: usize,
        /// The character.
        quote: char,
    },
    /// Not JSON, or a key twice in one object.
    #[error("{document}: {text}")]
    Json {
        /// The document's name.
        document: String,
        /// The error of the JSON parser.
        text: String,
    },
    /// Not a policy.
    #[error("{document}, {place}: {text}")]
    Policy {
        /// The document's name.
        document: String,
        /// `statement 2 ("SidOfIt")`, or `document`.
        place: String,
        /// The error.
        text: String,
    },
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// The first error of the document.
    pub fn parse(name: &str, json: &str, kind: DocumentKind) -> Result<Self, DocumentError> {
        let (variables, statements) = open(name, json)?;
        let statements = statements
            .into_iter()
            .enumerate()
            .map(|(before, value)| read_statement(before + 1, value, variables, kind).map_err(|wrong| wrong.of(name)))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), variables, statements })
    }

    /// Resource patterns that AWS does not allow, each with its position and the reason. They match no resource here.
    pub fn resources_not_allowed(&self) -> impl Iterator<Item = (String, &str, &'static str)> {
        self.statements.iter().flat_map(move |statement| {
            let patterns = statement.resources.iter().flat_map(|resources| &resources.patterns);
            patterns.filter_map(move |(text, _)| {
                Some((statement.place(), text.as_str(), super::arn::not_allowed(text, self.variables)?))
            })
        })
    }
}

/// Parses a document up to its statements: whether policy variables are enabled, and the statements.
pub(super) fn open(name: &str, json: &str) -> Result<(bool, Vec<Json>), DocumentError> {
    if let Some((line, quote)) = typographic_quote(json) {
        return Err(DocumentError::TypographicQuote { document: name.to_owned(), line, quote });
    }
    let value: Json = serde_json::from_str(json)
        .map_err(|error| DocumentError::Json { document: name.to_owned(), text: error.to_string() })?;
    read_document(value).map_err(|wrong| wrong.of(name))
}

impl Statement {
    /// `statement 2 ("SidOfIt")`.
    pub fn place(&self) -> String {
        place(self.number, self.sid.as_deref())
    }

    /// The condition keys of its conditions and policy variables, lower case.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let actions = self.actions.patterns.iter().map(|(_, pattern)| pattern);
        let resources = self.resources.iter().flat_map(|resources| &resources.patterns).flat_map(|(_, parts)| &**parts);
        let conditions = self.conditions.iter();
        conditions
            .flat_map(|condition| std::iter::once(condition.key_folded.as_str()).chain(condition.variables()))
            .chain(actions.chain(resources).flat_map(Pattern::variables))
    }
}

fn place(number: usize, sid: Option<&str>) -> String {
    match sid {
        Some(sid) => format!("statement {number} ({sid:?})"),
        None => format!("statement {number}"),
    }
}

/// A typographic quote where JSON requires a straight one: next to a key or value, outside of one. Inside a string it
/// may be intended.
fn typographic_quote(json: &str) -> Option<(usize, char)> {
    let mut inside = false;
    let mut escaped = false;
    let mut line = 1;
    for c in json.chars() {
        match c {
            '\n' => line += 1,
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}' | '\u{ab}' | '\u{bb}' if !inside => {
                return Some((line, c));
            }
            _ => {}
        }
    }
    None
}

/// An error in one statement, or in the document around the statements.
#[derive(Debug)]
pub(super) struct Wrong {
    place: String,
    pub(super) text: String,
}

impl Wrong {
    fn of(self, document: &str) -> DocumentError {
        DocumentError::Policy { document: document.to_owned(), place: self.place, text: self.text }
    }
}

fn read_document(value: Json) -> Result<(bool, Vec<Json>), Wrong> {
    let whole = |text: String| Wrong { place: "document".to_owned(), text };
    let Json::Object(members) = value else { return Err(whole("must be an object".to_owned())) };
    let mut version = None;
    let mut statements = None;
    for (key, value) in members {
        match key.as_str() {
            "Version" => version = Some(value.into_text().ok_or_else(|| whole("Version must be text".to_owned()))?),
            "Id" => {}
            "Statement" => {
                statements = Some(match value {
                    Json::Array(list) => list,
                    single @ Json::Object(_) => vec![single],
                    _ => return Err(whole("Statement must be an object or a list of objects".to_owned())),
                });
            }
            other => return Err(whole(format!("unknown element {other:?}; known are Version, Id, Statement"))),
        }
    }
    // "IAM JSON policy elements: Version": without it, 2008-10-17.
    let variables = match version.as_deref() {
        Some("2012-10-17") => true,
        Some("2008-10-17") | None => false,
        Some(other) => return Err(whole(format!("unknown Version {other:?}; known are 2012-10-17 and 2008-10-17"))),
    };
    let statements = statements.ok_or_else(|| whole("has no Statement".to_owned()))?;
    if statements.is_empty() {
        return Err(whole("has no statements".to_owned()));
    }
    Ok((variables, statements))
}

pub(super) fn read_statement(
    number: usize,
    value: Json,
    variables: bool,
    kind: DocumentKind,
) -> Result<Statement, Wrong> {
    let Json::Object(members) = value else {
        return Err(Wrong { place: place(number, None), text: "must be an object".to_owned() });
    };
    let sid = members.iter().find(|(key, _)| key == "Sid").and_then(|(_, value)| value.clone().into_text());
    let wrong = |text: String| Wrong { place: place(number, sid.as_deref()), text };
    let (mut effect, mut principal, mut actions, mut resources) = (None, None, None, None);
    let mut conditions = Vec::new();
    for (key, value) in members {
        let negated = key.starts_with("Not");
        let twice = |name: &str| wrong(format!("{name} and Not{name} exclude each other"));
        match key.as_str() {
            "Sid" => drop(value.into_text().ok_or_else(|| wrong("Sid must be text".to_owned()))?),
            "Effect" => {
                effect = Some(match value.into_text().as_deref() {
                    Some("Allow") => Effect::Allow,
                    Some("Deny") => Effect::Deny,
                    _ => return Err(wrong("Effect must be \"Allow\" or \"Deny\"".to_owned())),
                });
            }
            "Principal" | "NotPrincipal" => {
                let names = read_principals(value).map_err(wrong)?;
                if principal.replace(Principals { negated, names }).is_some() {
                    return Err(twice("Principal"));
                }
            }
            "Action" | "NotAction" => {
                let patterns = read_actions(&key, value).map_err(wrong)?;
                if actions.replace(Actions { negated, patterns }).is_some() {
                    return Err(twice("Action"));
                }
            }
            "Resource" | "NotResource" => {
                let patterns = read_resources(&key, value, variables).map_err(wrong)?;
                if resources.replace(Resources { negated, patterns }).is_some() {
                    return Err(twice("Resource"));
                }
            }
            "Condition" => conditions = read_conditions(value, variables).map_err(wrong)?,
            other => return Err(wrong(format!("unknown element {other:?}"))),
        }
    }
    let effect = effect.ok_or_else(|| wrong("has no Effect".to_owned()))?;
    let actions = actions.ok_or_else(|| wrong("has no Action or NotAction".to_owned()))?;
    match (kind, &principal, &resources) {
        (DocumentKind::Identity, Some(_), _) => {
            return Err(wrong("Principal is permitted in resource and endpoint policies only".to_owned()));
        }
        (DocumentKind::Identity, None, None) => return Err(wrong("has no Resource or NotResource".to_owned())),
        (DocumentKind::Resource, None, _) => return Err(wrong("has no Principal or NotPrincipal".to_owned())),
        _ => {}
    }
    Ok(Statement { number, sid, effect, principal, actions, resources, conditions })
}

fn read_actions(key: &str, value: Json) -> Result<Vec<(String, Pattern)>, String> {
    texts(key, value)?
        .into_iter()
        .map(|text| {
            let shaped = text == "*"
                || text.split_once(':').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
            if !shaped {
                return Err(format!("{key} {text:?} must be * or service:action"));
            }
            // Actions have wildcards but no variables, and are compared without case.
            let pattern = Pattern::compile(&text, true, false).map_err(|error| error.to_string())?;
            Ok((text, pattern))
        })
        .collect()
}

fn read_resources(key: &str, value: Json, variables: bool) -> Result<Vec<ArnPattern>, String> {
    texts(key, value)?
        .into_iter()
        .map(|text| match super::arn::compile_resource(&text, variables) {
            Some(patterns) => Ok((text, patterns)),
            None => Err(format!("{key} {text:?} must be * or arn:partition:service:region:account:resource")),
        })
        .collect()
}

fn read_principals(value: Json) -> Result<Vec<(String, String)>, String> {
    match value {
        Json::Text(text) if text == "*" => Ok(vec![("*".to_owned(), "*".to_owned())]),
        Json::Object(members) => {
            let mut names = Vec::new();
            for (kind, value) in members {
                if !matches!(kind.as_str(), "AWS" | "Service" | "Federated" | "CanonicalUser") {
                    return Err(format!(
                        "unknown kind of Principal {kind:?}; known are AWS, Service, Federated, CanonicalUser"
                    ));
                }
                names.extend(texts("Principal", value)?.into_iter().map(|name| (kind.clone(), name)));
            }
            if names.is_empty() {
                return Err("Principal is an empty object".to_owned());
            }
            Ok(names)
        }
        _ => Err("Principal must be \"*\" or an object".to_owned()),
    }
}

fn read_conditions(value: Json, variables: bool) -> Result<Vec<Condition>, String> {
    let Json::Object(operators) = value else { return Err("Condition must be an object of operators".to_owned()) };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Json::Object(keys) = keys else { return Err(format!("{operator} must be an object of condition keys")) };
        if keys.is_empty() {
            // An empty condition would leave an unconditional Allow.
            return Err(format!("{operator} has no condition keys"));
        }
        for (key, values) in keys {
            if !key.contains(':') || key.chars().any(char::is_whitespace) {
                return Err(format!("{operator}: {key:?} is not a condition key"));
            }
            let values = texts(&key, values)?;
            let condition = Condition::compile(&operator, &key, values, variables);
            conditions.push(condition.map_err(|error: ConditionError| error.to_string())?);
        }
    }
    Ok(conditions)
}

/// A text or a list of them. Numbers and booleans count as their text, as for AWS.
fn texts(key: &str, value: Json) -> Result<Vec<String>, String> {
    let list = match value {
        Json::Array(list) => list,
        single => vec![single],
    };
    let texts: Option<Vec<String>> = list.into_iter().map(Json::into_text).collect();
    match texts {
        Some(texts) if !texts.is_empty() => Ok(texts),
        Some(_) => Err(format!("{key} is an empty list")),
        None => Err(format!("{key} must be text or a list of texts")),
    }
}
