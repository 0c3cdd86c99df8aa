//! What one application may do, and what happens to mail that does not fit.
//!
//! Every rule is compiled when the configuration is read; judging compares and allocates nothing but the reasons of
//! refusals. Rules are tried in the order in which they stand in [`App`]; the first that does not fit decides.

use super::Reason;
use super::pattern::{AddressPattern, TextPattern};
use super::recognise::Recognition;
use super::tags::TagTemplate;
use crate::aws::Document;
use crate::mail::parameters::{AppName, RequestedField};
use crate::mail::{Author, Mailbox, Reply, ReversePath, RuleName, SendParameters, replies};
use std::sync::{Arc, LazyLock};

/// One application.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name: log field, metric label, limiter key.
    pub name: AppName,
    /// How it is recognised.
    pub recognition: Recognition,
    /// Addresses that it may use.
    pub from: Vec<AddressPattern>,
    /// Where those are checked.
    pub checked: Checked,
    /// Whether `MAIL FROM:<>` may send.
    pub null_reverse_path: bool,
    /// Display names that authors may have; empty: any.
    pub display_names: Vec<TextPattern>,
    /// Recipients that it may write to; empty: any.
    pub recipients_allowed: Vec<AddressPattern>,
    /// Recipients that it may not write to, whatever is allowed.
    pub recipients_denied: Vec<AddressPattern>,
    /// Most recipients of a message.
    pub recipients_max: Option<usize>,
    /// Most octets of a message, trace field included.
    pub message_octets_max: Option<u64>,
    /// File name extensions of attachments that are refused, lower case, without dot.
    pub attachments_denied: Arc<[String]>,
    /// What happens to an author that does not fit.
    pub on_author: OnAuthor,
    /// What happens to a message without a From field.
    pub missing_from: Missing<Author>,
    /// What happens to a message without a Date field.
    pub missing_date: Missing<()>,
    /// What happens to a message without a Message-ID field.
    pub missing_message_id: Missing<()>,
    /// Everything goes to this address instead, for staging.
    pub redirect_to: Option<Mailbox>,
    /// `X-SES-*` fields that it may set.
    pub requested_fields: Vec<RequestedField>,
    /// What its messages get.
    pub send: SendParameters,
    /// Message tags with blanks to fill in; if there are any, they stand in the place of `send.tags`.
    pub tags: Vec<TagTemplate>,
    /// IAM policy documents that must allow each message.
    pub documents: Vec<Arc<Document>>,
    /// Values of `aws:PrincipalTag/…` in those documents.
    pub principal_tags: Vec<(String, String)>,
    /// Whether refusals are carried out.
    pub enforcement: Enforcement,
    /// 5yz spoken as 4yz.
    pub soft_fail: bool,
}

/// Where addresses are checked. All of them, unless switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What happens to an author that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnAuthor {
    /// 550 5.7.1.
    #[default]
    Reject,
    /// The From field becomes this; who stood there moves to Reply-To.
    Rewrite(Author),
}

/// What happens to a message without a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Missing<T> {
    /// As it is: SES writes Date and Message-ID itself. For From the same as `Refuse`.
    #[default]
    Leave,
    /// The field is made.
    Fill(T),
    /// 550.
    Refuse,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Yes.
    #[default]
    Enforce,
    /// No: what would have been refused passes, and is logged and counted.
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

/// [`SES_REFUSED_EXTENSIONS`], once for all applications that say nothing else.
static DENIED_BY_DEFAULT: LazyLock<Arc<[String]>> =
    LazyLock::new(|| SES_REFUSED_EXTENSIONS.iter().map(|extension| (*extension).to_owned()).collect());

impl App {
    /// An application that may use these addresses; everything else has its safe default.
    pub fn new(name: AppName, recognition: Recognition, from: Vec<AddressPattern>) -> Self {
        Self {
            name,
            recognition,
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
        }
    }

    /// Whether an address is one that it may use.
    pub fn permits(&self, mailbox: &Mailbox) -> bool {
        self.from.iter().any(|pattern| pattern.matches(mailbox))
    }

