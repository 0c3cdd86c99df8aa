//! Faults that prevent sending, as one sentence each: the cause, and what to do.
//!
//! The SDK reports an error as a chain of texts, some with line ends, whose cause is the last one or missing. Causes that an
//! operator can correct have their own sentence here. No sentence contains an address.

use super::codes;
use super::http::HttpError;
use crate::mail::{Fault, OutcomeKind, ReadError};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::error::ErrorMetadata;
// Of the SDK's own client, which speaks to proxies.
use hyper_util::client::legacy::Error as SdkHttpError;
use std::borrow::Cow;
use std::error::Error;

/// The context of a call: region, role, configuration set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At<'a> {
    pub(super) region: &'a str,
    pub(super) role: Option<&'a str>,
    pub(super) set: Option<&'a str>,
}

const NO_CREDENTIALS: &str =
    "no AWS credentials found: give the process a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const NOT_VERIFIED: &str =
    "the identity of an author is not verified in SES: verify its domain or address, and check its DKIM records";

/// The fault of an error code, if the operator must correct it.
pub(super) fn of_code(code: Option<&str>, message: Option<&str>, at: At<'_>) -> Option<Fault> {
    let text = message.unwrap_or_default();
    let of_set = text.to_ascii_lowercase().contains("configuration set");
    let (sentence, of_author): (Cow<'static, str>, bool) = match (code?, at.set) {
        ("NotFoundException", Some(set)) if of_set => (no_set(set, at.region).into(), false),
        ("NotFoundException", _) => {
            (format!("SES does not find what a message needs: {}", one_line(text)).into(), false)
        }
        ("SendingPausedException", Some(set)) if of_set => (paused_set(set).into(), false),
        // Only for a list of identities that are not verified; otherwise the message is at fault.
        ("MessageRejected", _) => (NOT_VERIFIED.into(), true),
        (code, _) => {
            let (_, row) = codes::find(Some(code)).filter(|(_, row)| row.kind == OutcomeKind::OperatorError)?;
            (row.action.into(), row.of_author)
        }
    };
    Some(Fault { text: sentence, of_author })
}

fn no_set(set: &str, region: &str) -> String {
    format!("configuration set {set:?} does not exist in {region}: create it, or correct the name in the configuration")
}

/// The fault of a configuration set for which sending is paused.
pub(super) fn paused_set(set: &str) -> String {
    format!("SES refuses to send: sending is paused for configuration set {set:?}")
}

