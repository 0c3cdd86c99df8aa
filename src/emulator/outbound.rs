//! `POST /v2/email/outbound-emails`: SendEmail, with scripted faults.
//!
//! The steps of one request: recorded in the request log and given its fault → body read → signature verified →
//! checked, or refused by its fault → latency → charged to the quota and stored → faults that affect the response. A
//! request uses up its fault even if its signature is wrong; the response is then the signature error.
//!
//! A message that was stored stays stored, whatever happens afterwards: this is an ambiguous failure.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use serde_json::json;
use tokio::time::Instant;

use super::body::ReadBody;
use super::capture::CapturedMessage;
use super::connection::Connection;
use super::fault::Fault;
use super::quota::Cost;
use super::refusal::{ErrorName, Refusal};
use super::reply::{self, Reply};
use super::request::SendRequest;
use super::request_log::{RequestOutcome, Ticket};
use super::settings::{Credential, EmulatorSettings};
use super::submission::{self, Submission};
use super::{Shared, lock, mailbox_simulator, signature, storage};

/// Serves one SendEmail request.
pub(super) async fn send_email(shared: &Arc<Shared>, connection: &Connection, head: &Parts, body: Incoming) -> Reply {
    let fault = lock(&shared.script).take();
    let fault_name = Some(fault.name()).filter(|_| fault != Fault::Serve);
    let mut ticket = shared.request_log.enter(connection.number, fault_name, shared.clock.now());

    if fault == Fault::ResetBeforeBody {
        ticket.ends(RequestOutcome::Reset);
        return connection.reset().await;
    }
    let verdict = judge(shared, &ticket, head, body, &fault).await;
    if let Err(refusal) = &verdict {
        ticket.refused(refusal.name.as_str());
    }
    let reply = match (&fault, &verdict) {
        (Fault::Hang | Fault::AcceptThenHang, Err(refusal)) if is_about_signature(refusal.name) => {
            reply::refusal(refusal)
        }
        (Fault::Hang | Fault::AcceptThenHang, _) => {
            ticket.will_end(RequestOutcome::Hung);
            tokio::time::sleep(shared.settings.bounds.fault_time_max).await;
            return connection.reset().await;
        }
        (Fault::AcceptThenReset, Ok(_)) => {
            ticket.ends(RequestOutcome::Reset);
            return connection.reset().await;
        }
        (Fault::Status { status, body }, Ok(_)) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            reply::with_type(status, "text/html", Bytes::from(body.clone()))
        }
        (Fault::Garbage, Ok(_)) => reply::with_type(StatusCode::OK, "application/json", Bytes::from_static(GARBAGE)),
        (Fault::NoMessageId, Ok(_)) => reply::empty(),
        (Fault::Slow { octets_per_second }, verdict) => {
            reply::trickling(answer(verdict), octets_per_second.get(), shared.settings.bounds.fault_time_max)
        }
        (_, verdict) => answer(verdict),
    };
    ticket.ends(RequestOutcome::Answered(reply.status().as_u16()));
    reply
}

fn answer(verdict: &Result<String, Refusal>) -> Reply {
    match verdict {
        Ok(message_id) => reply::json(StatusCode::OK, &json!({"MessageId": message_id})),
        Err(refusal) => reply::refusal(refusal),
    }
}

/// Up to acceptance. Returns the message id, empty where the fault means that nothing is accepted.
async fn judge(
    shared: &Shared,
    ticket: &Ticket,
    head: &Parts,
    body: Incoming,
    fault: &Fault,
) -> Result<String, Refusal> {
    let ReadBody { octets, share: _share } = shared.read_body(body, shared.body_octets_max).await?;
    let settings = &shared.settings;
    let (credential, algorithm) =
        signature::verify(head, &octets, &settings.credentials, &settings.region, shared.clock.now())?;
    // Before the latency: after it, a large body has left the processor's cache, and the check would take longer.
    let verdict = submission(&octets, settings, fault).and_then(|it| signed_as_it_must_be(it, algorithm));
    let verdict = verdict.map(|submission| submission.map(|it| Judged::of(it, shared)));
    drop(octets);
    let latency = shared.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match verdict? {
        Some(judged) => accept(shared, ticket, judged, credential).await,
        None => Ok(String::new()),
    }
}

