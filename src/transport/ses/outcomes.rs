//! The outcome of a failed call, by [error code](super::codes), text, HTTP status, or the stage at which it failed.
//!
//! Texts: the guide's pages on SMTP response codes and on sending quota errors.

use super::codes;
use super::error_text::masked;
use super::faults::{self, At, sources};
use super::http::HttpError;
use crate::mail::parameters::identity_covers;
use crate::mail::{Content, Envelope, Outcome, OutcomeKind, Reply, author, replies};
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::operation::send_email::SendEmailError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
// Of the SDK's own client, which is used with proxies.
use hyper_util::client::legacy::Error as SdkHttpError;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Author and recipients of a message, for SES's list of identities that are not verified.
pub(super) struct Identities {
    pub(super) envelope: Arc<Envelope>,
    pub(super) content: Content,
}

/// Guide, "Amazon SES email sending errors": the text before the list.
const NOT_VERIFIED: &str = "Email address is not verified. The following identities failed the check in region ";

impl Identities {
    /// What the list means, if there is one. In the sandbox recipients must be verified too: only if nothing but recipients
    /// are listed can the author correct it. Otherwise it is the operator's identity, whose DNS records may have been removed.
    fn unverified(&self, text: &str) -> Option<(OutcomeKind, Reply)> {
        let (_, list) = text.strip_prefix(NOT_VERIFIED)?.split_once(':')?;
        let listed = || list.trim().trim_end_matches('.').split(',').map(str::trim).filter(|name| !name.is_empty());
        let is_author = |name: &str| {
            let fields = self.content.fields_named("From").filter_map(|field| author::parse(field.value).ok());
            fields.flatten().any(|author| identity_covers(name, &author.mailbox))
        };
        let is_recipient =
            |name: &str| self.envelope.forward_paths().iter().any(|path| identity_covers(name, path.mailbox()));
        let sandbox = listed().next().is_some() && listed().all(|name| is_recipient(name) && !is_author(name));
        Some(match sandbox {
            true => (OutcomeKind::Refused, replies::SANDBOX),
            false => (OutcomeKind::OperatorError, replies::OPERATOR_ERROR),
        })
    }
}

/// Whether SES refuses the credentials: new ones may be available.
pub(super) fn refuses_credentials<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error, SdkError::ServiceError(context)
        if codes::find(context.err().code()).is_some_and(|(_, row)| row.of_credentials))
}

/// The outcome of a failed call.
///
/// `error_text`: SES's text for a message that it rejects goes into the reply (`BadRequestException` and `MessageRejected`).
pub(super) fn of_error(
    error: &SdkError<SendEmailError, HttpResponse>,
    identities: &Identities,
    at: At<'_>,
    error_text: bool,
) -> Outcome {
    let fault = match error {
        SdkError::ServiceError(context) => faults::of_code(context.err().code(), context.err().message(), at),
        _ => faults::of_call(error, at),
    };
    let detail = fault.as_ref().map_or_else(|| faults::chain(error), |fault| fault.text.to_string());
    let mut outcome = by_kind(error, identities, detail);
    if outcome.kind != OutcomeKind::Refused {
        return Outcome { fault, ..outcome };
    }
    // The message is at fault, so its author may see why.
    if let SdkError::ServiceError(context) = error
        && let (Some("MessageRejected" | "BadRequestException"), Some(text)) =
            (context.err().code(), context.err().message())
        && error_text
        && !text.is_empty()
    {
        outcome.reply = outcome.reply.with_cause(masked(text, &identities.content));
    }
    outcome
}

