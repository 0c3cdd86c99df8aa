//! Who may do what on the admin endpoint.
//!
//! | | reads | changes, and reads content |
//! |---|---|---|
//! | TCP without any token: loopback only | every client on this machine | no client |
//! | TCP with tokens | every token | the operator tokens |
//! | Unix socket without operator tokens | who may open it, with the token if there is one | the same |
//! | Unix socket with operator tokens | every token | the operator tokens |
//!
//! `/livez` and `/readyz` need no token; without one `/readyz` gives no reasons where there are tokens. A page in a browser on the same
//! machine can call a TCP port on loopback, under a name that its author lets point there (DNS rebinding). So where no token is needed,
//! a request must name the endpoint by a loopback address or `localhost`.

use super::AdminContext;
use super::clients::LoginStatus;
use super::problem::Problem;
use crate::observe::Event;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Who may do what. Clones share the tokens.
#[derive(Clone)]
pub(crate) struct Access {
    tokens: Arc<RwLock<Tokens>>,
    unix: bool,
}

/// The tokens of an endpoint.
struct Tokens {
    token: Option<Arc<str>>,
    operators: Vec<(Arc<str>, Arc<str>)>,
}

impl Tokens {
    fn new(token: Option<String>, operators: Vec<(String, String)>) -> Self {
        let operators = operators.into_iter().map(|(name, token)| (name.into(), token.into())).collect();
        Self { token: token.map(Into::into), operators }
    }

    fn is_open(&self) -> bool {
        self.token.is_none() && self.operators.is_empty()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("unix", &self.unix).finish_non_exhaustive()
    }
}

/// What is known of the client of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The name under which it may change something; `None`: it may only read.
    pub(super) operator: Option<Arc<str>>,
    /// Whether it may read. Without that, it learns only whether the relay is ready.
    pub(super) reads: bool,
}

/// The operator of a Unix socket without operator tokens.
const SOCKET: &str = "socket";

impl Access {
    pub(super) fn new(token: Option<String>, operators: Vec<(String, String)>, unix: bool) -> Self {
        Self { tokens: Arc::new(RwLock::new(Tokens::new(token, operators))), unix }
    }

    /// Replaces the tokens, from the next request on.
    pub(crate) fn replace(&self, token: Option<String>, operators: Vec<(String, String)>) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Tokens::new(token, operators);
    }

    fn tokens(&self) -> RwLockReadGuard<'_, Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        self.tokens().is_open()
    }

    /// The client that shows this token; `None`: it may not read.
    fn caller(&self, shown: Option<&str>) -> Option<Caller> {
        let tokens = self.tokens();
        let socket = (self.unix && tokens.operators.is_empty()).then(|| SOCKET.into());
        if tokens.is_open() {
            return Some(Caller { operator: socket, reads: true });
        }
        let shown = shown?;
        // All are compared, so that the time tells nothing.
        let operators = tokens.operators.iter().filter(|(_, token)| same(token, shown));
        let operator = operators.fold(None, |_, (name, _)| Some(Arc::clone(name)));
        let reader = tokens.token.as_deref().is_some_and(|token| same(token, shown));
        (operator.is_some() || reader).then(|| Caller { operator: operator.or(socket), reads: true })
    }
}

/// Compares in constant time.
fn same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Admits a request, or answers 401 or 403.
pub(super) async fn admit(
    State(access): State<Access>,
    Extension(status): Extension<Arc<LoginStatus>>,
    mut request: Request,
    next: Next,
) -> Response {
    let _answering = status.answering();
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let path = request.uri().path();
    let (is_health, is_metrics) = (matches!(path, "/livez" | "/readyz"), path == "/metrics");
    let Some(caller) = access.caller(shown) else {
        // The connection is not kept for a client that shows no token.
        let mut response = if is_health {
            request.extensions_mut().insert(Caller { operator: None, reads: false });
            next.run(request).await
        } else {
            let detail = "show a token of admin.token or admin.operator_tokens as Authorization: Bearer TOKEN";
            let fields = [(header::WWW_AUTHENTICATE, "Bearer")];
            (fields, Problem::new(StatusCode::UNAUTHORIZED, detail)).into_response()
        };
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    };
    status.recognise();
    if access.is_open() && !access.unix && !is_health && !is_metrics && !names_loopback(&request) {
        let detail = "without a token, the Host field must be a loopback address or localhost: a browser may call under another name";
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Whether the host that a request names is this machine.
fn names_loopback(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let absolute = request.uri().authority().map(|authority| authority.as_str());
    host.is_some_and(is_loopback) && absolute.is_none_or(is_loopback)
}

fn is_loopback(authority: &str) -> bool {
    let Ok(uri) = Uri::builder().scheme("http").authority(authority).path_and_query("/").build() else { return false };
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let named = !authority.contains('@') && host.eq_ignore_ascii_case("localhost");
    named || (!authority.contains('@') && bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

/// Lets only operators through, and reports what they do.
pub(super) async fn operate(
    State(subject): State<Arc<AdminContext>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let Some(operator) = caller.operator else {
        let detail = "this needs a token of admin.operator_tokens, or an admin.address that is a Unix socket; admin.token only reads";
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut operated = Operated { action: format!("{} {path}", request.method()), operator, subject, status: 0 };
    let response = next.run(request).await;
    operated.status = response.status().as_u16();
    response
}

/// What an operator does. Reported when it is dropped: also if the client goes away before the answer.
struct Operated {
    subject: Arc<AdminContext>,
    operator: Arc<str>,
    action: String,
    status: u16,
}

impl Drop for Operated {
    fn drop(&mut self) {
        let Self { operator, action, status, .. } = self;
        self.subject.relay.get().observer().observe(&Event::Operated { operator, action, status: *status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for (host, want) in [
            ("localhost", true),
            ("LOCALHOST:9925", true),
            ("127.0.0.1:9925", true),
            ("127.1.2.3", true),
            ("[::1]:9925", true),
            ("[::1]", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:9925", false),
            ("evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example@127.0.0.1", false),
            ("10.0.0.1", false),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), want, "{host}");
        }
    }

    #[test]
    fn who_may_read_and_who_may_change() {
        let (token, alice) = (Some("reads".to_owned()), vec![("alice".to_owned(), "changes".to_owned())]);
        let operator = |access: &Access, shown| {
            access.caller(shown).map(|caller| caller.operator.map(|name| name.to_string()).unwrap_or_default())
        };
        for (token, operators, unix, shown, want) in [
            (None, vec![], false, None, Some("")),
            (None, vec![], true, None, Some("socket")),
            (token.clone(), vec![], false, None, None),
            (token.clone(), vec![], false, Some("wrong"), None),
            (token.clone(), vec![], false, Some("reads"), Some("")),
            (token.clone(), vec![], true, Some("reads"), Some("socket")),
            (token.clone(), vec![], true, None, None),
            (token.clone(), alice.clone(), false, Some("reads"), Some("")),
            (token.clone(), alice.clone(), false, Some("changes"), Some("alice")),
            (token.clone(), alice.clone(), true, Some("reads"), Some("")),
            (None, alice.clone(), false, None, None),
            (None, alice.clone(), true, None, None),
            (None, alice.clone(), true, Some("changes"), Some("alice")),
        ] {
            let access = Access::new(token.clone(), operators.clone(), unix);
            let found = operator(&access, shown);
            assert_eq!(found.as_deref(), want, "{token:?} {operators:?} {unix} {shown:?}");
        }
    }
}
