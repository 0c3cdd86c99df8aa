//! A name and a password, from AUTH to the authenticator.

use std::fmt;

/// The credentials of AUTH PLAIN or LOGIN. RFC 4616, RFC 4954.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authentication identity; at most 255 octets.
    pub name: String,
    /// The password.
    pub password: Password,
}

/// A password. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password in clear: for the authenticator only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
