//! AUTH PLAIN and AUTH LOGIN. RFC 4954, RFC 4616; LOGIN after draft-murchison-sasl-login.
//!
//! Only these two: CRAM-MD5 would need the passwords in clear on the server, and clients use the first mechanism that
//! they support. Where every name and password is accepted, an empty name is accepted too, and CRAM-MD5 (RFC 2195) is
//! offered to clients that support nothing else. Its challenge is constant, because no response is verified.

use crate::mail::{Credentials, Password, Reply, replies};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Accepts base64 without padding, which some clients send.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// No user name is longer, so a longer one is not looked up.
const NAME_OCTETS_MAX: usize = 255;
/// No password is longer, so a longer one is not hashed, which would cost time.
const PASSWORD_OCTETS_MAX: usize = 1024;

/// The state of an exchange: what the next line must be.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN without an initial response.
    Plain,
    /// LOGIN: the user name.
    LoginName,
    /// LOGIN: the password of that user.
    LoginPassword(String),
    /// CRAM-MD5: any response.
    CramMd5,
}

/// The result of a line of an exchange.
#[derive(Debug)]
pub(super) enum Progress {
    /// Send `334` with this text and read another line.
    Challenge(&'static str, Exchange),
    /// Verify these credentials.
    Verify(Credentials),
    /// The exchange failed.
    Fail(Reply),
}

/// Starts an exchange. `any`: every name and password is accepted.
pub(super) fn begin(mechanism: &str, initial_response: Option<&str>, any: bool) -> Progress {
    let exchange = match mechanism {
        "PLAIN" => Exchange::Plain,
        "LOGIN" => Exchange::LoginName,
        "CRAM-MD5" if any => Exchange::CramMd5,
        _ => return Progress::Fail(replies::UNKNOWN_MECHANISM),
    };
    match (initial_response, exchange) {
        (Some("="), exchange) => respond(exchange, "", any),
        (Some(text), exchange) => respond(exchange, text, any),
        (None, Exchange::Plain) => Progress::Challenge("", Exchange::Plain),
        (None, Exchange::CramMd5) => Progress::Challenge(CRAM_MD5, Exchange::CramMd5),
        (None, exchange) => Progress::Challenge(LOGIN_NAME, exchange),
    }
}

/// "Username:" and "Password:" in base64, exactly as all servers send them: some clients compare the text.
const LOGIN_NAME: &str = "VXNlcm5hbWU6";
const LOGIN_PASSWORD: &str = "UGFzc3dvcmQ6";
/// `<0.0@gatepost>`, in the form of RFC 2195 §2.
const CRAM_MD5: &str = "PDAuMEBnYXRlcG9zdD4=";

/// Continues an exchange with a line from the client.
pub(super) fn respond(exchange: Exchange, line: &str, any: bool) -> Progress {
    if line.trim() == "*" {
        return Progress::Fail(replies::AUTHENTICATION_CANCELLED);
    }
    if any {
        return match exchange {
            Exchange::LoginName => Progress::Challenge(LOGIN_PASSWORD, Exchange::LoginPassword(String::new())),
            Exchange::Plain | Exchange::LoginPassword(_) | Exchange::CramMd5 => accept_any(),
        };
    }
    let Ok(octets) = BASE64.decode(line.trim()) else { return Progress::Fail(replies::BAD_BASE64) };
    // RFC 4616 requires UTF-8. A name in Latin-1 matches no user.
    let Ok(text) = String::from_utf8(octets) else { return Progress::Fail(replies::BAD_CREDENTIALS) };
    match exchange {
        Exchange::LoginName => Progress::Challenge(LOGIN_PASSWORD, Exchange::LoginPassword(text)),
        Exchange::Plain => plain(&text),
        Exchange::LoginPassword(name) => verify(&name, &text),
        // Started only where every response is accepted.
        Exchange::CramMd5 => Progress::Fail(replies::BAD_CREDENTIALS),
    }
}

/// Nothing is verified, so the name and password are discarded.
fn accept_any() -> Progress {
    Progress::Verify(Credentials { name: String::new(), password: Password::new("") })
}

/// `[authzid] NUL authcid NUL passwd`. mutt and nullmailer repeat the name as authzid. Authorization as another user is
/// not supported.
fn plain(text: &str) -> Progress {
    let parts: Vec<&str> = text.split('\0').collect();
    match parts[..] {
        [authorization, name, password] if authorization.is_empty() || authorization == name => verify(name, password),
        [_, _, _] => Progress::Fail(replies::BAD_CREDENTIALS),
        _ => Progress::Fail(replies::BAD_BASE64),
    }
}

fn verify(name: &str, password: &str) -> Progress {
    if name.is_empty() || name.len() > NAME_OCTETS_MAX || password.len() > PASSWORD_OCTETS_MAX {
        return Progress::Fail(replies::BAD_CREDENTIALS);
    }
    Progress::Verify(Credentials { name: name.to_owned(), password: Password::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(progress: Progress) -> String {
        match progress {
            Progress::Challenge(text, _) => format!("334 {text}"),
            Progress::Verify(c) => format!("{}:{}", c.name, c.password.expose()),
            Progress::Fail(reply) => reply.code().to_string(),
        }
    }

    #[test]
    fn exchanges_of_real_clients() {
        let encode = |text: &str| BASE64.encode(text);
        for (name, mechanism, initial, lines, want) in [
            ("plain, initial response", "PLAIN", Some(encode("\0ann\0secret")), vec![], "ann:secret"),
            ("plain, two steps", "PLAIN", None, vec![encode("\0ann\0secret")], "ann:secret"),
            ("plain, authzid is the user", "PLAIN", Some(encode("ann\0ann\0secret")), vec![], "ann:secret"),
            ("plain, authzid is another user", "PLAIN", Some(encode("bob\0ann\0secret")), vec![], "535"),
            ("plain, no padding", "PLAIN", Some("AGEAYg".to_owned()), vec![], "a:b"),
            ("plain, not base64", "PLAIN", Some("!".to_owned()), vec![], "501"),
            ("plain, two parts", "PLAIN", Some(encode("ann\0secret")), vec![], "501"),
            ("plain, empty name", "PLAIN", Some(encode("\0\0secret")), vec![], "535"),
            ("login", "LOGIN", None, vec![encode("ann"), encode("secret")], "ann:secret"),
            ("login, user inline", "LOGIN", Some(encode("ann")), vec![encode("secret")], "ann:secret"),
            ("login, cancelled", "LOGIN", None, vec![encode("ann"), "*".to_owned()], "501"),
            ("login, not UTF-8", "LOGIN", None, vec!["/w==".to_owned()], "535"),
            ("unknown", "CRAM-MD5", None, vec![], "504"),
        ] {
            let mut progress = begin(mechanism, initial.as_deref(), false);
            for line in lines {
                let Progress::Challenge(_, exchange) = progress else { panic!("{name}: {progress:?}") };
                progress = respond(exchange, &line, false);
            }
            assert_eq!(outcome(progress), want, "{name}");
        }
    }

    #[test]
    fn the_password_does_not_print() {
        let Progress::Verify(credentials) = begin("PLAIN", Some(&BASE64.encode("\0ann\0secret")), false) else {
            panic!()
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
