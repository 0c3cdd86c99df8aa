//! Rules that `[policy]` and `[[app]]` share: which addresses a client may use, and what happens to messages that break them.

use super::diagnostics::Diagnostics;
use super::number::{Number, Octets, Seconds};
use super::section::{group, words};
use super::smtp::Smtp;
use super::values::{AddressText, AuthorText, Extension, FieldNameText, FromPattern, RequestedName};
use crate::mail::Author;
use crate::mail::author::names_another;
use crate::mail::parameters;
use crate::policy::{self, AddressPattern, Missing, OnAuthor, TextPattern};
use crate::relay;
use std::collections::BTreeMap;

group! { ($)
    /// What an application may send, and what happens to messages that break the rules.
    Rules, rules {
        /// A list of patterns such as "ann@example.com", "*@example.com", "*@*.example.com" (subdomains) or
        /// "billing+*@example.com". MAIL FROM, every address in From, Sender, and every address in Resent-From and
        /// Resent-Sender must each match one of them. A bare domain is an error, because it is ambiguous. `[policy]`
        /// may leave it out beside `[[app]]` tables: then no other client may send. An `[[app]]` with documents may
        /// leave it out: then the documents alone decide.
        #[schemars(example = ["*@example.com"])]
        from: Vec<FromPattern>,
        /// A list of addresses that need not match from: reverse-path, from, sender or resent. An address
        /// that is not checked receives no bounces: with reverse-path, a MAIL FROM that is not an address is treated as <>.
        unchecked: Vec<Unchecked>,
        /// true or false: whether MAIL FROM:<> may send. SES has no null reverse-path: bounces and complaints about such
        /// messages go where the SES account sends them.
        null_reverse_path: bool,
        /// A list of display names that From may have, * for any characters, compared without case. Default: any that
        /// does not show the address of another mailbox.
        display_names: Vec<String>,
        /// reject or rewrite: what happens to a From that does not match from or cannot be parsed. rewrite replaces it by
        /// own_from and moves the previous author to Reply-To, if the message has none. It removes Sender, and Resent fields
        /// that do not match.
        foreign_from: ForeignFrom,
        /// refuse or fill: what happens to a message without From, or with an empty one. fill adds own_from.
        missing_from: MissingFrom,
        /// An address, maybe with a name: "Shop <shop@example.com>", for foreign_from = "rewrite" and missing_from =
        /// "fill". It must match from and display_names itself.
        #[schemars(example = &"Shop <shop@example.com>")]
        own_from: Option<AuthorText>,
        /// refuse or repair: what happens to addresses in To, Cc and Reply-To that SES cannot parse ("root", "a@x; b@y").
        /// repair removes them, puts commas between the others, and removes a field without any. The recipients are those of
        /// RCPT TO in any case.
        address_fields: AddressFields,
        /// A list of header fields to remove, such as "Received", "X-Originating-IP" or "X-PHP-Originating-Script". Default:
        /// none.
        remove_fields: Vec<FieldNameText>,
        /// leave, fill or refuse: what happens to a message without Date. SES replaces the field in any case.
        missing_date: MissingField,
        /// leave, fill or refuse: what happens to a message without Message-ID. SES replaces the field in any case.
        missing_message_id: MissingField,
        /// A list of patterns, as in from, of recipients that are allowed. Default: all.
        recipients_allowed: Vec<FromPattern>,
        /// A list of patterns of recipients that are rejected, even if recipients_allowed matches.
        recipients_denied: Vec<FromPattern>,
        /// Recipients of a message, 1 to 1000; further ones receive 452. Default: smtp.recipients_max.
        #[schemars(example = 10)]
        recipients_max: Option<Number<1, 1000>>,
        /// Bytes of a message as it is sent to SES. Default: smtp.message_octets_max.
        #[schemars(example = 10_000_000)]
        message_octets_max: Option<Octets>,
        /// A list of file name extensions without dot: messages with such attachments are rejected. Default: those that
        /// SES rejects; [] rejects none here.
        #[schemars(example = ["exe", "js"])]
        attachments_denied: Option<Vec<Extension>>,
        /// An address that every message is sent to instead, for staging. The field X-Original-Recipients has the recipients.
        #[schemars(example = &"staging@example.com")]
        redirect_to: Option<AddressText>,
        /// A list of X-SES fields that clients may set: configuration-set, message-tags, identity-arn, tenant,
        /// list-management. All X-SES fields are removed from the message in any case.
        requested_fields: Vec<RequestedName>,
        /// Seconds that a message stays in the spool before it fails. Default: spool.expiry_seconds.
        #[schemars(example = 86_400)]
        expiry_seconds: Option<Seconds>,
        /// retry or hold: what happens to a message in the spool that may have been sent. Default: spool.on_ambiguous.
        #[schemars(example = &"hold")]
        on_ambiguous: Option<OnAmbiguous>,
        /// Values of aws:PrincipalTag/NAME in IAM policy documents: NAME = "VALUE".
        #[schemars(example = serde_json::json!({ "team": "shop" }))]
        principal_tags: BTreeMap<String, String>,
    }
}