fn by_kind(error: &SdkError<SendEmailError, HttpResponse>, identities: &Identities, detail: String) -> Outcome {
    match error {
        SdkError::ServiceError(context) => {
            let (code, message) = (context.err().code(), context.err().message());
            let status = context.raw().status().as_u16();
            let mut outcome = of_answer(code, message, status);
            if code == Some("MessageRejected")
                && let Some((kind, reply)) = message.and_then(|text| identities.unverified(text))
            {
                (outcome.kind, outcome.reply) = (kind, reply);
            }
            outcome.retry_after = retry_after(context.raw());
            outcome.code = codes::find(code).map_or("other", |(name, _)| name);
            outcome
        }
        // Building or signing the request failed, or there are no credentials: nothing was written.
        SdkError::ConstructionFailure(_) => operator_error(detail),
        SdkError::DispatchFailure(context) => match context.as_connector_error() {
            _ if never_connected(error) => unreachable(detail),
            // Not an error of the connection: credentials, endpoint resolution.
            Some(connector) if !connector.is_io() && !connector.is_timeout() && !is_http(error) => {
                operator_error(detail)
            }
            _ => no_response(detail),
        },
        SdkError::TimeoutError(_) if never_connected(error) => unreachable(detail),
        // An unreadable answer, a timeout, or an unknown kind of error.
        _ => no_response(detail),
    }
}

/// The outcome by error code, text and HTTP status.
fn of_answer(code: Option<&str>, message: Option<&str>, status: u16) -> Outcome {
    let text = message.unwrap_or_default();
    let line = faults::one_line(text);
    let detail = format!("HTTP {status} {}: {line}", code.unwrap_or("without an error code"));
    match codes::find(code).map(|(_, row)| (row.kind, row.reply.clone())) {
        // Both codes occur for both causes; the text distinguishes them.
        Some((OutcomeKind::Throttled | OutcomeKind::DailyQuota, _)) if text.contains("Daily message quota") => {
            Outcome::not_sent(OutcomeKind::DailyQuota, replies::DAILY_QUOTA, detail)
        }
        Some((OutcomeKind::Throttled | OutcomeKind::DailyQuota, _)) if text.contains("sending rate") => {
            Outcome::not_sent(OutcomeKind::Throttled, replies::THROTTLED, detail)
        }
        Some((kind, reply)) => Outcome::not_sent(kind, reply, detail),
        None => match status {
            // A success or redirect that cannot be read.
            ..=399 => no_response(detail),
            429 => Outcome::not_sent(OutcomeKind::Throttled, replies::THROTTLED, detail),
            401 | 403 | 404 => operator_error(detail),
            413 => Outcome::not_sent(OutcomeKind::Refused, replies::MESSAGE_TOO_LARGE, detail),
            // The server may have accepted the message before it failed.
            408 | 500.. => Outcome::ambiguous(OutcomeKind::Failed, replies::PROVIDER_UNAVAILABLE, detail),
            _ => Outcome::not_sent(OutcomeKind::Failed, replies::PROVIDER_UNAVAILABLE, detail),
        },
    }
}

/// The outcome of a request that was written at least in part, without a readable answer.
pub(super) fn no_response(detail: impl Into<String>) -> Outcome {
    Outcome::ambiguous(OutcomeKind::NoResponse, replies::PROVIDER_NO_RESPONSE, detail)
}

fn unreachable(detail: String) -> Outcome {
    Outcome::not_sent(OutcomeKind::Unreachable, replies::PROVIDER_UNAVAILABLE, detail)
}

fn operator_error(detail: String) -> Outcome {
    Outcome::not_sent(OutcomeKind::OperatorError, replies::OPERATOR_ERROR, detail)
}

/// Whether there was no connection (name, refused, connect timeout, TLS), so nothing of the request was written.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|source| {
        source.downcast_ref().is_some_and(HttpError::is_unsent)
            || source.downcast_ref::<SdkHttpError>().is_some_and(|error| error.is_connect())
    })
}

/// Whether an error of the HTTP client is in the chain of sources.
fn is_http(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|source| source.is::<HttpError>() || source.is::<SdkHttpError>())
}

