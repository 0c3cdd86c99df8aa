//! The control API of the emulator: accepted messages, received requests, faults to raise.
//!
//! Requests need no signature, because the API listens on loopback only. A browser on the same machine is on loopback
//! too, so a request with an `Origin` field, or for a host name that is not loopback, is refused.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /health` | | `{"status":"ok"}` |
//! | `GET /messages` | | one JSON object a line, the oldest first |
//! | `DELETE /messages` | | forgets the list; counts and files stay |
//! | `GET /requests` | | counts, and under `recent` the SendEmail requests, the oldest first |
//! | `DELETE /requests` | | forgets `recent`; counts stay |
//! | `GET /faults` | | `{"waiting":n,"always":name or null}` |
//! | `POST /faults` | a list of faults | appends to the queue, one a SendEmail request |
//! | | `{"queue":[…],"always":fault or null,"at":[{"request":n,"fault":…}]}` | any of the three; `n` = 1 is the next request |
//! | `DELETE /faults` | | removes all faults |
//! | `GET /latency`, `PUT /latency` | `{"milliseconds":n}` or `n` | the latency in force |
//!
//! The spelling of a fault is in `fault.rs`. Errors: a status and `{"error": "…"}`; a script with one wrong fault is
//! refused whole.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::fault::Fault;
use super::reply::{self, Reply, ReplyBody};
use super::script::{FAULTS_MAX, FaultScript};
use super::{Shared, lock, request_log};

pub(super) async fn serve(shared: &Shared, head: &Parts, body: Incoming) -> Reply {
    match try_serve(shared, head, body).await {
        Ok(reply) => reply,
        Err((status, problem)) => reply::json(status, &json!({"error": problem})),
    }
}

type Problem = (StatusCode, String);

async fn try_serve(shared: &Shared, head: &Parts, body: Incoming) -> Result<Reply, Problem> {
    check_origin(head)?;
    let done = || Ok(reply::empty());
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/health") => Ok(ok(&json!({"status": "ok"}))),
        (&Method::GET, "/messages") => {
            let messages = ReplyBody::Messages(shared.store.list().into_iter());
            Ok(reply::with_body(StatusCode::OK, "application/jsonl", messages))
        }
        (&Method::DELETE, "/messages") => {
            shared.store.clear();
            done()
        }
        (&Method::GET, "/requests") => Ok(ok(&request_log::to_json(shared.counts(), &shared.request_log.recent()))),
        (&Method::DELETE, "/requests") => {
            shared.request_log.clear();
            done()
        }
        (&Method::GET, "/faults") => Ok(ok(&faults(&lock(&shared.script)))),
        (&Method::POST, "/faults") => {
            let orders = Orders::read(&read_json(shared, body).await?)?;
            let mut script = lock(&shared.script);
            orders.apply(&mut script)?;
            Ok(ok(&faults(&script)))
        }
        (&Method::DELETE, "/faults") => {
            lock(&shared.script).clear();
            done()
        }
        (&Method::GET, "/latency") => Ok(ok(&latency(shared))),
        (&Method::PUT, "/latency") => {
            let value = read_json(shared, body).await?;
            let milliseconds = value.get("milliseconds").unwrap_or(&value).as_u64();
            let milliseconds = milliseconds.ok_or_else(|| bad("latency is a whole number of milliseconds"))?;
            shared.set_latency(Duration::from_millis(milliseconds));
            Ok(ok(&latency(shared)))
        }
        (_, "/health" | "/messages" | "/requests" | "/faults" | "/latency") => {
            Err((StatusCode::METHOD_NOT_ALLOWED, "this resource does not know the method".to_owned()))
        }
        _ => Err((StatusCode::NOT_FOUND, "see the emulator's documentation for its resources".to_owned())),
    }
}

/// Refuses requests of web pages: cross-origin requests, and host names that resolve to this address (DNS rebinding).
fn check_origin(head: &Parts) -> Result<(), Problem> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    let name = name.unwrap_or("").trim_matches(['[', ']']);
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if head.headers.contains_key(ORIGIN) || !is_loopback {
        return Err((StatusCode::FORBIDDEN, "the control API serves programs on this machine only".to_owned()));
    }
    Ok(())
}

async fn read_json(shared: &Shared, body: Incoming) -> Result<Value, Problem> {
    let body = shared.read_body(body, CONTROL_BODY_OCTETS_MAX).await;
    let body = body.map_err(|refusal| bad(refusal.message))?;
    serde_json::from_slice(&body.octets).map_err(|error| bad(format!("not JSON: {error}")))
}

/// The body of `POST /faults`, parsed completely before any change.
#[derive(Default)]
struct Orders {
    queue: Vec<Fault>,
    at: Vec<(u64, Fault)>,
    always: Option<Option<Fault>>,
}

impl Orders {
    fn read(value: &Value) -> Result<Self, Problem> {
        let fault = |value: &Value| Fault::from_json(value).map_err(|error| bad(error.to_string()));
        let faults = |list: &[Value]| list.iter().map(fault).collect::<Result<Vec<_>, _>>();
        let members = match value {
            Value::Array(list) => return Ok(Self { queue: faults(list)?, ..Self::default() }),
            Value::Object(members) => members,
            _ => return Err(bad("a list of faults, or an object with queue, at, always")),
        };
        let mut orders = Self::default();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("queue", Value::Array(list)) => orders.queue = faults(list)?,
                ("always", Value::Null) => orders.always = Some(None),
                ("always", value) => orders.always = Some(Some(fault(value)?)),
                ("at", Value::Array(list)) => {
                    for entry in list {
                        let request = entry.get("request").and_then(Value::as_u64).filter(|request| *request > 0);
                        let request = request.ok_or_else(|| bad("request is a whole number above 0"))?;
                        orders.at.push((request, fault(entry.get("fault").unwrap_or(&Value::Null))?));
                    }
                }
                _ => return Err(bad(format!("{name}: unknown, or of the wrong type"))),
            }
        }
        Ok(orders)
    }

    fn apply(self, script: &mut FaultScript) -> Result<(), Problem> {
        let full = |_| bad(format!("at most {FAULTS_MAX} faults may wait"));
        script.room_for(self.queue.len() + self.at.len()).map_err(full)?;
        script.queue(self.queue).map_err(full)?;
        for (request, fault) in self.at {
            script.at(request, fault).map_err(full)?;
        }
        if let Some(always) = self.always {
            script.always(always);
        }
        Ok(())
    }
}

fn faults(script: &FaultScript) -> Value {
    json!({"waiting": script.waiting(), "always": script.standing().map(Fault::name)})
}

fn latency(shared: &Shared) -> Value {
    json!({"milliseconds": u64::try_from(shared.latency().as_millis()).unwrap_or(u64::MAX)})
}

fn ok(value: &Value) -> Reply {
    reply::json(StatusCode::OK, value)
}

fn bad(problem: impl Into<String>) -> Problem {
    (StatusCode::BAD_REQUEST, problem.into())
}

/// Enough for the longest script.
const CONTROL_BODY_OCTETS_MAX: usize = 4 * 1024 * 1024;
