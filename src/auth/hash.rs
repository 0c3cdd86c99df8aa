//! Password hashes: argon2id (RFC 9106) and bcrypt, in the text forms that every tool writes.

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::fmt;

/// Why a text is not a supported hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Neither `$argon2id$…` nor `$2b$…`.
    #[error("not an argon2id or bcrypt hash; make one with `gatepost hash-password`")]
    UnknownForm,
    /// The text has the form of a hash but is invalid.
    #[error("malformed hash: {0}")]
    Malformed(String),
    /// Verification would cost too much memory or time.
    #[error("hash costs too much: at most {MEMORY_KIB_MAX} KiB and 16 passes for argon2id, cost 15 for bcrypt")]
    TooCostly,
    /// The operating system returned no random salt.
    #[error("cannot make a hash: {0}")]
    Make(String),
}

/// 256 MiB: any client can cause the allocation of a verification.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const BCRYPT_COST_MAX: u32 = 15;

/// A parsed hash. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct PasswordHash(Form);

#[derive(Clone)]
enum Form {
    Argon2id { text: String, memory_kib: u32 },
    Bcrypt(String),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PasswordHash {
    /// Parses `$argon2id$v=19$m=…,t=…,p=…$salt$hash` or `$2a$`, `$2b$`, `$2y$` bcrypt.
    ///
    /// # Errors
    /// [`HashError`].
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let text = text.trim();
        if text.starts_with("$argon2id$") {
            let malformed = |error: &dyn fmt::Display| HashError::Malformed(error.to_string());
            let hash = phc::PasswordHash::new(text).map_err(|error| malformed(&error))?;
            let params = Params::try_from(&hash).map_err(|error| malformed(&error))?;
            if hash.hash.is_none() || hash.salt.is_none() {
                return Err(malformed(&"salt or hash is missing"));
            }
            if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
                return Err(HashError::TooCostly);
            }
            Ok(Self(Form::Argon2id { text: text.to_owned(), memory_kib: params.m_cost() }))
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts =
                text.parse().map_err(|error: bcrypt::BcryptError| HashError::Malformed(error.to_string()))?;
            if parts.get_cost() > BCRYPT_COST_MAX {
                return Err(HashError::TooCostly);
            }
            Ok(Self(Form::Bcrypt(text.to_owned())))
        } else {
            Err(HashError::UnknownForm)
        }
    }

    /// Hashes a password with argon2id: 19 MiB, 2 passes, 1 lane (OWASP's minimum) and a random salt. Returns the text.
    ///
    /// # Errors
    /// [`HashError::Make`].
    pub fn make(password: &str) -> Result<String, HashError> {
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        let hash: phc::PasswordHash =
            hasher.hash_password(password.as_bytes()).map_err(|error| HashError::Make(error.to_string()))?;
        Ok(hash.to_string())
    }

    /// Whether this is the password. Slow on purpose: call it on the blocking pool.
    pub fn verify(&self, password: &str) -> bool {
        match &self.0 {
            Form::Argon2id { text, .. } => phc::PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            // bcrypt uses only 72 octets; a longer password must not match by its first 72.
            Form::Bcrypt(text) => bcrypt::non_truncating_verify(password, text).unwrap_or(false),
        }
    }

    /// The cost of a verification, as a text: equal for hashes that take the same time.
    pub(super) fn cost(&self) -> &str {
        match &self.0 {
            // `$argon2id$v=19$m=…,t=…,p=…` and `$2b$12`: the part before the salt.
            Form::Argon2id { text, .. } => text.rsplitn(3, '$').last().unwrap_or_default(),
            Form::Bcrypt(text) => text.get(4..6).unwrap_or_default(),
        }
    }

    /// Octets of memory that one verification needs.
    pub fn octets_held(&self) -> u64 {
        match &self.0 {
            Form::Argon2id { memory_kib, .. } => u64::from(*memory_kib) * 1024,
            Form::Bcrypt(_) => 4 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_both_kinds_verify_their_password_and_no_other() {
        let argon = PasswordHash::make("secret").unwrap();
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        for text in [argon, bcrypt] {
            let hash = PasswordHash::parse(&text).unwrap();
            assert!(hash.verify("secret"), "{text}");
            assert!(!hash.verify("Secret"), "{text}");
            assert!(!hash.verify(""), "{text}");
            assert!(!format!("{hash:?}").contains(&text));
        }
    }

    #[test]
    fn what_cannot_be_verified_is_an_error_when_read() {
        for text in [
            "",
            "secret",
            "$1$abc",
            "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
            "$argon2id$v=19$m=64,t=1,p=1",
            "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$2b$31$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK",
            "$2b$xx",
        ] {
            assert!(PasswordHash::parse(text).is_err(), "{text}");
        }
    }
}
