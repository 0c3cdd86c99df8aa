//! The rules of one application.
//!
//! Rules are compiled when the configuration is read. They are evaluated in the order of the fields of [`App`]; the first that a
//! message violates decides. Evaluation allocates only for the reasons of refusals.

use super::AddressField;
use super::app_matching::MatchCriteria;
use super::pattern::{AddressPattern, TextPattern};
use super::tags::TagTemplate;
use crate::iam::Document;
use crate::mail::author::names_another;
use crate::mail::parameters::{AppName, Delivery, RequestedField};
use crate::mail::{Author, Mailbox, Refusal, Reply, ReversePath, RuleName, SendParameters, UnreadablePath, replies};
use std::sync::{Arc, LazyLock};

/// An application: how it is recognised, what it may send, and what its messages are sent with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct App {
    /// Its name: log field, metric label, limiter key.
    pub name: AppName,
    /// How a client is recognised as this application.
    pub criteria: MatchCriteria,
    /// Addresses that it may send from.
    pub from: Vec<AddressPattern>,
    /// The commands and fields in which those addresses are checked.
    pub checked: Checked,
    /// Whether `MAIL FROM:<>` is accepted.
    pub null_reverse_path: bool,
    /// Display names that authors may have. Empty: any that does not contain the address of another mailbox.
    pub display_names: Vec<TextPattern>,
    /// Recipients that it may send to. Empty: any.
    pub recipients_allowed: Vec<AddressPattern>,
    /// Recipients that it may not send to, even if another rule allows them.
    pub recipients_denied: Vec<AddressPattern>,
    /// Maximum number of recipients of a message.
    pub recipients_max: Option<usize>,
    /// Maximum size of a message in octets, the trace field included.
    pub message_octets_max: Option<u64>,
    /// File name extensions of attachments that are refused, lower case, without dot.
    pub attachments_denied: Arc<[String]>,
    /// What happens if an author fits no pattern.
    pub on_author: OnAuthor,
    /// What happens to a message without a From field.
    pub missing_from: Missing<Author>,
    /// Whether addresses in To, Cc and Reply-To that the provider cannot parse are removed. Otherwise the message is refused.
    pub repairs_lists: bool,
    /// Names of header fields that are removed.
    pub without: Arc<[String]>,
    /// What happens to a message without a Date field.
    pub missing_date: Missing<()>,
    /// What happens to a message without a Message-ID field.
    pub missing_message_id: Missing<()>,
    /// Send all messages to this address instead, for staging.
    pub redirect_to: Option<Mailbox>,
    /// `X-SES-*` fields that its messages may have.
    pub requested_fields: Vec<RequestedField>,
    /// What its messages are sent with.
    pub send: SendParameters,
    /// Message tags with placeholders. If there are any, they replace `send.tags`.
    pub tags: Vec<TagTemplate>,
    /// IAM policy documents. Each message must be allowed by them.
    pub documents: Vec<Arc<Document>>,
    /// Values of `aws:PrincipalTag/…` in those documents.
    pub principal_tags: Vec<(String, String)>,
    /// Whether the rules are enforced.
    pub enforcement: Enforcement,
    /// Reply 4yz where the rules would reject with 5yz.
    pub soft_fail: bool,
    /// What acceptance of its messages promises.
    pub delivery: Delivery,
}

/// The commands and fields in which addresses are checked. Default: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// MAIL FROM.
    pub reverse_path: bool,
    /// Every mailbox of From.
    pub author: bool,
    /// Sender.
    pub sender: bool,
    /// Every mailbox of Resent-From and Resent-Sender.
    pub resent: bool,
}

impl Default for Checked {
    fn default() -> Self {
        Self { reverse_path: true, author: true, sender: true, resent: true }
    }
}

/// What happens if an author fits no pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnAuthor {
    /// 550 5.7.1.
    #[default]
    Reject,
    /// The From field is replaced by this, even if it cannot be parsed. Its mailboxes are moved to Reply-To.
    Rewrite(Author),
}

/// What happens to a message without a certain field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Missing<T> {
    /// Nothing: SES adds Date and Message-ID. For From the same as `Refuse`.
    #[default]
    Leave,
    /// The field is added.
    Fill(T),
    /// 550.
    Refuse,
}

/// Whether the rules are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Messages that violate a rule are refused.
    #[default]
    Enforce,
    /// They are sent; the refusal is logged and counted.
    Report,
}

/// The extensions that SES refuses ("Unsupported attachment types" in its guide).
pub const SES_REFUSED_EXTENSIONS: &[&str] = &[
    "ade", "adp", "app", "asp", "bas", "bat", "cer", "chm", "cmd", "com", "cpl", "crt", "csh", "der", "exe", "fxp",
    "gadget", "hlp", "hta", "inf", "ins", "isp", "its", "js", "jse", "ksh", "lib", "lnk", "mad", "maf", "mag", "mam",
    "maq", "mar", "mas", "mat", "mau", "mav", "maw", "mda", "mdb", "mde", "mdt", "mdw", "mdz", "msc", "msh", "msh1",
    "msh2", "mshxml", "msh1xml", "msh2xml", "msi", "msp", "mst", "ops", "pcd", "pif", "plg", "prf", "prg", "reg",
    "scf", "scr", "sct", "shb", "shs", "sys", "ps1", "ps1xml", "ps2", "ps2xml", "psc1", "psc2", "tmp", "url", "vb",
    "vbe", "vbs", "vps", "vsmacros", "vss", "vst", "vsw", "vxd", "ws", "wsc", "wsf", "wsh", "xnk",
];

