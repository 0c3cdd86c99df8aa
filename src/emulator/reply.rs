//! HTTP responses and their bodies.
//!
//! Three kinds of body: complete; sent slowly at a given rate; a list of lines that is written while it is sent, so
//! that listing many large messages does not copy all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

use super::capture::CapturedMessage;
use super::clock::{self, WallClock};
use super::refusal::Refusal;

pub(super) type Reply = Response<ReplyBody>;

pub(super) enum ReplyBody {
    Whole(Option<Bytes>),
    Trickle(Trickle),
    Messages(std::vec::IntoIter<Arc<CapturedMessage>>),
}

/// One octet at a time.
pub(super) struct Trickle {
    rest: Bytes,
    pause: Duration,
    next: Pin<Box<Sleep>>,
    /// After this the body breaks off, and with it the connection.
    deadline: Instant,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let octets = match self.get_mut() {
            ReplyBody::Whole(octets) => octets.take(),
            ReplyBody::Messages(messages) => messages.next().map(|message| Bytes::from(message.to_line())),
            ReplyBody::Trickle(trickle) => return trickle.poll_octet(context),
        };
        Poll::Ready(octets.map(|octets| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(octets) => octets.is_none(),
            ReplyBody::Trickle(trickle) => trickle.rest.is_empty(),
            ReplyBody::Messages(messages) => messages.as_slice().is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(octets) => SizeHint::with_exact(octets.as_ref().map_or(0, |octets| octets.len() as u64)),
            ReplyBody::Trickle(trickle) => SizeHint::with_exact(trickle.rest.len() as u64),
            ReplyBody::Messages(_) => SizeHint::default(),
        }
    }
}

impl Trickle {
    fn poll_octet(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.next.as_mut().poll(context));
        let now = Instant::now();
        if now >= self.deadline {
            return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
        }
        self.next.as_mut().reset(now + self.pause);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(1)))))
    }
}

/// Sends the body of a response slowly.
pub(super) fn trickling(reply: Reply, octets_per_second: u32, time_max: Duration) -> Reply {
    reply.map(|body| match body {
        ReplyBody::Whole(octets) => {
            let now = Instant::now();
            let pause = Duration::from_secs(1) / octets_per_second.max(1);
            ReplyBody::Trickle(Trickle {
                rest: octets.unwrap_or_default(),
                pause,
                next: Box::pin(sleep_until(now + pause)),
                deadline: now + time_max,
            })
        }
        other => other,
    })
}

pub(super) fn json(status: StatusCode, value: &Value) -> Reply {
    with_type(status, "application/json", Bytes::from(value.to_string()))
}

pub(super) fn empty() -> Reply {
    with_type(StatusCode::OK, "application/json", Bytes::from_static(b"{}"))
}

pub(super) fn with_type(status: StatusCode, content_type: &'static str, octets: Bytes) -> Reply {
    with_body(status, content_type, ReplyBody::Whole(Some(octets)))
}

pub(super) fn with_body(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// rest-json 1: the name in a field, the text in the body.
pub(super) fn refusal(refusal: &Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.name.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, &json!({"message": refusal.message}));
    reply.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(refusal.name.as_str()));
    if let Some(wait) = refusal.retry_after {
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(milliseconds));
    }
    reply
}

/// Adds the fields that every response of the service has.
pub(super) fn sign_off(reply: &mut Reply, request_id: &str, clock: WallClock) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        reply.headers_mut().insert(REQUEST_ID, value);
    }
    if let (true, Ok(value)) = (clock.is_off(), HeaderValue::from_str(&clock::http_date(clock.now()))) {
        // Clients correct their clock by this field, so it has to be as wrong as the clock that checks signatures.
        reply.headers_mut().insert(DATE, value);
    }
}

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Milliseconds; the SDKs honour it.
const RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");