    /// Whether bounces may go to a reverse-path: only to an address that was looked at and fits. One that merely passed,
    /// unchecked or reported, could be anybody's, and SES would refuse the call for an identity that is not verified.
    pub(super) fn permits_bounces_to(&self, path: &ReversePath) -> bool {
        self.checked.reverse_path && path.mailbox().is_some_and(|mailbox| self.permits(mailbox))
    }

    /// MAIL.
    pub(super) fn judge_reverse_path(&self, path: &ReversePath) -> Result<(), Reason> {
        match path {
            ReversePath::Null if !self.null_reverse_path => {
                Err(refusal("null_reverse_path", replies::NULL_REVERSE_PATH_NOT_PERMITTED, String::new()))
            }
            ReversePath::Mailbox(mailbox) if self.checked.reverse_path && !self.permits(mailbox) => {
                Err(refusal("reverse_path", replies::REVERSE_PATH_NOT_PERMITTED, does_not_fit(mailbox)))
            }
            _ => Ok(()),
        }
    }

    /// RCPT.
    pub(super) fn judge_forward_path(&self, mailbox: &Mailbox, accepted_before: usize) -> Result<(), Reason> {
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

    /// The authors: what must be done about them, if they are not simply good.
    pub(super) fn judge_authors(&self, authors: &[Author]) -> Result<Option<Author>, Reason> {
        if authors.is_empty() {
            return match &self.missing_from {
                Missing::Fill(author) => Ok(Some(author.clone())),
                _ => Err(refusal("missing_from", replies::AUTHOR_MISSING, String::new())),
            };
        }
        let stranger = authors.iter().find(|author| self.checked.author && !self.permits(&author.mailbox));
        let misnamed = || authors.iter().find(|author| !self.named_as_allowed(author));
        let (reason, detail) = match (stranger, misnamed()) {
            (Some(author), _) => ("author", does_not_fit(&author.mailbox)),
            (None, Some(author)) => ("display_names", format!("{:?} fits no allowed name", author.display_name)),
            (None, None) => return Ok(None),
        };
        match &self.on_author {
            OnAuthor::Rewrite(author) => Ok(Some(author.clone())),
            OnAuthor::Reject => Err(refusal(reason, replies::AUTHOR_NOT_PERMITTED, detail)),
        }
    }

    fn named_as_allowed(&self, author: &Author) -> bool {
        self.display_names.is_empty()
            || author.display_name.as_ref().is_none_or(|name| {
                let name = crate::mail::author::decode_phrase(name);
                self.display_names.iter().any(|pattern| pattern.matches(&name))
            })
    }

    /// Sender, and the Resent fields.
    pub(super) fn judge_other_fields(&self, sender: Option<&Author>, resent: &[Author]) -> Result<(), Reason> {
        if let Some(sender) = sender.filter(|sender| self.checked.sender && !self.permits(&sender.mailbox)) {
            let detail = does_not_fit(&sender.mailbox);
            return Err(refusal("sender_field", replies::SENDER_FIELD_NOT_PERMITTED, detail));
        }
        match resent.iter().find(|author| self.checked.resent && !self.permits(&author.mailbox)) {
            Some(author) => {
                Err(refusal("resent_fields", replies::SENDER_FIELD_NOT_PERMITTED, does_not_fit(&author.mailbox)))
            }
            None => Ok(()),
        }
    }

    /// The size of the message.
    pub(super) fn judge_octets(&self, octets: u64) -> Result<(), Reason> {
        match self.message_octets_max {
            Some(most) if octets > most => {
                Err(refusal("message_octets_max", replies::MESSAGE_TOO_LARGE, format!("{octets} of {most} octets")))
            }
            _ => Ok(()),
        }
    }
}

fn does_not_fit(mailbox: &Mailbox) -> String {
    format!("{mailbox} fits no allowed pattern")
}

/// A refusal by a rule of this room. The rule names are literals, all of them tested.
pub(super) fn refusal(rule: &'static str, reply: Reply, detail: String) -> Reason {
    Reason { rule: rule_name(rule), reply, detail }
}

#[expect(clippy::expect_used, reason = "the names are literals of this room, and the tests refuse by each of them")]
pub(super) fn rule_name(rule: &'static str) -> RuleName {
    RuleName::parse(rule).expect("rule name")
}