/// [`SES_REFUSED_EXTENSIONS`], shared by all applications without extensions of their own.
static DENIED_BY_DEFAULT: LazyLock<Arc<[String]>> =
    LazyLock::new(|| SES_REFUSED_EXTENSIONS.iter().map(|extension| (*extension).to_owned()).collect());

impl App {
    /// An application that may send from these addresses, with the defaults for everything else.
    pub fn new(name: AppName, criteria: MatchCriteria, from: Vec<AddressPattern>) -> Self {
        Self {
            name,
            criteria,
            from,
            checked: Checked::default(),
            null_reverse_path: false,
            display_names: Vec::new(),
            recipients_allowed: Vec::new(),
            recipients_denied: Vec::new(),
            recipients_max: None,
            message_octets_max: None,
            attachments_denied: Arc::clone(&DENIED_BY_DEFAULT),
            on_author: OnAuthor::default(),
            missing_from: Missing::default(),
            repairs_lists: false,
            without: Arc::default(),
            missing_date: Missing::default(),
            missing_message_id: Missing::default(),
            redirect_to: None,
            requested_fields: Vec::new(),
            send: SendParameters::default(),
            tags: Vec::new(),
            documents: Vec::new(),
            principal_tags: Vec::new(),
            enforcement: Enforcement::default(),
            soft_fail: false,
            delivery: Delivery::default(),
        }
    }

    /// Whether the application may send from this address.
    pub fn permits(&self, mailbox: &Mailbox) -> bool {
        self.permitting(mailbox).is_some()
    }

    /// The first pattern that matches an address.
    pub(super) fn permitting(&self, mailbox: &Mailbox) -> Option<&AddressPattern> {
        self.from.iter().find(|pattern| pattern.matches(mailbox))
    }

    /// The refusal of an address that no pattern matches. Names a difference in upper and lower case, because it is hard to see.
    fn not_permitted(&self, rule: &'static str, reply: Reply, mailbox: &Mailbox) -> Refusal {
        match self.from.iter().find(|pattern| pattern.matches_without_case(mailbox)) {
            Some(pattern) => refusal(
                rule,
                reply.with_cause("upper and lower case of the local part differ from a permitted address"),
                format!("{}, but {pattern} if the case of the local part did not count", does_not_fit(mailbox)),
            ),
            None => refusal(rule, reply, does_not_fit(mailbox)),
        }
    }

    /// Whether the reverse-path may receive bounces: only if it was checked and a pattern matches. An unchecked or only reported one could
    /// be the address of another person, and SES would refuse the call because its identity is not verified.
    pub(super) fn permits_bounces_to(&self, path: &ReversePath) -> bool {
        self.checked.reverse_path && path.mailbox().is_some_and(|mailbox| self.permits(mailbox))
    }

    /// MAIL.
    pub(super) fn judge_reverse_path(
        &self,
        path: &ReversePath,
        unreadable: Option<&UnreadablePath>,
    ) -> Result<(), Refusal> {
        match path {
            // Without a check it receives no bounces, so it need not be an address.
            ReversePath::Null if unreadable.is_some() && !self.checked.reverse_path => Ok(()),
            ReversePath::Null if let Some(UnreadablePath { text, error }) = unreadable => {
                let reply = replies::BAD_REVERSE_PATH_SYNTAX.with_cause(error);
                Err(refusal("unreadable", reply, format!("MAIL FROM:<{text}>: {error}")))
            }
            ReversePath::Null if !self.null_reverse_path => {
                Err(refusal("null_reverse_path", replies::NULL_REVERSE_PATH_NOT_PERMITTED, String::new()))
            }
            ReversePath::Mailbox(mailbox) if self.checked.reverse_path && !self.permits(mailbox) => {
                Err(self.not_permitted("reverse_path", replies::REVERSE_PATH_NOT_PERMITTED, mailbox))
            }
            _ => Ok(()),
        }
    }

    /// RCPT.
    pub(super) fn judge_forward_path(&self, mailbox: &Mailbox, accepted_before: usize) -> Result<(), Refusal> {
        let fits = |patterns: &[AddressPattern]| patterns.iter().any(|pattern| pattern.matches(mailbox));
        if fits(&self.recipients_denied) {
            return Err(refusal("recipients_denied", replies::RECIPIENT_NOT_PERMITTED, format!("{mailbox} is denied")));
        }
        if !self.recipients_allowed.is_empty() && !fits(&self.recipients_allowed) {
            return Err(refusal("recipients_allowed", replies::RECIPIENT_NOT_PERMITTED, does_not_fit(mailbox)));
        }
        match self.recipients_max {
            Some(most) if accepted_before >= most => {
                Err(refusal("recipients_max", replies::TOO_MANY_RECIPIENTS, format!("{most} are allowed")))
            }
            _ => Ok(()),
        }
    }

