//! The state of a mail transaction in the relay, from MAIL to its end.

use super::admission::Admitted;
use super::reception::Reception;
use crate::limit::Reservation;
use crate::mail::parameters::{AppName, Delivery};
use crate::mail::{ForwardPath, Refusal, ReversePath, TransactionId};

/// A mail transaction.
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// The application that policy granted at MAIL.
    pub(super) app: Option<AppName>,
    /// Of the grant at MAIL.
    pub(super) delivery: Delivery,
    pub(super) reverse_path: ReversePath,
    pub(super) accepted: usize,
    /// Decisions about recipients whose commands have not been reached.
    pub(super) prefetched: Vec<PrefetchedRecipient>,
    /// What the limiter took so far; returned if no message is sent.
    pub(super) reservations: Vec<Reservation>,
    pub(super) reception: Option<Reception>,
}

/// A transaction whose MAIL was accepted and whose outcome has not been reported.
pub(super) struct OpenTransaction {
    pub(super) id: TransactionId,
    pub(super) app: Option<AppName>,
    pub(super) reverse_path: ReversePath,
    pub(super) recipients: usize,
    /// Octets of content so far.
    pub(super) octets: u64,
    /// The last verb that was decided.
    pub(super) after: &'static str,
}

/// The decision about a recipient whose command has not been reached.
#[derive(Debug)]
pub(super) struct PrefetchedRecipient {
    pub(super) path: ForwardPath,
    pub(super) accepted_before: usize,
    pub(super) judged: Result<Admitted, Refusal>,
}