words! {
    /// An address that is not checked.
    Unchecked {
        /// MAIL FROM.
        ReversePath,
        /// From.
        From,
        /// Sender.
        Sender,
        /// Resent-From and Resent-Sender.
        Resent,
    }
    /// Whether a refusal of a rule is enforced.
    Enforcement => policy::Enforcement {
        /// The message is refused.
        Enforce => Enforce,
        /// The message passes, and the refusal is logged.
        Report => Report,
    }
    /// What a 250 means.
    #[derive(Default)]
    Delivery => parameters::Delivery {
        /// SES has the message.
        #[default]
        HandOff => HandOff,
        /// The spool has the message.
        Spool => Spool,
        /// The first, or else the second.
        HandOffElseSpool => HandOffElseSpool,
    }
    /// What happens to a message that may have been sent.
    OnAmbiguous => relay::OnAmbiguous {
        /// It is tried again, and may arrive twice.
        Retry => Retry,
        /// It is held until an operator decides.
        Hold => Hold,
    }
    /// What happens to a From that does not match.
    #[derive(Default)]
    ForeignFrom {
        /// The message is rejected.
        #[default]
        Reject,
        /// own_from replaces it.
        Rewrite,
    }
    /// What happens to a message without From.
    #[derive(Default)]
    MissingFrom {
        /// It is rejected.
        #[default]
        Refuse,
        /// own_from is added.
        Fill,
    }
    /// What happens to addresses that SES cannot parse.
    #[derive(Default)]
    AddressFields {
        /// The message is rejected.
        #[default]
        Refuse,
        /// They are removed.
        Repair,
    }
    /// What happens to a message without a field.
    #[derive(Default)]
    MissingField => Missing<()> {
        /// It is sent without.
        #[default]
        Leave => Leave,
        /// The field is added.
        Fill => Fill(()),
        /// The message is rejected.
        Refuse => Refuse,
    }
}

/// The patterns of a list.
pub(super) fn patterns(list: &[FromPattern]) -> Vec<AddressPattern> {
    list.iter().map(|pattern| pattern.0.clone()).collect()
}