/// A message that SES would accept.
struct Judged {
    cost: Cost,
    /// `None` if the message will not be stored or returned.
    kept: Option<Submission>,
}

impl Judged {
    fn of(submission: Submission, shared: &Shared) -> Self {
        let keeps = shared.store.keeps_messages() || shared.settings.directory.is_some();
        Self { cost: submission.cost(), kept: keeps.then_some(submission) }
    }
}

/// The message, if SES would accept it. `None` if the fault makes the check unnecessary.
fn submission(body: &[u8], settings: &EmulatorSettings, fault: &Fault) -> Result<Option<Submission>, Refusal> {
    let read = || SendRequest::read(body).and_then(|request| Submission::read(request, settings));
    match fault {
        Fault::Hang | Fault::Status { .. } => Ok(None),
        Fault::Refuse { error, message, retry_after } => {
            let text = message.clone().unwrap_or_else(|| error.default_text().to_owned());
            Err(Refusal { retry_after: *retry_after, ..Refusal::new(*error, text) })
        }
        Fault::AccessDenied(denial) => {
            let resource = read().map_or_else(
                |_| submission::arn(settings, "identity", "*"),
                |submission| submission.identity_arn(settings),
            );
            let text = denial.text(&submission::principal(settings), "ses:SendRawEmail", &resource);
            Err(Refusal::new(ErrorName::AccessDeniedException, text))
        }
        _ => {
            let submission = read()?;
            submission.check(settings)?;
            Ok(Some(submission))
        }
    }
}

/// Charges the message to the quota and stores it.
fn signed_as_it_must_be(
    submission: Option<Submission>,
    by: signature::Algorithm,
) -> Result<Option<Submission>, Refusal> {
    match submission {
        Some(it) if it.request.parameters.endpoint_id.is_some() && by == signature::Algorithm::V4 => Err(Refusal::new(
            ErrorName::InvalidSignatureException,
            "A request to a multi-region endpoint must be signed with SigV4A.",
        )),
        other => Ok(other),
    }
}

async fn accept(
    shared: &Shared,
    ticket: &Ticket,
    Judged { cost, kept }: Judged,
    credential: &Credential,
) -> Result<String, Refusal> {
    let settings = &shared.settings;
    lock(&shared.quota).take(cost, Instant::now())?;

    let message_id = shared.ids.message_id(shared.clock.now());
    if let Some(submission) = kept {
        let outcomes =
            submission.recipients.iter().map(|mailbox| mailbox_simulator::outcome_for(mailbox, settings)).collect();
        let now = shared.clock.now();
        let message = CapturedMessage::new(message_id.clone(), now, submission, outcomes, &credential.access_key_id);
        if let Some(directory) = &settings.directory {
            let json = message.to_json().to_string();
            if let Err(error) = storage::write(directory, &message_id, message.raw.clone(), json).await {
                tracing::error!(%error, directory = %directory.display(), "emulator: message could not be written");
                return Err(ErrorName::InternalFailure.into());
            }
        }
        shared.store.add(Arc::new(message));
    } else {
        shared.store.count_only();
    }
    ticket.accepted(&message_id);
    Ok(message_id)
}

/// A wrong signature is reported even if a hang is scripted: otherwise a test of the hang would pass for the wrong
/// reason.
fn is_about_signature(name: ErrorName) -> bool {
    matches!(
        name,
        ErrorName::SignatureDoesNotMatch
            | ErrorName::InvalidSignatureException
            | ErrorName::IncompleteSignatureException
            | ErrorName::MissingAuthenticationTokenException
            | ErrorName::UnrecognizedClientException
    )
}

const GARBAGE: &[u8] = b"<html>this is not what the service model promises";
