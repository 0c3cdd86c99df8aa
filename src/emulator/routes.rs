//! Which request is which operation.
//!
//! Paths under `/v2/` are the service's and must be signed; all others are the control API's and are not.
//! SES API v2, HTTP bindings in botocore 1.44.5, `sesv2`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request};
use percent_encoding::percent_decode_str;

use super::connection::Connection;
use super::reads::{self, Read};
use super::refusal::{ErrorName, Refusal};
use super::reply::{self, Reply};
use super::{Shared, control, outbound, signature};

pub(super) async fn serve(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    shared.request_log.http_requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    if !head.uri.path().starts_with("/v2/") {
        return Ok(control::serve(&shared, &head, body).await);
    }
    if connection.is_first_for_the_service() {
        shared.request_log.service_connections_opened.fetch_add(1, Ordering::Relaxed);
    }
    let mut reply = match operation(&head) {
        Some(Operation::SendEmail) => outbound::send_email(&shared, &connection, &head, body).await,
        Some(Operation::Read(read)) => match verify(&shared, &head, body).await {
            Ok(()) => reads::answer(&shared, &read),
            Err(refusal) => reply::refusal(&refusal),
        },
        None => reply::refusal(&ErrorName::UnknownOperationException.into()),
    };
    reply::sign_off(&mut reply, &shared.ids.request_id(), shared.clock);
    Ok(reply)
}

async fn verify(shared: &Shared, head: &Parts, body: Incoming) -> Result<(), Refusal> {
    let body = shared.read_body(body, READ_BODY_OCTETS_MAX).await?;
    let settings = &shared.settings;
    signature::verify(head, &body.octets, &settings.credentials, &settings.region, shared.clock.now())?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Operation {
    SendEmail,
    Read(Read),
}

fn operation(head: &Parts) -> Option<Operation> {
    let segments: Vec<_> = head.uri.path().split('/').skip(1).collect();
    let decoded = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned());
    let read = match (&head.method, &segments[..]) {
        (&Method::POST, ["v2", "email", "outbound-emails"]) => return Some(Operation::SendEmail),
        (&Method::GET, ["v2", "email", "account"]) => Read::Account,
        (&Method::GET, ["v2", "email", "identities", name]) => Read::EmailIdentity(decoded(name)?),
        (&Method::GET, ["v2", "email", "configuration-sets", name]) => Read::ConfigurationSet(decoded(name)?),
        (&Method::GET, ["v2", "email", "suppression", "addresses", address]) => {
            Read::SuppressedDestination(decoded(address)?)
        }
        _ => return None,
    };
    Some(Operation::Read(read))
}

/// Read operations have no body.
const READ_BODY_OCTETS_MAX: usize = 64 * 1024;
