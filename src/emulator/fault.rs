//! Faults that can be scripted, and their spelling in the control API.
//!
//! A fault is a fact about one SendEmail request. What it does on the connection is in `outbound.rs`; in which order
//! faults are taken is in `script.rs`.
//!
//! Spelling: a string, or an object whose member `fault` is that string and whose other members are its parameters.
//!
//! | string | parameters | what the client meets |
//! | --- | --- | --- |
//! | `ok` | | nothing: the request is served |
//! | `429` `500` `503` | `message`, `retry_after_milliseconds` | `TooManyRequestsException`, `InternalFailure`, `ServiceUnavailable` |
//! | `daily-quota` `expired-token` | the same | `LimitExceededException`, `ExpiredTokenException` |
//! | any [`ErrorName`] | the same | that error, with its status and its usual text |
//! | `access-denied` | `form`: `bare`, `implicit`, `explicit`; `policy` | `AccessDeniedException` |
//! | `status` | `status`, `body` | an answer that the service did not write, such as a load balancer's page |
//! | `hang` | | the request is read, and nothing follows |
//! | `accept-then-hang` | | the message is accepted, and nothing follows |
//! | `reset-before-body` | | a TCP reset before the body was read |
//! | `accept-then-reset` | | the message is accepted, then a TCP reset instead of the answer |
//! | `slow` | `octets_per_second` | the answer's body trickles |
//! | `garbage` | | the message is accepted, and the 200 carries something that is not JSON |
//! | `no-message-id` | | the message is accepted, and the 200 carries `{}` |

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;

use super::access_denied::Denial;
use super::refusal::ErrorName;

/// The fault of one SendEmail request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No fault. Used to skip a request in a script.
    Serve,
    /// The request is refused with this error.
    Refuse {
        /// Which error.
        error: ErrorName,
        /// Its text; the table's own when absent.
        message: Option<String>,
        /// Sent as `x-amz-retry-after`.
        retry_after: Option<Duration>,
    },
    /// The request is refused by IAM, in one of its texts. The resource is the identity of the message's author.
    AccessDenied(Denial),
    /// A status and a body without an error name, as a proxy would return. The message is not accepted.
    Status {
        /// HTTP status, 200 to 599.
        status: u16,
        /// Sent as `text/html`.
        body: String,
    },
    /// The whole request is read, the message is not accepted, and no response is sent.
    Hang,
    /// The message is accepted, and no response is sent.
    AcceptThenHang,
    /// The connection is reset after the head of the request, before its body is read.
    ResetBeforeBody,
    /// The message is accepted, then the connection is reset without a response.
    AcceptThenReset,
    /// The request is served, and the body of the response is sent at this rate.
    Slow {
        /// Octets of the body each second.
        octets_per_second: NonZeroU32,
    },
    /// The message is accepted; status 200 and a body that is not JSON.
    Garbage,
    /// The message is accepted; status 200 and a JSON object without `MessageId`, which the service model permits.
    NoMessageId,
}

/// Why a fault could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultSyntaxError {
    /// No fault or error has this name.
    #[error("no fault is called {0:?}")]
    Unknown(String),
    /// The fault needs a parameter, or the parameter has the wrong type or range.
    #[error("fault {fault:?}: {problem}")]
    Parameter {
        /// The fault.
        fault: String,
        /// The error.
        problem: &'static str,
    },
    /// Neither a string nor an object with a member `fault`.
    #[error("a fault is a string, or an object with a member \"fault\"")]
    Shape,
}

impl Fault {
    /// Refuses with an error and its usual text.
    pub fn refuse(error: ErrorName) -> Self {
        Fault::Refuse { error, message: None, retry_after: None }
    }

    /// HTTP 429, `TooManyRequestsException`.
    pub fn throttled() -> Self {
        Self::refuse(ErrorName::TooManyRequestsException)
    }

    /// HTTP 500, `InternalFailure`.
    pub fn internal_error() -> Self {
        Self::refuse(ErrorName::InternalFailure)
    }

    /// HTTP 503, `ServiceUnavailable`.
    pub fn unavailable() -> Self {
        Self::refuse(ErrorName::ServiceUnavailable)
    }

    /// HTTP 400, `LimitExceededException` with the text of the daily quota.
    pub fn daily_quota() -> Self {
        Self::refuse(ErrorName::LimitExceededException)
    }

    /// HTTP 403, `ExpiredTokenException`.
    pub fn expired_token() -> Self {
        Self::refuse(ErrorName::ExpiredTokenException)
    }

