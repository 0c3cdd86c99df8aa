//! The last decisions: why was this message refused, and did that message leave.

use super::extract::{ApiPath, ApiQuery};
use super::time::{Time, millis};
use crate::admin::{AdminContext, Problem};
use crate::mail::{ClientAddress, Mailbox, ReversePath};
use crate::observe::{AddressForm, Decision, DecisionQuery, DecisionResult, Found, Stage, printable};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of a page.
pub(crate) const PAGE_MAX: usize = 200;
const PAGE_DEFAULT: usize = 50;

/// Which decisions. All that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DecisionFilter {
    /// Reverse-path, author or recipient; `<>`: the null reverse-path; `@example.com`: every address of that domain.
    pub(crate) address: Option<String>,
    /// The Message-ID field, or the message id of SES.
    pub(crate) message_id: Option<String>,
    /// The reference of a reply (`ref …`), a queue id, or the id of a session.
    pub(crate) reference: Option<String>,
    /// The rule or limit that decided.
    pub(crate) rule: Option<String>,
    /// The application.
    pub(crate) app: Option<String>,
    /// The result.
    pub(crate) result: Option<DecisionResult>,
    /// Not before this time, RFC 3339.
    pub(crate) since: Option<String>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
    /// Rows of the page, 1 to 200. Default: 50.
    #[schemars(range(min = 1, max = 200))]
    pub(crate) limit: Option<usize>,
}

/// A page of decisions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DecisionPage {
    /// The latest first.
    pub(crate) rows: Vec<DecisionRow>,
    /// The `after` of the next page; `null`: there is none.
    pub(crate) next: Option<String>,
}

/// One decision. Addresses, AUTH names and Message-IDs have the form of `log.addresses`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DecisionRow {
    /// Its number: later decisions have greater ones.
    pub(crate) number: u64,
    /// When.
    pub(crate) time: Time,
    /// Where it was made.
    pub(crate) stage: Stage,
    /// What the client was told.
    pub(crate) result: DecisionResult,
    /// The transaction: the `ref` of the reply, and the queue id of a kept message.
    pub(crate) reference: Option<String>,
    /// The session.
    pub(crate) session: Option<String>,
    /// The application.
    pub(crate) app: Option<String>,
    /// The listener.
    pub(crate) listener: Option<String>,
    /// Address and port of the client, or `unix`.
    pub(crate) client: Option<String>,
    /// The AUTH name; of a failed login, the name that was tried.
    pub(crate) identity: Option<String>,
    /// The reverse-path; `<>` is the null reverse-path; `null`: not known.
    pub(crate) reverse_path: Option<String>,
    /// The authors, at most 5.
    pub(crate) authors: Vec<String>,
    /// The recipients, at most 20; of a refused RCPT, the one in question.
    pub(crate) recipients: Vec<String>,
    /// The number of recipients.
    pub(crate) recipient_count: usize,
    /// Octets of content.
    pub(crate) octets: Option<u64>,
    /// The Message-ID field.
    pub(crate) message_id: Option<String>,
    /// The rule or limit that decided.
    pub(crate) rule: Option<String>,
    /// What permitted the message: pattern and statements of documents.
    pub(crate) permitted_by: Option<String>,
    /// The reply: code, enhanced status, text.
    pub(crate) reply: Option<String>,
    /// Why exactly. Left out where it may contain addresses, unless `log.addresses` is plain.
    pub(crate) detail: String,
    /// Calls in which SES accepted it: one, or one for each part.
    pub(crate) ses_messages: Vec<SesMessage>,
    /// What became of it in the spool.
    pub(crate) queue: Option<QueueFate>,
}

/// A message, or a part of one, that SES accepted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SesMessage {
    /// The message id of SES.
    pub(crate) id: String,
    /// When.
    pub(crate) time: Time,
    /// The number of recipients.
    pub(crate) recipients: usize,
    /// The first of them, if it was a part of the message: a range of the recipients, in their order.
    pub(crate) first_recipient: Option<String>,
}

/// What became of a message in the spool.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QueueFate {
    /// `waiting`, `held`, `sent`, `rejected`, `expired`, `damaged` or `removed`.
    pub(crate) status: String,
    /// Attempts that ended.
    pub(crate) attempts: u32,
    /// The last attempt.
    pub(crate) last_attempt: Option<Attempt>,
    /// When it left the spool.
    pub(crate) left: Option<Time>,
}

/// An attempt to send a message of the spool.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Attempt {
    /// When it ended.
    pub(crate) time: Time,
    /// How, as in the log field `outcome`.
    pub(crate) outcome: String,
    /// The error code of SES.
    pub(crate) code: Option<String>,
    /// Status, code and text of SES.
    pub(crate) detail: String,
    /// When the next one is due.
    pub(crate) next: Option<Time>,
}

