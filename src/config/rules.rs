//! Keys that stand in several sections: the rules of `[policy]` and `[[app]]`, and what messages get at SES, which
//! `[[app]]` and `[ses]` say. Each key is written and described once.
//!
//! serde's `flatten` loses places and unknown keys, so a macro puts the fields into each section: `section!` makes a
//! section out of its own fields and the groups that it names, and lends each group to the plan as [`Rules`] or [`SesParameters`].

use super::number::{Count, Number, Octets};
use super::ses::ListOptions;
use super::values::{
    AccountId, AddressText, AppNameText, Arn, AuthorText, CertificateText, ConfigurationSet, EndpointIdText, Extension,
    FeedbackTo, FieldNameText, FromPattern, Network, RequestedName, Role, TagValue, Tenant,
};
use crate::policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A section of the file: `section! { /// … Name { its own fields, each with its default } [its groups] }`.
macro_rules! section {
    // Each step lays one group behind the fields that are there.
    ($(#[$meta:meta])+ $name:ident { $($fields:tt)* } [$group:ident $($more:ident)*]) => {
        $crate::config::rules::$group! { $(#[$meta])+ $name { $($fields)* } [$($more)*] }
    };
    ($(#[$meta:meta])+ $name:ident { $( $(#[$doc:meta])+ $field:ident : $type:ty = $default:expr, )* } []) => {
        $(#[$meta])+
        #[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $( $(#[$doc])+ pub $field: $type, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    };
}
pub(super) use section;

/// A group of keys: a struct, and the macro that lays its fields into a section. The first argument is a `$`, which a
/// macro that makes a macro cannot write itself.
macro_rules! group {
    (($d:tt) $(#[$meta:meta])+ $struct:ident, $group:ident { $( $(#[$doc:meta])+ $field:ident : $type:ty, )+ }) => {
        $(#[$meta])+
        #[derive(Clone, Debug, Default)]
        pub struct $struct { $( $(#[$doc])+ pub $field: $type, )+ }

        macro_rules! $group {
            ($d(#[$d meta:meta])+ $d name:ident { $d($d fields:tt)* } [$d($d more:ident)*]) => {
                $crate::config::rules::section! {
                    $d(#[$d meta])+ $d name {
                        $d($d fields)*
                        $( $(#[$doc])+ $field: $type = Default::default(), )+
                    } [$d($d more)*]
                }

                impl $d name {
                    /// The keys of that group.
                    pub fn $group(&self) -> $crate::config::rules::$struct {
                        $crate::config::rules::$struct { $( $field: self.$field.clone(), )+ }
                    }
                }
            };
        }
        pub(super) use $group;
    };
}

group! { ($)
    /// What somebody may do, and what happens to mail that does not fit.
    Rules, rules {
        /// A list of patterns such as "*@example.com", "*@*.example.com" (subdomains) or "billing+*@example.com". MAIL FROM,
        /// every address in From, Sender, Resent-From and Resent-Sender must each fit one of them.
        from: Vec<FromPattern>,
        /// A list of places where those patterns are not looked at: reverse-path, from, sender or resent.
        unchecked: Vec<Unchecked>,
        /// true or false: whether MAIL FROM:<> may send. SES has no null reverse-path; notices about such mail go where
        /// the SES account sends them.
        null_reverse_path: bool,
        /// A list of display names that From may have, * for any run of characters, compared without case. Default: any that
        /// does not show the address of another mailbox.
        display_names: Vec<String>,
        /// reject or rewrite: what happens to a From that does not fit or cannot be read. rewrite puts own_from in its
        /// place; who stood there moves to Reply-To, if the message has none. Sender goes, and Resent fields that do not fit.
        foreign_from: ForeignFrom,
        /// refuse or fill: what happens to a message without From, or with an empty one. fill puts own_from in.
        missing_from: MissingFrom,
        /// An address, maybe with a name: "Shop <shop@example.com>", for foreign_from = "rewrite" and missing_from =
        /// "fill". It must fit from and display_names.
        own_from: Option<AuthorText>,
        /// refuse or repair: what happens to addresses in To, Cc and Reply-To that SES cannot read ("root", "a@x; b@y").
        /// repair leaves them out, with commas between the others; a field without any is taken out. Recipients are those
        /// of RCPT TO in any case.
        address_fields: AddressFields,
        /// A list of header fields that are taken out: trace fields of the client such as "Received", "X-Originating-IP" or
        /// "X-PHP-Originating-Script". Default: none.
        remove_fields: Vec<FieldNameText>,
        /// leave, fill or refuse: what happens to a message without Date. leave: SES writes its own in any case.
        missing_date: MissingField,
        /// leave, fill or refuse: what happens to a message without Message-ID. leave: SES writes its own in any case.
        missing_message_id: MissingField,
        /// A list of patterns, as in from, of recipients that may be written to. Default: anybody.
        recipients_allowed: Vec<FromPattern>,
        /// A list of patterns of recipients that may not be written to, whatever is allowed.
        recipients_denied: Vec<FromPattern>,
        /// Recipients of a message, 1 to 50; further ones are told 452. Default: smtp.recipients_max.
        recipients_max: Option<Number<1, 50>>,
        /// Octets of a message as it leaves. Default: smtp.message_octets_max.
        message_octets_max: Option<Octets>,
        /// A list of file name extensions without dot: messages with such attachments are refused. Default: those that
        /// SES refuses; [] refuses none here.
        attachments_denied: Option<Vec<Extension>>,
        /// An address that every message goes to instead, for staging. The recipients are kept in the field
        /// X-Original-Recipients.
        redirect_to: Option<AddressText>,
        /// A list of X-SES fields that clients may set: configuration-set, message-tags, identity-arn, tenant,
        /// list-management. All X-SES fields are taken out of the message in any case.
        requested_fields: Vec<RequestedName>,
        /// Values of aws:PrincipalTag/NAME in IAM policy documents: NAME = "VALUE".
        principal_tags: BTreeMap<String, String>,
    }
}

group! { ($)
    /// What messages get at SES. Where an application says nothing, `[ses]` does.
    SesParameters, ses_parameters {
        /// The ARN of an IAM role to send as, assumed with the credentials of the chain.
        assume_role: Option<Role>,
        /// The external id that the role asks for.
        external_id: Option<String>,
        /// The name of a configuration set.
        configuration_set: Option<ConfigurationSet>,
        /// The ARN of an identity of another account that authorised this one.
        identity_arn: Option<Arn>,
        /// Message tags: NAME = "VALUE", each 1 to 256 of A-Z a-z 0-9 _ - (or the names ses:feedback-id-a and
        /// -b); in a value, {app} becomes the name of the application and {auth} the AUTH name. 50 at most.
        tags: BTreeMap<String, TagValue>,
        /// The name of a tenant.
        tenant: Option<Tenant>,
        /// The id of a multi-region endpoint.
        endpoint_id: Option<EndpointIdText>,
        /// A contact list, and maybe a topic, for SES list management.
        list_management: Option<ListOptions>,
        /// reverse-path, account or an address: where SES sends bounces and complaints. reverse-path, the default: to the
        /// client's MAIL FROM, as SES's own SMTP endpoint does; account: as the SES account is set up.
        feedback: Option<FeedbackTo>,
    }
}

section! {
    /// Who may send, and as whom, who is no `[[app]]`; and what holds for everybody.
    PolicySection {
        /// A list of networks whose clients may send without more. Default: this machine. Clients that authenticate, show
        /// a verified certificate or come over a Unix socket may send from anywhere.
        clients: Option<Vec<Network>> = None,
        /// A list of files with IAM policy documents (JSON). Every message must be allowed by them, and by those of its
        /// application.
        documents: Vec<PathBuf> = Vec::new(),
        /// enforce or report, for everybody who does not say otherwise. report lets pass what the rules refuse, and logs
        /// it. Who may send at all is enforced in any case.
        enforcement: Enforcement = Enforcement::Enforce,
        /// true or false, for everybody who does not say otherwise: say 4yz where policy says 5yz, so that well-made
        /// clients keep their mail during a first roll-out.
        soft_fail: bool = false,
    } [rules]
}

section! {
    /// An application: how it is recognised, what it may do, and what its messages get.
    App {
        /// 1 to 64 of A-Z a-z 0-9 _ - . and not "default", which is the name of `[policy]` in the log.
        name: Option<AppNameText> = None,
        /// A list of "fingerprint:SHA-256 in hex", "subject:CN=billing, O=Example" or "name:billing.internal" (DNS name,
        /// mailbox, URI or IP address) of verified client certificates.
        certificates: Vec<CertificateText> = Vec::new(),
        /// A list of AUTH names, each of a user in `[auth]`.
        auth: Vec<String> = Vec::new(),
        /// A list of networks that the client is in, after the PROXY protocol.
        networks: Vec<Network> = Vec::new(),
        /// A list of names of listeners.
        listeners: Vec<String> = Vec::new(),
        /// A list of files with IAM policy documents (JSON) that must allow every message. With documents, from may be
        /// left out: then they alone decide.
        documents: Vec<PathBuf> = Vec::new(),
        /// enforce or report. Default: policy.enforcement.
        enforcement: Option<Enforcement> = None,
        /// true or false: say 4yz where policy says 5yz. Default: policy.soft_fail.
        soft_fail: Option<bool> = None,
        /// Its part of the rate of the SES account where there is not enough for all, relative to the other applications'.
        weight: Number<1, 1_000_000> = Number::of(1),
        /// Recipients a second that it gets before the others get any. Together no more than the rate.
        recipients_per_second_min: Option<f64> = None,
        /// Connections at a time, counted from the first MAIL; more are told 421. Default: connections.per_app_max.
        connections_max: Option<Count> = None,
    } [rules ses_parameters]
}

section! {
    /// Whose AWS account it is, for the ARNs in IAM policy documents. The region is ses.region, or AWS_REGION.
    Aws {
        /// The twelve digits of the account.
        account: Option<AccountId> = None,
        /// aws, aws-cn, aws-us-gov, … Default: that of the region.
        partition: Option<String> = None,
        /// A list of verified domains and addresses. Which of them an author belongs to decides what its ARN is; the
        /// nearest one counts. Default: the author's own domain.
        identities: Vec<String> = Vec::new(),
        /// Configuration sets that identities have by default: IDENTITY = "NAME".
        default_configuration_sets: BTreeMap<String, ConfigurationSet> = BTreeMap::new(),
        /// true or false: the account has no production access, so the identities of recipients must be allowed too.
        sandbox: bool = false,
    } []
}

/// Words of a key, and what they mean to a room below.
macro_rules! words {
    ($( $(#[$doc:meta])+ $name:ident { $( $(#[$word:meta])+ $variant:ident, )+ } )+) => { $(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $( $(#[$word])+ $variant, )+ }
    )+ };
}

words! {
    /// A place where addresses are not checked.
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
    /// Whether refusals are carried out.
    Enforcement {
        /// Yes.
        Enforce,
        /// No, they are logged.
        Report,
    }
    /// What happens to a From that does not fit.
    #[derive(Default)]
    ForeignFrom {
        /// The message is refused.
        #[default]
        Reject,
        /// The application's own takes its place.
        Rewrite,
    }
    /// What happens to a message without From.
    #[derive(Default)]
    MissingFrom {
        /// It is refused.
        #[default]
        Refuse,
        /// The application's own is put in.
        Fill,
    }
    /// What happens to addresses that SES cannot read.
    #[derive(Default)]
    AddressFields {
        /// The message is refused.
        #[default]
        Refuse,
        /// They are left out.
        Repair,
    }
    /// What happens to a message without a field.
    #[derive(Default)]
    MissingField {
        /// Nothing.
        #[default]
        Leave,
        /// It is put in.
        Fill,
        /// The message is refused.
        Refuse,
    }
}

impl From<Enforcement> for policy::Enforcement {
    fn from(word: Enforcement) -> Self {
        match word {
            Enforcement::Enforce => Self::Enforce,
            Enforcement::Report => Self::Report,
        }
    }
}

impl From<MissingField> for policy::Missing<()> {
    fn from(word: MissingField) -> Self {
        match word {
            MissingField::Leave => Self::Leave,
            MissingField::Fill => Self::Fill(()),
            MissingField::Refuse => Self::Refuse,
        }
    }
}