impl Rules {
    /// Writes the rules into an application of the policy. `has_documents`: IAM policy documents restrict them further.
    pub(super) fn apply(
        &self,
        app: &mut policy::App,
        path: &str,
        has_documents: bool,
        smtp: &Smtp,
        diagnostics: &mut Diagnostics<'_>,
    ) {
        let key = |key: &str| format!("{path}.{key}");
        for (index, FromPattern(pattern)) in self.from.iter().enumerate() {
            if pattern.matches_everything() && !has_documents {
                let path = key(&format!("from.{index}"));
                diagnostics.warn(&path, "this lets clients write messages with any From", "name your domains");
            }
        }
        let checked = |address: Unchecked| !self.unchecked.contains(&address);
        app.checked = policy::Checked {
            reverse_path: checked(Unchecked::ReversePath),
            author: checked(Unchecked::From),
            sender: checked(Unchecked::Sender),
            resent: checked(Unchecked::Resent),
        };
        if !app.checked.author {
            diagnostics.warn(
                &key("unchecked"),
                "From is not checked: clients may write messages with any From",
                "remove \"from\" from unchecked",
            );
        }
        app.null_reverse_path = self.null_reverse_path;
        app.display_names = self.display_names.iter().map(|text| TextPattern::new(text)).collect();
        app.recipients_allowed = patterns(&self.recipients_allowed);
        app.recipients_denied = patterns(&self.recipients_denied);
        app.recipients_max = self.recipients_max.map(|most| most.size());
        app.message_octets_max = self.message_octets_max.map(|most| most.get());
        if let Some(denied) = &self.attachments_denied {
            app.attachments_denied = denied.iter().map(|extension| extension.0.clone()).collect();
        }
        app.repairs_lists = self.address_fields == AddressFields::Repair;
        app.without = self.remove_fields.iter().map(|name| name.0.clone()).collect();
        app.missing_date = self.missing_date.into();
        app.missing_message_id = self.missing_message_id.into();
        app.redirect_to = self.redirect_to.as_ref().map(|address| address.0.clone());
        app.requested_fields = self.requested_fields.iter().map(|field| field.0).collect();
        app.principal_tags = self.principal_tags.clone().into_iter().collect();
        if let Some(address) = &self.redirect_to {
            diagnostics.warn(&key("redirect_to"), format!("all messages go to {address} only"), "for staging only");
        }
        let (octets, recipients) = (smtp.message_octets_max.get(), smtp.recipients_max.get());
        if self.message_octets_max.is_some_and(|most| most.get() > octets) {
            diagnostics.warn(
                &key("message_octets_max"),
                "smtp.message_octets_max is smaller, and refuses first",
                RAISE,
            );
        }
        if self.recipients_max.is_some_and(|most| most.get() > recipients) {
            diagnostics.warn(&key("recipients_max"), "smtp.recipients_max is smaller, and refuses first", RAISE);
        }
        self.apply_own_from(app, path, diagnostics);
    }

    /// `own_from` must match the rules itself: the message is judged again after the change.
    fn apply_own_from(&self, app: &mut policy::App, path: &str, diagnostics: &mut Diagnostics<'_>) {
        let key = |key: &str| format!("{path}.{key}");
        let wanted: Vec<&str> = [
            ("foreign_from", self.foreign_from == ForeignFrom::Rewrite),
            ("missing_from", self.missing_from == MissingFrom::Fill),
        ]
        .into_iter()
        .filter_map(|(key, wanted)| wanted.then_some(key))
        .collect();
        let Some(own) = &self.own_from else {
            if let Some(wanting) = wanted.first() {
                let hint = "for example: own_from = \"Shop <shop@example.com>\"";
                diagnostics.error(&key(wanting), "the replacement for From is not set", hint);
            }
            return;
        };
        if wanted.is_empty() {
            let hint = "set foreign_from = \"rewrite\" or missing_from = \"fill\", or remove it";
            diagnostics.error(&key("own_from"), "own_from is never used", hint);
        }
        let Author { display_name, mailbox, .. } = &own.0;
        if app.checked.author && !app.permits(mailbox) {
            let message = format!("{mailbox} matches no pattern of from, so it would be refused");
            diagnostics.error(&key("own_from"), message, "add the address to from, or write another in own_from");
        }
        let fits =
            |name: &String| app.display_names.is_empty() || app.display_names.iter().any(|known| known.matches(name));
        let shows_another = |name: &String| app.display_names.is_empty() && names_another(mailbox, name);
        if app.checked.author && display_name.as_ref().is_some_and(shows_another) {
            let message = "the name shows the address of another mailbox, so it would be refused";
            diagnostics.error(
                &key("own_from"),
                message,
                "write a name without an address, or allow it in display_names",
            );
        }
        if !display_name.as_ref().is_none_or(fits) {
            let hint = "add the name to display_names, or write another in own_from";
            diagnostics.error(&key("own_from"), "the name matches none of display_names, so it would be refused", hint);
        }
        if self.foreign_from == ForeignFrom::Rewrite {
            app.on_author = OnAuthor::Rewrite(own.0.clone());
        }
        if self.missing_from == MissingFrom::Fill {
            app.missing_from = Missing::Fill(own.0.clone());
        }
    }
}

const RAISE: &str = "raise that one, or remove this key";
