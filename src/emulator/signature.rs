//! Verifies Signature Version 4 and 4A.
//!
//! Guarantee: a request passes only if it was signed with the secret, for this region and service, within five minutes
//! of the emulator's clock, over this method, path, query, these fields and this body. No code is shared with a
//! client's signer: it is written from the specification, and checked against botocore and the Rust SDK.
//!
//! Limits: signatures in the `Authorization` field only, not in the query; one chunk, not streamed. The error name of
//! each mistake differs between AWS services, and no capture of SES v2 was found: a wrong signature is
//! `SignatureDoesNotMatch`, a wrong scope or date `InvalidSignatureException`.
//!
//! IAM User Guide, "Create a signed AWS API request".

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use hyper::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::asymmetric;
use super::clock;
use super::refusal::{ErrorName, Refusal};
use super::settings::Credential;

/// Verifies the signature and returns its credential and algorithm.
pub(super) fn verify<'a>(
    head: &Parts,
    body: &[u8],
    credentials: &'a [Credential],
    region: &str,
    now: Timestamp,
) -> Result<(&'a Credential, Algorithm), Refusal> {
    let claim = Claim::read(head)?;
    let credential = credentials
        .iter()
        .find(|credential| credential.access_key_id == claim.access_key_id)
        .ok_or(ErrorName::UnrecognizedClientException)?;
    claim.check_scope(region)?;
    claim.check_age(now)?;
    // A missing token, an unexpected token and a wrong token are the same error at AWS.
    if field(head, "x-amz-security-token") != credential.session_token.as_deref() {
        return Err(ErrorName::UnrecognizedClientException.into());
    }
    claim.check_signed_fields(head)?;

    let payload = payload_hash(head, body)?;
    let canonical = canonical_request(head, &claim.signed_fields, &payload);
    let to_sign = format!(
        "{}\n{}\n{}\n{}",
        claim.algorithm.name(),
        claim.time_text,
        claim.scope,
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let secret = &credential.secret_access_key;
    let is_signed = match claim.algorithm {
        // Compares in constant time.
        Algorithm::V4 => {
            hmac::verify(&signing_key(secret, claim.date, region), to_sign.as_bytes(), &claim.signature).is_ok()
        }
        Algorithm::V4A => asymmetric::is_signed(claim.access_key_id, secret, to_sign.as_bytes(), &claim.signature),
    };
    if is_signed { Ok((credential, claim.algorithm)) } else { Err(ErrorName::SignatureDoesNotMatch.into()) }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Algorithm {
    V4,
    /// For a set of regions, which is in a separate field and not in the scope.
    V4A,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "AWS4-HMAC-SHA256",
            Self::V4A => asymmetric::ALGORITHM,
        }
    }
}

/// The content of the `Authorization` and `x-amz-date` fields.
struct Claim<'a> {
    algorithm: Algorithm,
    access_key_id: &'a str,
    /// Without the access key.
    scope: &'a str,
    date: &'a str,
    /// One; for SigV4A a list with commas, of which `*` is any.
    regions: &'a str,
    service: &'a str,
    terminator: &'a str,
    signed_fields: Vec<&'a str>,
    signature: Vec<u8>,
    time_text: &'a str,
    time: Timestamp,
}

impl<'a> Claim<'a> {
    fn read(head: &'a Parts) -> Result<Self, Refusal> {
        let (algorithm, rest) = field(head, "authorization")
            .and_then(|text| text.split_once(' '))
            .and_then(|(name, rest)| {
                let algorithm =
                    [Algorithm::V4, Algorithm::V4A].into_iter().find(|algorithm| algorithm.name() == name)?;
                Some((algorithm, rest))
            })
            .ok_or(ErrorName::MissingAuthenticationTokenException)?;
        let part = |name: &str| {
            rest.split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter.")))
        };
        let text = part("Credential")?;
        // An access key has no slash, so the scope is the last parts.
        let scope_parts = if algorithm == Algorithm::V4 { 4 } else { 3 };
        let mut words = text.rsplitn(scope_parts + 1, '/');
        let mut word = || {
            words
                .next()
                .ok_or_else(|| incomplete(format!("Credential must have {} slash-separated parts.", scope_parts + 1)))
        };
        let (terminator, service) = (word()?, word()?);
        let regions = match algorithm {
            Algorithm::V4 => word()?,
            Algorithm::V4A => field(head, REGION_SET).ok_or_else(|| {
                incomplete("Authorization header requires existence of an 'X-Amz-Region-Set' header.")
            })?,
        };
        let (date, access_key_id) = (word()?, word()?);
        let scope = &text[access_key_id.len() + 1..];
        let time_text = field(head, "x-amz-date")
            .ok_or_else(|| incomplete("Authorization header requires existence of an 'X-Amz-Date' header."))?;
        let time = clock::parse_basic(time_text)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', as in 20150830T123600Z."))?;
        let signature = unhex(part("Signature")?)
            .filter(|octets| algorithm == Algorithm::V4A || octets.len() == 32)
            .ok_or_else(|| incomplete("Signature must be hexadecimal digits, 64 of them unless it is SigV4A."))?;
        let signed_fields = part("SignedHeaders")?.split(';').collect();
        Ok(Self {
            algorithm,
            access_key_id,
            scope,
            date,
            regions,
            service,
            terminator,
            signed_fields,
            signature,
            time_text,
            time,
        })
    }

