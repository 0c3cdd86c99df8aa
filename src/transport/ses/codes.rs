//! The table of SES's error codes. A chapter of the manual is generated from it.
//!
//! Codes: botocore's model of `sesv2`, and the SDK's own classification of the codes that every AWS service shares.
//! A code that is not in the table defers: unknown is never a rejection.

use crate::mail::{OutcomeKind, Reply, replies};

/// The meaning of one or more codes. SES has certainly not sent the message.
pub(super) struct Row {
    pub(super) codes: &'static [&'static str],
    pub(super) kind: OutcomeKind,
    pub(super) reply: Reply,
    /// What to do about it. For [`OutcomeKind::OperatorError`] it is the text of the fault in the log and in `/readyz`.
    pub(super) action: &'static str,
    /// Whether messages of other authors may be sent.
    pub(super) of_author: bool,
    /// Whether SES refuses the credentials, so that newer ones may help.
    pub(super) of_credentials: bool,
}

impl Row {
    const fn new(codes: &'static [&'static str], kind: OutcomeKind, reply: Reply, action: &'static str) -> Self {
        Self { codes, kind, reply, action, of_author: false, of_credentials: false }
    }

    /// An error that the operator must correct, for all authors.
    const fn operator(codes: &'static [&'static str], action: &'static str) -> Self {
        Self::new(codes, OutcomeKind::OperatorError, replies::OPERATOR_ERROR, action)
    }

    /// An error that the operator must correct, for the identity of one author.
    const fn identity(codes: &'static [&'static str], action: &'static str) -> Self {
        Self {
            codes,
            kind: OutcomeKind::OperatorError,
            reply: replies::OPERATOR_ERROR,
            action,
            of_author: true,
            of_credentials: false,
        }
    }

    /// An error that the operator must correct: SES refuses the credentials.
    const fn credentials(codes: &'static [&'static str], action: &'static str) -> Self {
        Self {
            codes,
            kind: OutcomeKind::OperatorError,
            reply: replies::OPERATOR_ERROR,
            action,
            of_author: false,
            of_credentials: true,
        }
    }
}

/// `LimitExceededException` is modelled as "too many resources" and in practice is the daily quota; a text about the
/// sending rate says otherwise.
#[rustfmt::skip] // One row, one code or one meaning.
pub(super) const ROWS: &[Row] = &[
    Row::new(
        &["TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "RequestThrottled",
          "SlowDown", "BandwidthLimitExceeded"],
        OutcomeKind::Throttled, replies::THROTTLED,
        "nothing: the message is sent again within `[deadline]`; after that the client tries again",
    ),
    Row::new(
        &["LimitExceededException"], OutcomeKind::DailyQuota, replies::DAILY_QUOTA,
        "wait, or ask AWS for a larger quota",
    ),
    Row::new(
        &["MessageRejected"], OutcomeKind::Refused, replies::REFUSED_BY_PROVIDER,
        "correct the message; where the text says \"not verified\", see below",
    ),
    Row::new(
        &["BadRequestException", "InvalidParameterValue", "ValidationException", "SerializationException"],
        OutcomeKind::Refused, replies::BAD_REQUEST, "correct the message",
    ),
    Row::new(
        &["RequestEntityTooLarge"], OutcomeKind::Refused, replies::MESSAGE_TOO_LARGE, "send a smaller message",
    ),
    Row::identity(
        &["MailFromDomainNotVerifiedException"],
        "the custom MAIL FROM domain of an identity is not verified: check its MX record",
    ),
    Row::operator(
        &["NotFoundException"],
        "SES does not find the configuration set or the tenant: create it, or correct the name in the configuration",
    ),
    Row::operator(&["SendingPausedException"], crate::mail::SENDING_PAUSED),
    Row::operator(
        &["AccountSuspendedException"],
        "SES refuses to send: the account is suspended; see the account dashboard of the SES console",
    ),
    Row::identity(
        &["AccessDeniedException", "AccessDenied"],
        "IAM does not permit sending: allow ses:SendEmail and ses:SendRawEmail for the identity of the author and for the configuration set",
    ),
    Row::credentials(
        &["UnrecognizedClientException", "InvalidClientTokenId"],
        "AWS does not know the access key: it was deleted or deactivated, or it is of another partition",
    ),
    Row::credentials(&["ExpiredTokenException", "ExpiredToken"], "the AWS credentials have expired: renew them"),
    Row::operator(
        &["RequestExpired", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature",
          "MissingAuthenticationToken", "MissingAuthenticationTokenException"],
        "AWS does not accept the signature: check the secret access key, and this machine's clock",
    ),
    Row::operator(
        &["OptInRequired"],
        "the AWS account has no access to SES in this region: open the SES console there, or check ses.region",
    ),
];

/// The row of a code, with the code as the table writes it.
pub(super) fn find(code: Option<&str>) -> Option<(&'static str, &'static Row)> {
    let code = code?;
    ROWS.iter().find_map(|row| row.codes.iter().find(|name| **name == code).map(|name| (*name, row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_once() {
        let codes: Vec<&str> = ROWS.iter().flat_map(|row| row.codes).copied().collect();
        let distinct: std::collections::HashSet<&str> = codes.iter().copied().collect();
        assert_eq!(distinct.len(), codes.len());
    }

    /// The table of the chapter is this table: `GATEPOST_REFRESH=1 cargo test --lib manual` writes it.
    #[test]
    fn the_manual_lists_every_error_code() {
        let rows: String = ROWS
            .iter()
            .map(|row| {
                let codes: Vec<String> = row.codes.iter().map(|code| format!("`{code}`")).collect();
                let status = row.reply.status().map(|status| format!(" {status}")).unwrap_or_default();
                let kind = row.kind.label();
                format!("| {} | `{kind}` | {}{status} | {} |\n", codes.join(", "), row.reply.code(), row.action)
            })
            .collect();
        crate::manual::table_is("failures.md", include_str!("../../manual/failures.md"), &rows);
    }
}