/// The fault of a call without an answer of SES: credentials, or the connection.
pub(super) fn of_call(error: &(dyn Error + 'static), at: At<'_>) -> Option<Fault> {
    let of_source = |source: &(dyn Error + 'static)| {
        let text = match (source.downcast_ref(), source.downcast_ref(), source.downcast_ref::<SdkHttpError>()) {
            (Some(error), ..) => of_credentials(error, at),
            (_, Some(HttpError::NotConnected(uri, _)), _) => {
                let host = uri.host().unwrap_or_default();
                let texts: Vec<String> = sources(source).map(ToString::to_string).collect();
                not_connected(host, &texts)
            }
            (_, Some(HttpError::ConnectTimeout(uri, wait)), _) => {
                let host = uri.host().unwrap_or_default();
                format!("cannot connect to {host} within {wait:?}: check the network, and firewalls on the way")
            }
            (_, _, Some(error)) if error.is_connect() => {
                format!(
                    "cannot connect to SES or to the proxy: {}: check HTTPS_PROXY and ses.endpoint_url",
                    last(error)
                )
            }
            _ => return None,
        };
        Some(Fault { text: text.into(), of_author: false })
    };
    sources(error).find_map(of_source)
}

fn of_credentials(error: &CredentialsError, At { role, .. }: At<'_>) -> String {
    match (error, role) {
        (CredentialsError::CredentialsNotLoaded(_), _) => NO_CREDENTIALS.to_owned(),
        (CredentialsError::ProviderTimedOut(_), _) => {
            "the source of AWS credentials did not answer in time: check the instance or container credentials"
                .to_owned()
        }
        // There are no credentials to assume the role with.
        _ if sources(error)
            .skip(1)
            .any(|source| matches!(source.downcast_ref(), Some(CredentialsError::CredentialsNotLoaded(_)))) =>
        {
            NO_CREDENTIALS.to_owned()
        }
        (_, Some(role)) if is_unreachable(error) => {
            format!(
                "cannot assume {role}: STS cannot be reached: {}: check the network, and the VPC endpoint of STS",
                last(error)
            )
        }
        (_, Some(role)) => format!("cannot assume {role}: {}: check the role's trust policy", last(error)),
        (CredentialsError::InvalidConfiguration(_), None) => {
            format!("the AWS credentials are misconfigured: {}", last(error))
        }
        (_, None) => format!("the source of AWS credentials failed: {}", last(error)),
    }
}

/// Whether a source of credentials failed because of the network.
fn is_unreachable(error: &CredentialsError) -> bool {
    let of_connector = |source: &(dyn Error + 'static)| {
        source.downcast_ref::<ConnectorError>().is_some_and(|error| error.is_io() || error.is_timeout())
    };
    sources(error).any(of_connector)
}

/// The fault of a missing connection, by the texts of the error chain.
fn not_connected(host: &str, texts: &[String]) -> String {
    let says = |words: &[&str]| texts.iter().any(|text| words.iter().any(|word| text.contains(word)));
    let key = if is_regional(host) { "ses.region" } else { "ses.endpoint_url" };
    let last = one_line(texts.last().map(String::as_str).unwrap_or_default());
    if says(&["dns error", "failed to lookup"]) {
        format!("cannot resolve {host}: check {key}")
    } else if says(&["certificate", "TLS", "tls"]) {
        format!(
            "TLS with {host} fails: {last}: check the root certificates (SSL_CERT_FILE), and proxies that intercept TLS"
        )
    } else {
        format!("cannot connect to {host}: {last}: check the network, firewalls on the way and {key}")
    }
}

/// Whether a host is an endpoint of AWS, whose name contains the region.
fn is_regional(host: &str) -> bool {
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|end| host.ends_with(end))
}

/// The error of a read-only call.
pub(super) fn of_question<E>(error: &SdkError<E, HttpResponse>, at: At<'_>) -> ReadError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(context) = error else {
        return match of_call(error, at) {
            Some(fault) => ReadError::Fault(fault.text.into_owned()),
            None => ReadError::Unavailable(chain(error)),
        };
    };
    let (code, message) = (context.err().code(), context.err().message());
    let (status, text) = (context.raw().status().as_u16(), one_line(message.unwrap_or_default()));
    let detail = format!("HTTP {status} {}: {text}", code.unwrap_or("without an error code"));
    match (code, of_code(code, message, at)) {
        (Some("AccessDeniedException" | "AccessDenied"), _) => ReadError::NotPermitted(detail),
        (Some("NotFoundException"), _) => ReadError::Missing(at.set.map_or(detail, |set| no_set(set, at.region))),
        (_, Some(fault)) => ReadError::Fault(fault.text.into_owned()),
        // The answer of a proxy, or of an endpoint that is not SES.
        (None, None) if matches!(status, 401 | 403) => ReadError::NotPermitted(detail),
        _ => ReadError::Unavailable(detail),
    }
}

pub(super) fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let here = next?;
        next = here.source();
        Some(here)
    })
}

/// The innermost cause.
fn last(error: &(dyn Error + 'static)) -> String {
    let Some(cause) = sources(error).last() else { return String::new() };
    // The error of STS.
    let answer = cause.downcast_ref::<ErrorMetadata>();
    let answer = answer.and_then(|answer| Some(format!("{}: {}", answer.code()?, answer.message()?)));
    one_line(&answer.unwrap_or_else(|| cause.to_string()))
}

/// The texts of an error and its sources, each once, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for source in sources(error) {
        let text = source.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
    }
    one_line(&texts.join(": "))
}

/// The length at which a text of the SDK or SES is truncated, in characters.
const TEXT_MAX: usize = 250;

