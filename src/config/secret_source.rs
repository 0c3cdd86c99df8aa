//! A secret, or another text that need not be in the file: inline, or named by its source.
//!
//! `"text"`, `{ file = "…" }`, `{ env = "NAME" }` or `{ credential = "name" }`; the last is a file in
//! `$CREDENTIALS_DIRECTORY`, where systemd puts the files of `LoadCredential=`. The text itself is never printed.

use super::process_environment::ProcessEnvironment;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The source of a text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The text is in the configuration.
    Inline(String),
    /// The content of that file.
    File(PathBuf),
    /// The value of that environment variable.
    Env(String),
    /// The systemd credential of that name.
    Credential(String),
}

impl Source {
    /// Reads the text.
    ///
    /// # Errors
    /// [`SourceError`], which names the source.
    pub(crate) fn read(&self, process_environment: &ProcessEnvironment) -> Result<String, SourceError> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::Env(name) => process_environment.variable(name).map(str::to_owned).ok_or_else(|| SourceError {
                message: format!("the environment variable {name} is not set"),
                hint: format!("set {name} in the environment of the relay, such as Environment= of its systemd unit"),
            }),
            Self::File(_) | Self::Credential(_) => {
                let path = self.path(process_environment).ok_or_else(|| SourceError {
                    message: format!(
                        "{self} cannot be found: $CREDENTIALS_DIRECTORY is not set, so systemd passed none"
                    ),
                    hint: "name it in LoadCredential= of the systemd unit, or write { file = \"…\" }".to_owned(),
                })?;
                let text = std::fs::read_to_string(&path).map_err(|error| SourceError {
                    message: format!("cannot read {}: {error}", path.display()),
                    hint: unreadable(&path, &error),
                })?;
                // Some editors write a byte order mark: it would be a part of the first user's name.
                Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
            }
        }
    }

    /// The file that the text is read from, if it is a file.
    pub(crate) fn path(&self, process_environment: &ProcessEnvironment) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                process_environment.credentials_directory.as_ref().map(|directory| directory.join(name))
            }
            Self::Inline(_) | Self::Env(_) => None,
        }
    }

    /// Whether every user of the machine can read the file.
    pub(crate) fn is_world_readable(&self, process_environment: &ProcessEnvironment) -> bool {
        self.path(process_environment).is_some_and(|path| is_world_readable(&path))
    }
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SourceError {
    /// What is wrong, with the source.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// What to do about a file that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if path.is_relative() => {
            "correct the path: it is relative to the directory that gatepost is started in".to_owned()
        }
        io::ErrorKind::NotFound => "correct the path, or put the file there".to_owned(),
        io::ErrorKind::PermissionDenied => "let the relay's user read it: chown or chgrp, and chmod 0640".to_owned(),
        io::ErrorKind::InvalidData => {
            "the file must be text in UTF-8; a certificate or key must be PEM, not DER".to_owned()
        }
        io::ErrorKind::IsADirectory => "name a file in that directory".to_owned(),
        _ => "name a file that the relay's user can read".to_owned(),
    }
}

/// Whether every user of the machine can read that file. The permissions of its directories are not considered.
pub(super) fn is_world_readable(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[redacted]"),
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::Credential(name) => write!(f, "the credential {name}"),
        }
    }
}

const KINDS: [&str; 3] = ["file", "env", "credential"];

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> de::Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or one of { file = \"…\" }, { env = \"NAME\" }, { credential = \"name\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
        Ok(Source::Inline(text.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
        let Some(kind) = map.next_key::<SourceKey>()? else {
            return Err(de::Error::custom("the table is empty: one of file, env or credential is needed"));
        };
        let name: String = map.next_value()?;
        if map.next_key::<SourceKey>()?.is_some() {
            return Err(de::Error::custom("has two sources: only one of file, env and credential is permitted"));
        }
        if name.is_empty() || (kind == SourceKey::Credential && name.contains('/')) {
            return Err(de::Error::custom(format!("{name:?} names nothing that could be read")));
        }
        Ok(match kind {
            SourceKey::File => Source::File(name.into()),
            SourceKey::Env => Source::Env(name),
            SourceKey::Credential => Source::Credential(name),
        })
    }
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum SourceKey {
    File,
    Env,
    Credential,
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = serde_json::json!({ "type": "string" });
        let one = |kind: &str| {
            serde_json::json!({
                "type": "object", "additionalProperties": false, "required": [kind], "properties": { kind: text }
            })
        };
        let mut forms = vec![text.clone()];
        forms.extend(KINDS.map(one));
        let mut schema = Schema::default();
        schema.insert("anyOf".to_owned(), forms.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    struct Holder {
        secret: Source,
    }

    fn source(text: &str) -> Result<Source, toml::de::Error> {
        toml::from_str::<Holder>(&format!("secret = {text}")).map(|holder| holder.secret)
    }

    /// The first user of a list was called "\u{feff}ann", and could not authenticate.
    #[test]
    fn a_byte_order_mark_is_no_part_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        std::fs::write(&file, "\u{feff}ann:x\r\n").unwrap();
        assert_eq!(Source::File(file).read(&ProcessEnvironment::default()).unwrap(), "ann:x\r\n");
    }

    #[test]
    fn a_text_comes_from_one_of_four_places() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("name"), "from a credential").unwrap();
        let file = directory.path().join("name");
        let process_environment = ProcessEnvironment::new(
            vec![
                ("NAME".to_owned(), "from the environment".to_owned()),
                ("CREDENTIALS_DIRECTORY".to_owned(), directory.path().display().to_string()),
            ],
            None,
        );
        for (text, want) in [
            ("'inline'".to_owned(), Ok("inline")),
            (format!("{{ file = {:?} }}", file.display().to_string()), Ok("from a credential")),
            ("{ env = 'NAME' }".to_owned(), Ok("from the environment")),
            ("{ credential = 'name' }".to_owned(), Ok("from a credential")),
            ("{ env = 'MISSING' }".to_owned(), Err("MISSING is not set")),
            ("{ credential = 'missing' }".to_owned(), Err("cannot read")),
        ] {
            let read = source(&text).unwrap().read(&process_environment);
            match want {
                Ok(want) => assert_eq!(read.as_deref(), Ok(want), "{text}"),
                Err(want) => {
                    assert!(read.as_ref().is_err_and(|error| error.message.contains(want)), "{text}: {read:?}")
                }
            }
        }
        let nothing = ProcessEnvironment::default();
        assert!(
            source("{ credential = 'name' }")
                .unwrap()
                .read(&nothing)
                .unwrap_err()
                .message
                .contains("CREDENTIALS_DIRECTORY")
        );
    }

    #[test]
    fn two_places_none_or_an_unknown_one_are_errors() {
        for text in
            ["{ file = 'a', env = 'B' }", "{}", "{ vault = 'x' }", "3", "{ credential = '../x' }", "{ file = '' }"]
        {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Source::Inline("hunter2".to_owned());
        assert!(!format!("{secret:?} {secret} {}", serde_json::to_string(&secret).unwrap()).contains("hunter2"));
    }
}