    /// Checks the From field. Returns its replacement, if it must be rewritten.
    pub(super) fn judge_authors(&self, from: &AddressField<'_>) -> Result<Option<Author>, Refusal> {
        let (reason, reply, detail) = match from {
            AddressField::Missing | AddressField::Empty => {
                if let Missing::Fill(author) = &self.missing_from {
                    return Ok(Some(author.clone()));
                }
                match from {
                    AddressField::Missing => {
                        return Err(refusal("missing_from", replies::AUTHOR_MISSING, String::new()));
                    }
                    _ => (
                        "missing_from",
                        replies::AUTHOR_MISSING.with_text("From field is empty"),
                        "From is empty".to_owned(),
                    ),
                }
            }
            AddressField::Unreadable(fault) => ("unreadable", fault.reply.clone(), fault.detail.clone()),
            AddressField::Mailboxes(authors) => {
                let stranger = authors.iter().find(|author| self.checked.author && !self.permits(&author.mailbox));
                match (stranger, authors.iter().find_map(|author| self.misnamed(author))) {
                    (Some(author), _) => {
                        let Refusal { reply, detail, .. } =
                            self.not_permitted("author", replies::AUTHOR_NOT_PERMITTED, &author.mailbox);
                        ("author", reply, detail)
                    }
                    (None, Some(detail)) => ("display_names", replies::AUTHOR_NOT_PERMITTED, detail),
                    (None, None) => return Ok(None),
                }
            }
        };
        match &self.on_author {
            OnAuthor::Rewrite(author) => Ok(Some(author.clone())),
            OnAuthor::Reject => Err(refusal(reason, reply, detail)),
        }
    }

    /// Why a display name is refused: it matches none of the allowed ones, or, if there are none, it contains the address of
    /// another mailbox.
    fn misnamed(&self, author: &Author) -> Option<String> {
        let name = author.display_name.as_ref()?;
        let shown = crate::mail::author::decode_phrase(name);
        match self.display_names.is_empty() {
            true if !self.checked.author => None,
            true => names_another(&author.mailbox, name).then(|| format!("{shown:?} names another address")),
            false if self.display_names.iter().any(|pattern| pattern.matches(&shown)) => None,
            false => Some(format!("{shown:?} matches no allowed name")),
        }
    }

    /// Checks Sender and the Resent fields.
    pub(super) fn judge_other_fields(
        &self,
        sender: &AddressField<'_>,
        resent: &AddressField<'_>,
    ) -> Result<(), Refusal> {
        let fields = [("sender_field", sender, self.checked.sender), ("resent_fields", resent, self.checked.resent)];
        for (rule, field, checked) in fields {
            if let AddressField::Unreadable(fault) = field {
                return Err(refusal("unreadable", fault.reply.clone(), fault.detail.clone()));
            }
            for author in field.mailboxes().iter().filter(|_| checked) {
                if !self.permits(&author.mailbox) {
                    return Err(self.not_permitted(rule, replies::SENDER_FIELD_NOT_PERMITTED, &author.mailbox));
                }
                let named = author.display_name.as_ref().filter(|_| self.display_names.is_empty());
                if let Some(name) = named.filter(|name| names_another(&author.mailbox, name)) {
                    let detail = format!("{:?} names another address", crate::mail::author::decode_phrase(name));
                    return Err(refusal(rule, replies::SENDER_FIELD_NOT_PERMITTED, detail));
                }
            }
        }
        Ok(())
    }

    /// Checks To, Cc and Reply-To. Returns whether they are to be repaired because the provider cannot parse one of them.
    pub(super) fn judge_lists(&self, unreadable: Option<&Refusal>) -> Result<bool, Refusal> {
        match unreadable {
            None => Ok(false),
            Some(_) if self.repairs_lists => Ok(true),
            Some(fault) => Err(refusal("unreadable", fault.reply.clone(), fault.detail.clone())),
        }
    }

    /// Checks the size of the message.
    pub(super) fn judge_octets(&self, octets: u64) -> Result<(), Refusal> {
        match self.message_octets_max {
            Some(most) if octets > most => {
                Err(refusal("message_octets_max", replies::MESSAGE_TOO_LARGE, format!("{octets} of {most} octets")))
            }
            _ => Ok(()),
        }
    }
}

fn does_not_fit(mailbox: &Mailbox) -> String {
    format!("{mailbox} matches no allowed pattern")
}

/// A refusal by a rule of the built-in policy.
pub(super) fn refusal(rule: &'static str, reply: Reply, detail: String) -> Refusal {
    Refusal::new(reply, detail).by(RuleName::from_static(rule))
}