/// A text in one line, truncated.
pub(super) fn one_line(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(TEXT_MAX) {
        words.truncate(at);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At<'static> = At { region: "eu-central-1", role: None, set: Some("relay") };

    #[test]
    fn a_code_of_ses_becomes_a_sentence_that_says_what_to_do() {
        for (code, text, want, of_author) in [
            (
                "NotFoundException",
                "Configuration set <relay> does not exist.",
                "configuration set \"relay\" does not exist in eu-central-1: create it, or correct the name in the configuration",
                false,
            ),
            (
                "NotFoundException",
                "Tenant <t> does not exist.",
                "SES does not find what a message needs: Tenant <t> does not exist.",
                false,
            ),
            ("SendingPausedException", "Sending paused for this account.", crate::mail::SENDING_PAUSED, false),
            (
                "SendingPausedException",
                "Sending paused for the configuration set <relay>.",
                "SES refuses to send: sending is paused for configuration set \"relay\"",
                false,
            ),
            (
                "AccessDeniedException",
                "User: x is not authorized",
                codes::find(Some("AccessDenied")).unwrap().1.action,
                true,
            ),
            ("ExpiredTokenException", "", "the AWS credentials have expired: renew them", false),
        ] {
            let fault = of_code(Some(code), Some(text), AT).unwrap();
            assert_eq!((&*fault.text, fault.of_author), (want, of_author), "{code} {text}");
        }
        assert_eq!(of_code(Some("TooManyRequestsException"), None, AT), None);
        assert_eq!(of_code(None, None, AT), None);
    }

    #[test]
    fn no_connection_is_told_by_its_cause() {
        let said =
            |host, texts: &[&str]| not_connected(host, &texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let regional = "email.eu-centrall-1.amazonaws.com";
        let dns =
            ["no connection to x", "dns error", "failed to lookup address information: Name or service not known"];
        assert_eq!(said(regional, &dns), format!("cannot resolve {regional}: check ses.region"));
        assert_eq!(said("vpce.example", &dns), "cannot resolve vpce.example: check ses.endpoint_url");
        let refused =
            said("127.0.0.1", &["no connection to x", "tcp connect error", "Connection refused (os error 111)"]);
        assert!(refused.starts_with("cannot connect to 127.0.0.1: Connection refused"), "{refused}");
        let tls = said(regional, &["no connection to x", "invalid peer certificate: UnknownIssuer"]);
        assert!(tls.contains("UnknownIssuer") && tls.contains("SSL_CERT_FILE"), "{tls}");
    }

    /// The texts of a chain of providers had line ends, and 600 characters.
    #[test]
    fn credentials_that_are_not_there_are_one_sentence() {
        let none = || CredentialsError::not_loaded("no credentials found in chain. Attempted:\n  Environment: no\n");
        let error: SdkError<aws_sdk_sesv2::operation::get_account::GetAccountError, HttpResponse> =
            SdkError::construction_failure(none());
        assert_eq!(of_question(&error, AT), ReadError::Fault(NO_CREDENTIALS.to_owned()));
        let role = At { role: Some("arn:aws:iam::111122223333:role/x"), ..AT };
        assert_eq!(of_credentials(&CredentialsError::provider_error(none()), role), NO_CREDENTIALS);
        let denied = of_credentials(&CredentialsError::provider_error("AccessDenied:\n no"), role);
        assert_eq!(
            denied,
            "cannot assume arn:aws:iam::111122223333:role/x: AccessDenied: no: check the role's trust policy"
        );
        let lost = ConnectorError::io("dns error: failed to lookup address information".into());
        let lost = of_credentials(&CredentialsError::provider_error(lost), role);
        assert!(lost.contains("role/x: STS cannot be reached: dns error") && !lost.contains("trust policy"), "{lost}");
        let answer = ErrorMetadata::builder().code("AccessDenied").message("User: x is not authorized").build();
        let denied = of_credentials(&CredentialsError::provider_error(answer), role);
        assert!(denied.contains("role/x: AccessDenied: User: x is not authorized: check"), "{denied}");
        let long = chain(&CredentialsError::provider_error("x\n y ".repeat(1_000)));
        assert!(long.chars().count() <= TEXT_MAX + 1 && !long.contains('\n'), "{long}");
    }
}
