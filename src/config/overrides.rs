//! Overrides from the environment: `GATEPOST_SES__REGION=eu-west-1`, `GATEPOST_LISTENER__0__ADDRESS=127.0.0.1:2525`.
//!
//! Two underscores separate the keys of a path; a number is an index of a list, and the index after the last one adds an
//! entry. A value is parsed as TOML, and taken as plain text if it is no TOML value or the key accepts text. A variable that
//! matches no key is an error: a misspelt name must not start a relay with other settings than intended.

use super::Config;
use super::diagnostics::{ConfigError, Diagnostic};
use super::error_hints::translate;
use super::source_map::{Location, SourceMap};
use serde::Deserialize;
use toml::{Table, Value};

/// Variables of gatepost that are not overrides.
const RESERVED: [&str; 2] = ["GATEPOST_CONFIG", "GATEPOST_LOG"];

/// The variables that are overrides, ordered by name, so that LISTENER__0 comes before LISTENER__1 and the result is
/// deterministic.
pub(super) fn overrides(environment: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut overrides: Vec<(String, String)> = environment.filter(|(name, _)| is_override(name)).collect();
    overrides.sort();
    overrides
}

/// Applies them to the table of the file. Without any, `read` is the result.
pub(super) fn apply(
    read: Config,
    table: Table,
    source_map: &mut SourceMap,
    overrides: Vec<(String, String)>,
) -> Result<Config, ConfigError> {
    let (mut config, mut table) = (read, table);
    let mut diagnostics = Vec::new();
    for (variable, text) in overrides {
        let steps: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        match applied(&table, &steps, &text) {
            Ok((changed, value)) => {
                (config, table) = (changed, value);
                source_map.overridden(&steps.join("."), &variable);
            }
            Err((message, hint)) => {
                diagnostics.push(Diagnostic { location: Location::Variable(variable), message, hint });
            }
        }
    }
    if diagnostics.is_empty() { Ok(config) } else { Err(ConfigError::Wrong(diagnostics)) }
}

/// Sections whose keys are overridden; none has an underscore in its name.
const SECTIONS: [&str; 18] = [
    "log",
    "listener",
    "tls",
    "auth",
    "policy",
    "app",
    "limit",
    "redis",
    "limits",
    "pace",
    "aws",
    "ses",
    "smtp",
    "connections",
    "admin",
    "header",
    "memory",
    "deadline",
];

const PREFIX: &str = "GATEPOST_";