fn query(filter: DecisionFilter) -> Result<DecisionQuery, Problem> {
    let DecisionFilter { address, message_id, reference, rule, app, result, since, after, limit } = filter;
    let bad = |name: &str, text: &str, want: &str| Problem::bad_request(format!("{name} is {text:?}: {want}"));
    let since = since.map(|text| millis(&text).ok_or_else(|| bad("since", &text, "an RFC 3339 time"))).transpose()?;
    let before = |text: String| text.parse().map_err(|_| bad("after", &text, "the next of a page"));
    let before = after.map(before).transpose()?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad("limit", &limit.to_string(), "1 to 200"));
    }
    Ok(DecisionQuery { address, message_id, reference, rule, app, result, since, before, limit })
}

impl DecisionPage {
    fn of(found: &Found, form: AddressForm) -> Self {
        let rows = found.decisions.iter().map(|decision| DecisionRow::of(decision, form)).collect();
        Self { rows, next: found.next.map(|next| next.to_string()) }
    }

    /// The decisions that fit.
    pub(crate) fn find(subject: &AdminContext, filter: DecisionFilter) -> Result<Self, Problem> {
        let query = query(filter)?;
        if subject.decisions.max() == 0 {
            return Err(Problem::not_found("no decisions are kept: set admin.decisions_max"));
        }
        Ok(Self::of(&subject.decisions.search(&query), subject.addresses))
    }
}

impl DecisionRow {
    fn of(decision: &Decision, form: AddressForm) -> Self {
        let shown = form != AddressForm::Omitted;
        let mailboxes = |all: &[Mailbox]| all.iter().filter(|_| shown).map(|it| form.mailbox(it)).collect();
        let text = |text: &Option<Box<str>>| text.as_deref().map(|text| printable(text).into_owned());
        let name = |text: &Option<Box<str>>| text.as_deref().map(|text| form.name(text).into_owned());
        let reverse_path = decision.reverse_path.as_ref().map(|path| match path {
            ReversePath::Null => "<>".to_owned(),
            ReversePath::Mailbox(mailbox) => form.mailbox(mailbox),
        });
        let detail = match decision.of_provider {
            true => form.provider_detail(&decision.detail),
            false => form.detail(&decision.detail),
        };
        let permitted_by = decision.permitted_by.as_deref().and_then(|text| form.permitted_by(text));
        let fate = decision.fate.as_ref().map(|fate| QueueFate {
            status: fate.status.to_owned(),
            attempts: fate.attempts,
            last_attempt: fate.last.as_ref().map(|last| Attempt {
                time: Time::of_millis(last.time),
                outcome: last.outcome.to_owned(),
                code: Some(last.code.to_owned()).filter(|code| !code.is_empty()),
                detail: form.provider_detail(&last.detail).into_owned(),
                next: last.next.map(Time::of_millis),
            }),
            left: fate.left.map(Time::of_millis),
        });
        let sent = decision.sent.iter().map(|call| SesMessage {
            id: String::from(&*call.id),
            time: Time::of_millis(call.time),
            recipients: call.recipients,
            first_recipient: call.first_recipient.as_ref().filter(|_| shown).map(|it| form.mailbox(it)),
        });
        Self {
            number: decision.sequence,
            time: Time::of_millis(decision.time),
            stage: decision.stage,
            result: decision.result,
            reference: decision.transaction.map(|id| id.to_string()),
            session: decision.session.map(|id| id.to_string()),
            app: text(&decision.app),
            listener: decision.listener.as_deref().map(str::to_owned),
            client: decision.client.as_ref().map(ClientAddress::to_string),
            identity: name(&decision.identity),
            reverse_path,
            authors: mailboxes(&decision.authors),
            recipients: mailboxes(&decision.recipients),
            recipient_count: decision.recipient_count,
            octets: decision.octets,
            message_id: name(&decision.message_id),
            rule: text(&decision.rule),
            permitted_by: permitted_by.map(|text| printable(text).into_owned()),
            reply: decision.reply.as_ref().map(ToString::to_string),
            detail: detail.into_owned(),
            ses_messages: sent.collect(),
            queue: fate,
        }
    }
}

pub(super) async fn list(
    State(subject): State<Arc<AdminContext>>,
    ApiQuery(filter): ApiQuery<DecisionFilter>,
) -> Result<Json<DecisionPage>, Problem> {
    DecisionPage::find(&subject, filter).map(Json)
}

pub(super) async fn show(
    State(subject): State<Arc<AdminContext>>,
    ApiPath(reference): ApiPath<String>,
) -> Result<Json<DecisionPage>, Problem> {
    let limit = Some(PAGE_MAX);
    let filter = DecisionFilter { reference: Some(reference.clone()), limit, ..DecisionFilter::default() };
    let page = DecisionPage::find(&subject, filter)?;
    match page.rows.is_empty() {
        true => Err(Problem::not_found(format!("no decision with the reference {reference:?} is kept"))),
        false => Ok(Json(page)),
    }
}