    /// The name under which the fault is listed.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Serve => "ok",
            Fault::Refuse { error, .. } => error.as_str(),
            Fault::AccessDenied(_) => "access-denied",
            Fault::Status { .. } => "status",
            Fault::Hang => "hang",
            Fault::AcceptThenHang => "accept-then-hang",
            Fault::ResetBeforeBody => "reset-before-body",
            Fault::AcceptThenReset => "accept-then-reset",
            Fault::Slow { .. } => "slow",
            Fault::Garbage => "garbage",
            Fault::NoMessageId => "no-message-id",
        }
    }

    pub(super) fn from_json(value: &Value) -> Result<Self, FaultSyntaxError> {
        let name = match value {
            Value::String(name) => name.as_str(),
            Value::Object(members) => members.get("fault").and_then(Value::as_str).ok_or(FaultSyntaxError::Shape)?,
            _ => return Err(FaultSyntaxError::Shape),
        };
        let wrong = |problem| FaultSyntaxError::Parameter { fault: name.to_owned(), problem };
        let text = |member: &str| value.get(member).and_then(Value::as_str).map(str::to_owned);
        let number = |member: &str| value.get(member).and_then(Value::as_u64);
        match name {
            "ok" => Ok(Fault::Serve),
            "hang" => Ok(Fault::Hang),
            "accept-then-hang" => Ok(Fault::AcceptThenHang),
            "reset-before-body" => Ok(Fault::ResetBeforeBody),
            "accept-then-reset" => Ok(Fault::AcceptThenReset),
            "garbage" => Ok(Fault::Garbage),
            "no-message-id" => Ok(Fault::NoMessageId),
            "slow" => number("octets_per_second")
                .and_then(|rate| u32::try_from(rate).ok())
                .and_then(NonZeroU32::new)
                .map(|octets_per_second| Fault::Slow { octets_per_second })
                .ok_or_else(|| wrong("octets_per_second must be a whole number above 0")),
            "status" => number("status")
                .and_then(|status| u16::try_from(status).ok())
                .filter(|status| (200..600).contains(status))
                .map(|status| Fault::Status { status, body: text("body").unwrap_or_default() })
                .ok_or_else(|| wrong("status must be 200 to 599")),
            "access-denied" => {
                let policy = text("policy").unwrap_or_else(|| "identity-based policy".to_owned());
                match text("form").as_deref() {
                    None | Some("bare") => Ok(Fault::AccessDenied(Denial::Bare)),
                    Some("implicit") => Ok(Fault::AccessDenied(Denial::Implicit(policy))),
                    Some("explicit") => Ok(Fault::AccessDenied(Denial::Explicit(policy))),
                    Some(_) => Err(wrong("form must be bare, implicit or explicit")),
                }
            }
            other => {
                let error = SHORT_NAMES
                    .iter()
                    .find_map(|(short, error)| (*short == other).then_some(*error))
                    .or_else(|| ErrorName::from_wire(other))
                    .ok_or_else(|| FaultSyntaxError::Unknown(other.to_owned()))?;
                let retry_after = number("retry_after_milliseconds").map(Duration::from_millis);
                Ok(Fault::Refuse { error, message: text("message"), retry_after })
            }
        }
    }
}

impl std::str::FromStr for Fault {
    type Err = FaultSyntaxError;

    /// Parses the string form of the table above.
    fn from_str(name: &str) -> Result<Self, FaultSyntaxError> {
        Self::from_json(&Value::String(name.to_owned()))
    }
}

const SHORT_NAMES: &[(&str, ErrorName)] = &[
    ("429", ErrorName::TooManyRequestsException),
    ("500", ErrorName::InternalFailure),
    ("503", ErrorName::ServiceUnavailable),
    ("daily-quota", ErrorName::LimitExceededException),
    ("expired-token", ErrorName::ExpiredTokenException),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_the_table_is_read() {
        for name in
            ["ok", "hang", "accept-then-hang", "reset-before-body", "accept-then-reset", "garbage", "no-message-id"]
        {
            let fault: Fault = name.parse().expect(name);
            assert_eq!(fault.name(), name);
        }
        for error in ErrorName::ALL {
            assert_eq!(error.as_str().parse(), Ok(Fault::refuse(*error)));
        }
        for (short, fault) in [
            ("429", Fault::throttled()),
            ("500", Fault::internal_error()),
            ("503", Fault::unavailable()),
            ("daily-quota", Fault::daily_quota()),
            ("expired-token", Fault::expired_token()),
            ("access-denied", Fault::AccessDenied(Denial::Bare)),
        ] {
            assert_eq!(short.parse(), Ok(fault), "{short}");
        }
        let octets_per_second = NonZeroU32::new(10).expect("not zero");
        for (value, fault) in [
            (json!({"fault": "slow", "octets_per_second": 10}), Fault::Slow { octets_per_second }),
            (json!({"fault": "status", "status": 502}), Fault::Status { status: 502, body: String::new() }),
            (
                json!({"fault": "access-denied", "form": "explicit", "policy": "VPC endpoint policy"}),
                Fault::AccessDenied(Denial::Explicit("VPC endpoint policy".into())),
            ),
            (
                json!({"fault": "429", "message": "slower", "retry_after_milliseconds": 50}),
                Fault::Refuse {
                    error: ErrorName::TooManyRequestsException,
                    message: Some("slower".into()),
                    retry_after: Some(Duration::from_millis(50)),
                },
            ),
        ] {
            assert_eq!(Fault::from_json(&value), Ok(fault), "{value}");
        }
    }

    #[test]
    fn what_the_table_does_not_list_is_refused() {
        for value in [
            json!("explode"),
            json!(429),
            json!({}),
            json!("slow"),
            json!({"fault": "slow", "octets_per_second": 0}),
            json!({"fault": "status", "status": 99}),
            json!({"fault": "access-denied", "form": "polite"}),
        ] {
            assert!(Fault::from_json(&value).is_err(), "{value}");
        }
    }
}