    fn check_scope(&self, region: &str) -> Result<(), Refusal> {
        let is_for_region = match self.algorithm {
            Algorithm::V4 => self.regions == region,
            Algorithm::V4A => self.regions.split(',').map(str::trim).any(|one| one == region || one == "*"),
        };
        let problem = if !is_for_region {
            format!("Credential should be scoped to a valid region, not '{}'. ", self.regions)
        } else if self.service != SERVICE {
            format!("Credential should be scoped to correct service: '{SERVICE}'. ")
        } else if self.terminator != TERMINATOR {
            format!("Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'. ", self.terminator)
        } else if !self.time_text.starts_with(self.date) || self.date.len() != DATE_LENGTH {
            format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{}' != '{}', from '{}'.",
                self.date,
                &self.time_text[..DATE_LENGTH],
                self.time_text
            )
        } else {
            return Ok(());
        };
        Err(Refusal::new(ErrorName::InvalidSignatureException, problem))
    }

    fn check_age(&self, now: Timestamp) -> Result<(), Refusal> {
        let age = now.duration_since(self.time);
        let problem = if age > SKEW_MAX {
            let oldest = clock::basic(now - SKEW_MAX);
            format!(
                "Signature expired: {} is now earlier than {oldest} ({} - 5 min.)",
                self.time_text,
                clock::basic(now)
            )
        } else if age < -SKEW_MAX {
            let newest = clock::basic(now + SKEW_MAX);
            format!(
                "Signature not yet current: {} is still later than {newest} ({} + 5 min.)",
                self.time_text,
                clock::basic(now)
            )
        } else {
            return Ok(());
        };
        Err(Refusal::new(ErrorName::InvalidSignatureException, problem))
    }

    /// `host` and every `x-amz-` field must be signed, because they could be changed in transit otherwise.
    fn check_signed_fields(&self, head: &Parts) -> Result<(), Refusal> {
        let unsigned = head
            .headers
            .keys()
            .map(|name| name.as_str())
            .chain(["host"])
            .find(|name| (*name == "host" || name.starts_with("x-amz-")) && !self.signed_fields.contains(name));
        match unsigned {
            None => Ok(()),
            Some(name) => Err(Refusal::new(
                ErrorName::InvalidSignatureException,
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."),
            )),
        }
    }
}

/// The hash in the canonical request. Refuses a body that differs from the declared hash.
fn payload_hash(head: &Parts, body: &[u8]) -> Result<String, Refusal> {
    let declared = field(head, "x-amz-content-sha256");
    if declared == Some(UNSIGNED_PAYLOAD) {
        return Ok(UNSIGNED_PAYLOAD.to_owned());
    }
    let computed = hex(digest::digest(&digest::SHA256, body).as_ref());
    match declared {
        Some(declared) if declared != computed => Err(Refusal::new(
            ErrorName::InvalidSignatureException,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )),
        _ => Ok(computed),
    }
}

fn canonical_request(head: &Parts, signed_fields: &[&str], payload: &str) -> String {
    // Path segments are encoded a second time: all services except S3 do this.
    let path = utf8_percent_encode(head.uri.path(), &PATH_KEPT);
    let mut text = format!("{}\n{path}\n{}\n", head.method, canonical_query(head.uri.query().unwrap_or("")));
    for name in signed_fields {
        let values = head.headers.get_all(*name).iter();
        let joined: Vec<_> = values.map(|value| collapse(&String::from_utf8_lossy(value.as_bytes()))).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{}", joined.join(","));
    }
    let _ = write!(text, "\n{}\n{payload}", signed_fields.join(";"));
    text
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let octets: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&octets, &KEPT).to_string()
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn signing_key(secret: &str, date: &str, region: &str) -> hmac::Key {
    [date, region, SERVICE, TERMINATOR]
        .into_iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes()), |key, word| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, word.as_bytes()).as_ref())
        })
}

/// A field's value, trimmed; absent if it is not ASCII text.
fn field<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name)?.to_str().ok().map(str::trim)
}

/// Trims, and replaces every run of spaces by one space.
fn collapse(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn incomplete(problem: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorName::IncompleteSignatureException, problem)
}

fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() > SIGNATURE_DIGITS_MAX || !text.len().is_multiple_of(2) || !is_hex {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

const REGION_SET: &str = "x-amz-region-set";
/// Two integers of 33 octets in ASN.1.
const SIGNATURE_DIGITS_MAX: usize = 2 * 72;
/// The signing name of SES v2 in the service model.
const SERVICE: &str = "ses";
const TERMINATOR: &str = "aws4_request";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// `YYYYMMDD`.
const DATE_LENGTH: usize = 8;
/// The five minutes in the text of the error, as services with JSON protocols print it.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);
/// RFC 3986 §2.3, unreserved: everything else is percent-encoded.
const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH_KEPT: AsciiSet = KEPT.remove(b'/');

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS SigV4 test suite: the key derivation example of the documentation.
    #[test]
    fn derives_the_signing_key_of_the_documentation() {
        let key = ["20150830", "us-east-1", "iam", "aws4_request"]
            .into_iter()
            .fold(hmac::Key::new(hmac::HMAC_SHA256, b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), |key, word| {
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, word.as_bytes()).as_ref())
            });
        let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                       f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            hex(hmac::sign(&key, to_sign.as_bytes()).as_ref()),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn canonical_query_is_sorted_and_encoded_once() {
        for (wire, canonical) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a", "a="),
            ("TenantName=a%20b", "TenantName=a%20b"),
            ("x=%7e&x=%2F", "x=%2F&x=~"),
        ] {
            assert_eq!(canonical_query(wire), canonical, "{wire}");
        }
    }
}
