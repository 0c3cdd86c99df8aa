//! AUTH: verification of credentials, and the lock-out after too many failures.

use super::SessionHandler;
use crate::auth::{AuthDecision, AuthError};
use crate::limit::LoginStatus;
use crate::mail::{Credentials, Reply, replies};
use crate::observe::Event;
use crate::smtp::Answer;

impl SessionHandler {
    pub(super) async fn authenticate(&mut self, credentials: &Credentials) -> Answer {
        let name = &*credentials.name;
        let hash = self.last_failure.hash(credentials);
        // The same credentials with another mechanism are the same failure, and not locked out by it.
        let again = self.last_failure.is(hash);
        if let Some(lockout) = self.relay.lockout.as_ref().filter(|_| !again) {
            match lockout.standing(&self.client, name) {
                LoginStatus::Free => {}
                LoginStatus::Delayed(wait) => tokio::time::sleep(wait).await,
                LoginStatus::Locked(wait) => {
                    self.relay.limit_hit("auth.failures", self.client.app.as_ref());
                    let seconds = wait.as_secs() + 1;
                    let text = format!("Too many authentication failures, try again in {seconds} s");
                    let reply = replies::AUTHENTICATION_LOCKED.with_text(&text);
                    let detail = "locked out: too many failures with this name from this client, or with any names";
                    return self.not_authenticated(name, reply, detail);
                }
            }
        }
        let verification = match &self.relay.lockout {
            Some(lockout) => match lockout.verification(&self.client).await {
                Some(verification) => Some(verification),
                None => {
                    let detail = "too many verifications of this client at once";
                    return self.not_authenticated(name, replies::AUTHENTICATION_UNAVAILABLE, detail);
                }
            },
            None => None,
        };
        let decision = match &self.relay.authenticator {
            Some(authenticator) => authenticator.authenticate(credentials).await,
            None => Ok(AuthDecision::Reject),
        };
        drop(verification);
        match decision {
            Ok(AuthDecision::Accept(identity)) => {
                self.recognised = true;
                self.client.identity = Some(identity.clone());
                self.client.app = self.relay.policy.application(&self.client);
                let event = Event::Authenticated { client: &self.client, identity: &identity };
                self.relay.observer.observe(&event);
                Answer::Proceed
            }
            Ok(AuthDecision::Reject) => {
                self.last_failure.set(hash);
                if let Some(lockout) = self.relay.lockout.as_ref().filter(|_| !again) {
                    lockout.failed(&self.client, name);
                }
                self.not_authenticated(name, replies::BAD_CREDENTIALS, "")
            }
            Err(error @ (AuthError::Busy | AuthError::Unavailable(_))) => {
                self.not_authenticated(name, replies::AUTHENTICATION_UNAVAILABLE, &error.to_string())
            }
        }
    }

    fn not_authenticated(&self, name: &str, reply: Reply, detail: &str) -> Answer {
        self.relay.observer.observe(&Event::AuthenticationFailed { client: &self.client, name, reply: &reply, detail });
        Answer::Refuse(reply)
    }
}
