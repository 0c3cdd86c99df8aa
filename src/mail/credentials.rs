//! A name and a password, on their way from AUTH to whoever verifies them.

use std::fmt;

/// What AUTH PLAIN or LOGIN carried. RFC 4616, RFC 4954.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authentication identity; at most 255 octets.
    pub name: String,
    /// The password.
    pub password: Password,
}

/// A password. Does not print.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Takes a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself: for the verifier only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