/// `x-amz-retry-after`, in milliseconds, or `retry-after`, in seconds; at most an hour.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let number = |name| response.headers().get(name).and_then(|value| value.trim().parse::<u64>().ok());
    let wait = number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(wait.min(Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Certainty, ForwardPath, MailParameters, Mailbox, ReversePath};

    #[test]
    fn an_identity_that_is_not_verified_is_the_operators_unless_only_recipients_are_listed() {
        let path = |text: &str| ForwardPath::new(Mailbox::parse(text).unwrap()).unwrap();
        let mut envelope = Envelope::new(ReversePath::Null, MailParameters::default(), path("bob@b.example"));
        envelope.add(path("eve@c.example"));
        let text = b"From: Ann <ann@a.example>\r\n\r\nhi\r\n";
        let content = Content::parse(bytes::Bytes::from_static(text), &Default::default(), Default::default()).unwrap();
        let identities = Identities { envelope: Arc::new(envelope), content };
        let operator = Some((OutcomeKind::OperatorError, replies::OPERATOR_ERROR));
        let sandbox = Some((OutcomeKind::Refused, replies::SANDBOX));
        for (list, want) in [
            ("ann@a.example", operator.clone()),
            ("a.example", operator.clone()),
            ("bob@b.example, ann@a.example", operator.clone()),
            ("bob@b.example", sandbox.clone()),
            ("bob@b.example, eve@c.example", sandbox.clone()),
            ("b.example", sandbox),
            // Where bounces would go, for example.
            ("bounces@d.example", operator.clone()),
            ("bob@b.example, bounces@d.example", operator.clone()),
            ("", operator),
        ] {
            assert_eq!(identities.unverified(&format!("{NOT_VERIFIED}EU-WEST-1: {list}")), want, "{list}");
        }
        assert_eq!(identities.unverified("Email address is not verified."), None);
        assert_eq!(identities.unverified("Virus found"), None);
    }

    #[test]
    fn every_error_has_its_class() {
        let rate = Some("Maximum sending rate exceeded.");
        let daily = Some("Daily message quota exceeded.");
        for (code, text, status, want, kind) in [
            (Some("TooManyRequestsException"), rate, 429, "454 4.7.0", OutcomeKind::Throttled),
            (Some("TooManyRequestsException"), daily, 429, "454 4.7.0", OutcomeKind::DailyQuota),
            (Some("ThrottlingException"), rate, 400, "454 4.7.0", OutcomeKind::Throttled),
            (Some("LimitExceededException"), daily, 400, "454 4.7.0", OutcomeKind::DailyQuota),
            (Some("LimitExceededException"), rate, 400, "454 4.7.0", OutcomeKind::Throttled),
            (Some("LimitExceededException"), None, 400, "454 4.7.0", OutcomeKind::DailyQuota),
            (Some("MessageRejected"), None, 400, "554 5.7.1", OutcomeKind::Refused),
            (Some("BadRequestException"), None, 400, "554 5.6.0", OutcomeKind::Refused),
            (Some("MailFromDomainNotVerifiedException"), None, 400, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("NotFoundException"), None, 404, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("SendingPausedException"), None, 400, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("AccountSuspendedException"), None, 400, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("AccessDeniedException"), None, 403, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("ExpiredTokenException"), None, 403, "451 4.3.5", OutcomeKind::OperatorError),
            (Some("InvalidSignatureException"), None, 403, "451 4.3.5", OutcomeKind::OperatorError),
            (None, None, 403, "451 4.3.5", OutcomeKind::OperatorError),
            (None, None, 404, "451 4.3.5", OutcomeKind::OperatorError),
            (None, None, 429, "454 4.7.0", OutcomeKind::Throttled),
            (None, None, 413, "552 5.3.4", OutcomeKind::Refused),
            (Some("NeverHeardOf"), None, 400, "451 4.4.1", OutcomeKind::Failed),
        ] {
            let outcome = of_answer(code, text, status);
            assert!(outcome.reply.to_string().starts_with(want), "{code:?} {text:?} {status}: {}", outcome.reply);
            assert_eq!((outcome.kind, outcome.certainty), (kind, Certainty::NotSent), "{code:?} {text:?} {status}");
        }
        for (code, status) in [(Some("InternalServiceErrorException"), 500), (None, 503), (None, 502), (None, 408)] {
            let outcome = of_answer(code, None, status);
            assert_eq!(
                (outcome.kind, outcome.certainty),
                (OutcomeKind::Failed, Certainty::Ambiguous),
                "{code:?} {status}"
            );
            assert_eq!(outcome.reply.code(), 451);
        }
        let garbled = of_answer(None, None, 200);
        assert_eq!((garbled.kind, garbled.certainty), (OutcomeKind::NoResponse, Certainty::Ambiguous));
    }

    #[test]
    fn the_daily_quota_has_another_text_than_the_rate() {
        assert_ne!(replies::DAILY_QUOTA.text(), replies::THROTTLED.text());
    }
}
