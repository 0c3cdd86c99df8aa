//! The errors of the emulated service: name, HTTP status, text.
//!
//! One row for each error. The first eight are the exceptions that SendEmail declares (botocore 1.44.5, `sesv2`); the
//! others are errors that AWS services return before an operation is reached. Texts are from captures if there is one,
//! and descriptive otherwise.
//!
//! rest-json: the name goes into `x-amzn-errortype`, the text into `{"message": …}`.

use std::borrow::Cow;
use std::time::Duration;

macro_rules! error_names {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $text:literal;)*) => {
        /// Name of an error, as in `x-amzn-errortype`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorName { $($(#[$doc])* $name,)* }

        impl ErrorName {
            /// Every name, in the order of the table.
            pub const ALL: &'static [ErrorName] = &[$(ErrorName::$name,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorName::$name => stringify!($name),)* }
            }

            /// The HTTP status of the error.
            pub fn status(self) -> u16 {
                match self { $(ErrorName::$name => $status,)* }
            }

            /// The text if there is no specific one.
            pub fn default_text(self) -> &'static str {
                match self { $(ErrorName::$name => $text,)* }
            }
        }
    };
}

error_names! {
    /// Send rate exceeded.
    TooManyRequestsException = 429, "Maximum sending rate exceeded.";
    /// In practice the daily quota.
    LimitExceededException = 400, "Daily message quota exceeded.";
    /// The account's ability to send was ended.
    AccountSuspendedException = 400, "Account is suspended. Sending is permanently restricted for this account.";
    /// Account or configuration set is paused.
    SendingPausedException = 400, "Sending paused for this account. For more information, please check the inbox of the email address associated with your AWS account.";
    /// Content or an identity was not accepted.
    MessageRejected = 400, "Email address is not verified.";
    /// The custom MAIL FROM domain has no MX, and the identity is configured to refuse then.
    MailFromDomainNotVerifiedException = 400, "MAIL FROM domain not verified: DNS setup for the custom MAIL FROM domain is incomplete.";
    /// A named resource does not exist.
    NotFoundException = 404, "The resource does not exist.";
    /// The input is invalid.
    BadRequestException = 400, "The request is invalid.";

    /// IAM denied the action.
    AccessDeniedException = 403, "User is not authorized to perform this action.";
    /// Temporary credentials past their end.
    ExpiredTokenException = 403, "The security token included in the request is expired";
    /// Unknown access key or wrong session token.
    UnrecognizedClientException = 403, "The security token included in the request is invalid.";
    /// The credential scope or the date of a signature is wrong.
    InvalidSignatureException = 403, "The signature is not acceptable.";
    /// The signature itself is wrong.
    SignatureDoesNotMatch = 403, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    /// A signature field lacks a part.
    IncompleteSignatureException = 403, "The request signature does not conform to AWS standards.";
    /// No signature at all.
    MissingAuthenticationTokenException = 403, "Missing Authentication Token";
    /// The request is too old. Scripted only; the emulator itself returns `InvalidSignatureException`.
    RequestExpired = 400, "Request has expired.";
    /// A throttle under its generic name.
    ThrottlingException = 400, "Maximum sending rate exceeded.";
    /// The modelled internal error.
    InternalServiceErrorException = 500, "The request couldn't be processed because an error occurred with the Amazon SES API v2.";
    /// The generic internal error.
    InternalFailure = 500, "The request processing has failed because of an unknown error, exception or failure.";
    /// The generic overload.
    ServiceUnavailable = 503, "The request has failed due to a temporary failure of the server.";
    /// The body did not arrive in time.
    RequestTimeout = 408, "The request body did not arrive in time.";
    /// The body is larger than the limit.
    RequestEntityTooLarge = 413, "The request body is too large.";
    /// The body is not the JSON that the operation requires.
    SerializationException = 400, "The request body is not valid.";
    /// No operation has this method and path.
    UnknownOperationException = 404, "The emulator does not know this operation.";
}

impl ErrorName {
    /// Finds a name by its spelling on the wire.
    pub fn from_wire(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|row| row.as_str() == name)
    }
}

/// One error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) name: ErrorName,
    pub(super) message: Cow<'static, str>,
    /// Sent as `x-amz-retry-after`, in milliseconds, which the SDKs honour.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(name: ErrorName, message: impl Into<Cow<'static, str>>) -> Self {
        Self { name, message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::BadRequestException, message)
    }
}

impl From<ErrorName> for Refusal {
    fn from(name: ErrorName) -> Self {
        Self::new(name, name.default_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// botocore 1.44.5, shapes with `exception: true` among the errors of SendEmail.
    #[test]
    fn modelled_exceptions_have_the_status_of_the_service_model() {
        for (name, status) in [
            ("TooManyRequestsException", 429),
            ("LimitExceededException", 400),
            ("AccountSuspendedException", 400),
            ("SendingPausedException", 400),
            ("MessageRejected", 400),
            ("MailFromDomainNotVerifiedException", 400),
            ("NotFoundException", 404),
            ("BadRequestException", 400),
        ] {
            assert_eq!(ErrorName::from_wire(name).map(ErrorName::status), Some(status), "{name}");
        }
        assert_eq!(ErrorName::from_wire("NoSuchName"), None);
    }
}
