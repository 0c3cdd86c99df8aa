//! Which of the last hour's messages another configuration would decide differently.
//!
//! A message is replayed only if the configuration in force still decides it as it was decided: its content is not kept, so a decision that
//! was made about more than addresses cannot be repeated. Limits are not replayed.

use crate::builder::{Builder, Explanation, Facts, Running};
use crate::observe::{Decision, DecisionQuery, DecisionResult, Decisions, Stage};
use std::sync::Arc;

/// Decisions that are replayed, the latest ones.
const REPLAYED_MAX: usize = 1_000;
/// Differences that are listed.
const LISTED_MAX: usize = 50;
const HOUR_MILLISECONDS: u64 = 3_600_000;

/// What would be decided differently, in words.
pub(super) async fn replay(running: &Running, next: &Builder, decisions: &Decisions, now: u64) -> Vec<String> {
    let query = DecisionQuery {
        since: Some(now.saturating_sub(HOUR_MILLISECONDS)),
        limit: REPLAYED_MAX,
        ..DecisionQuery::default()
    };
    let (mut replayed, mut not_replayable, mut differ) = (0, 0, Vec::new());
    for decision in decisions.search(&query).decisions {
        let Some(facts) = facts(&decision) else { continue };
        let now = running.explain_without_limits(&facts).await.ok();
        if now.as_ref().map(verdict) != Some(decided(&decision)) {
            not_replayable += 1;
            continue;
        }
        replayed += 1;
        // This thread serves the admin endpoint too.
        tokio::task::yield_now().await;
        // An error: the listener is gone.
        let after = next.explain(&facts).await.ok();
        if after.as_ref().map(verdict) != Some(decided(&decision)) {
            differ.push(line(&decision, after.as_ref()));
        }
    }
    let more = differ.len().saturating_sub(LISTED_MAX);
    differ.truncate(LISTED_MAX);
    if more > 0 {
        differ.push(format!("and {more} more messages"));
    }
    if replayed + not_replayable > 0 {
        differ.push(format!("{replayed} of the last hour's messages were replayed, {not_replayable} could not be"));
    }
    differ
}

/// Whether a message is let through, or rejected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Rejected,
    Other,
}

fn verdict(explanation: &Explanation) -> Verdict {
    match explanation.reply.as_bytes().first() {
        Some(b'2') => Verdict::Accepted,
        Some(b'5') => Verdict::Rejected,
        _ => Verdict::Other,
    }
}

fn decided(decision: &Decision) -> Verdict {
    match decision.result {
        DecisionResult::Accepted | DecisionResult::Kept => Verdict::Accepted,
        DecisionResult::Rejected => Verdict::Rejected,
        _ => Verdict::Other,
    }
}

/// What is known of a message; `None`: not enough for a replay.
fn facts(decision: &Decision) -> Option<Facts> {
    let stage = matches!(decision.stage, Stage::Mail | Stage::Rcpt | Stage::Message);
    if !stage || decided(decision) == Verdict::Other || decision.recipients.len() != decision.recipient_count {
        return None;
    }
    let reverse_path = decision.reverse_path.as_ref()?;
    let reverse_path = reverse_path.mailbox().map(ToString::to_string).unwrap_or_default();
    let mut to: Vec<String> = decision.recipients.iter().map(ToString::to_string).collect();
    if to.is_empty() {
        // Refused at MAIL: any recipient will do.
        to.push("postmaster@example.com".to_owned());
    }
    let authors: Vec<String> = decision.authors.iter().map(ToString::to_string).collect();
    let from = if authors.is_empty() { reverse_path.clone() } else { authors.join(", ") };
    let message = format!("From: {from}\r\nTo: {}\r\nSubject: replayed\r\n\r\nreplayed\r\n", to[0]);
    Some(Facts {
        listener: decision.listener.as_ref().map(|name| name.to_string()),
        client: Some(decision.client?),
        identity: decision.identity.as_ref().map(|name| name.to_string()),
        tls: false,
        certificate: None,
        reverse_path,
        forward_paths: to,
        message: message.into(),
    })
}

fn line(decision: &Arc<Decision>, after: Option<&Explanation>) -> String {
    let who = decision.transaction.map_or_else(|| "a message".to_owned(), |id| format!("message {id}"));
    let app = decision.app.as_ref().map(|app| format!(" of {app}")).unwrap_or_default();
    let was = if decided(decision) == Verdict::Accepted { "accepted" } else { "rejected" };
    let would = match after {
        Some(explanation) => format!("would receive: {}", explanation.reply),
        None => "would have no listener".to_owned(),
    };
    format!("{who}{app}, which was {was}, {would}")
}