/// Kubernetes and Docker links put variables into every container for a service that is called "gatepost":
/// GATEPOST_SERVICE_HOST, GATEPOST_PORT, GATEPOST_PORT_25_TCP_ADDR. They are no settings.
fn is_override(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let link = ["SERVICE_HOST", "SERVICE_PORT", "PORT"];
    let linked = !rest.contains("__")
        && link.iter().any(|word| rest.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')));
    !RESERVED.contains(&name) && !linked
}

type Failure = (String, Option<String>);

fn applied(table: &Table, steps: &[String], text: &str) -> Result<(Config, Table), Failure> {
    let as_text = Value::String(text.to_owned());
    let first = text.parse::<Value>().unwrap_or_else(|_| as_text.clone());
    let failure = match with(table, steps, first.clone()) {
        Ok(done) => return Ok(done),
        Err(failure) => failure,
    };
    if first == as_text {
        return Err(failure);
    }
    with(table, steps, as_text).map_err(|_| failure)
}

fn with(table: &Table, steps: &[String], value: Value) -> Result<(Config, Table), Failure> {
    let mut whole = Value::Table(table.clone());
    put(&mut whole, steps, value)?;
    let translated = |error: toml::de::Error| {
        let translated = translate(error.message(), &steps.join("."));
        let hint = match &translated.message {
            message if message.ends_with("expected a list") => {
                let form = translated.hint.unwrap_or_default();
                Some(format!("write a list as in the file: [\"…\", \"…\"]; {form}"))
            }
            message if message.starts_with("unknown key") => one_underscore(table, steps).or(translated.hint),
            _ => translated.hint,
        };
        (translated.message, hint)
    };
    let config = Config::deserialize(whole.clone()).map_err(translated)?;
    match whole {
        Value::Table(table) => Ok((config, table)),
        _ => Err(("names no key".to_owned(), None)),
    }
}

/// `GATEPOST_SES_REGION`: the name of a section and one underscore.
fn one_underscore(table: &Table, steps: &[String]) -> Option<String> {
    let (section, key) = steps.first()?.split_once('_')?;
    let known = SECTIONS.contains(&section) && !key.is_empty() && !table.contains_key(&steps[0]);
    let name = || format!("{PREFIX}{}__{}", section.to_ascii_uppercase(), key.to_ascii_uppercase());
    known.then(|| format!("two underscores separate section and key: {}", name()))
}

fn put(node: &mut Value, steps: &[String], value: Value) -> Result<(), Failure> {
    let Some((step, rest)) = steps.split_first() else {
        *node = value;
        return Ok(());
    };
    // A missing key becomes a list if the next step is an index.
    let missing = || match rest.first() {
        Some(next) if next.parse::<usize>().is_ok() => Value::Array(Vec::new()),
        Some(_) => Value::Table(Table::new()),
        None => Value::Boolean(false),
    };
    let next = match node {
        Value::Table(table) => table.entry(step.clone()).or_insert_with(missing),
        Value::Array(list) => {
            let entries = list.len();
            let index = step.parse::<usize>().ok().filter(|index| *index <= entries);
            let Some(index) = index else {
                let hint = format!("the list has {entries}; the next one is {entries}");
                return Err((format!("{step} is not an index of the list"), Some(hint)));
            };
            if index == entries {
                list.push(missing());
            }
            &mut list[index]
        }
        _ => return Err((format!("this key has no keys below it, so there is no {step}"), None)),
    };
    put(next, rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(Path::new("f.toml"), file, environment)
    }

    #[test]
    fn a_variable_overrides_the_file_and_may_make_new_entries() {
        let config = read(
            "hostname = 'a.example'\n[[listener]]\naddress = '127.0.0.1:25'\n",
            &[
                ("GATEPOST_HOSTNAME", "b.example"),
                ("GATEPOST_SES__REGION", "eu-west-1"),
                ("GATEPOST_SES__EMULATOR", "true"),
                ("GATEPOST_SES__PROFILE", "12"),
                ("GATEPOST_LISTENER__0__ADDRESS", "127.0.0.1:26"),
                ("GATEPOST_LISTENER__1__ADDRESS", "127.0.0.1:27"),
                ("GATEPOST_LISTENER__1__SOCKET_MODE", "600"),
                ("GATEPOST_POLICY__FROM", "['*@a.example', '*@b.example']"),
                ("GATEPOST_TLS__KEY", "{ credential = 'key' }"),
                ("GATEPOST_CONFIG", "/elsewhere"),
                ("GATEPOST_LOG", "debug"),
                ("GATEPOST_SERVICE_HOST", "10.0.0.1"),
                ("GATEPOST_PORT", "tcp://10.0.0.1:25"),
                ("GATEPOST_PORT_25_TCP", "tcp://10.0.0.1:25"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(config.hostname.as_ref().unwrap().0, "b.example");
        assert_eq!(config.ses.region.as_deref(), Some("eu-west-1"));
        assert_eq!(config.ses.profile.as_deref(), Some("12"), "text, although it is a number too");
        assert!(config.ses.emulator);
        assert_eq!(config.policy.from.len(), 2);
        let addresses: Vec<String> =
            config.listener.iter().map(|listener| listener.address.as_ref().unwrap().to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:26", "127.0.0.1:27"]);
        assert_eq!(config.source_map.of("ses.region").to_string(), "environment variable GATEPOST_SES__REGION");
    }

    #[test]
    fn a_variable_that_fits_no_key_is_an_error_that_names_it() {
        for (variable, value, message, hint) in [
            ("GATEPOST_SES__REGOIN", "x", "unknown key regoin in ses", "did you mean region?"),
            ("GATEPOST_SESS", "x", "unknown key sess", "did you mean ses?"),
            ("GATEPOST_HOSTNAME__X", "x", "this key has no keys below it", ""),
            ("GATEPOST_LISTENER__2__ADDRESS", "127.0.0.1:1", "2 is not an index of the list", "the next one is 1"),
            ("GATEPOST_SMTP__RECIPIENTS_MAX", "many", "expected a whole number", "recipients_max: "),
            ("GATEPOST_SMTP__RECIPIENTS_MAX", "1001", "1001 is out of range: 1 to 1000", "recipients_max: "),
            (
                "GATEPOST_SES_REGION",
                "x",
                "unknown key ses_region",
                "two underscores separate section and key: GATEPOST_SES__REGION",
            ),
            (
                "GATEPOST_POLICY__FROM",
                "*@a.example",
                "expected a list",
                "write a list as in the file: [\"…\", \"…\"]; from: ",
            ),
            ("GATEPOST_SES__REGION", "x", "", ""),
        ] {
            let read = read("hostname = 'a.example'\n[[listener]]\n", &[(variable, value)]);
            if message.is_empty() {
                assert!(read.is_ok());
                continue;
            }
            let text = read.unwrap_err().to_string();
            assert!(text.starts_with(&format!("environment variable {variable}: ")), "{text}");
            assert!(text.contains(message) && text.contains(hint), "{variable}={value}: {text}");
        }
    }
}
