//! The delivery outcome of each recipient after acceptance.
//!
//! Nothing is delivered; the outcome is only recorded with the message, as the events of a configuration set would
//! report it. The addresses of the mailbox simulator accept labels (`bounce+label@`), work in the sandbox, and count
//! toward the send rate but not toward the daily quota. SES Developer Guide, "Using the mailbox simulator".

use super::address::Mailbox;
use super::settings::{EmulatorSettings, SuppressionReason};

/// The outcome of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryOutcome {
    /// Delivered.
    Delivery,
    /// A hard bounce.
    Bounce,
    /// Delivered, then complained about.
    Complaint,
    /// Delivered, then answered automatically.
    OutOfOffice,
    /// Not sent, because the address is on the suppression list.
    Suppressed,
}

impl DeliveryOutcome {
    /// The word in `GET /messages`.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryOutcome::Delivery => "delivery",
            DeliveryOutcome::Bounce => "bounce",
            DeliveryOutcome::Complaint => "complaint",
            DeliveryOutcome::OutOfOffice => "out-of-office",
            DeliveryOutcome::Suppressed => "suppressed",
        }
    }
}

pub(super) fn is_simulator(mailbox: &Mailbox) -> bool {
    mailbox.domain == SIMULATOR_DOMAIN
}

pub(super) fn outcome_for(mailbox: &Mailbox, settings: &EmulatorSettings) -> DeliveryOutcome {
    if is_simulator(mailbox) {
        let name = mailbox.local.split('+').next().unwrap_or("").to_ascii_lowercase();
        return OUTCOMES.iter().find(|row| row.0 == name).map_or(DeliveryOutcome::Bounce, |row| row.1);
    }
    match suppression_of(mailbox, settings) {
        Some(_) => DeliveryOutcome::Suppressed,
        None => DeliveryOutcome::Delivery,
    }
}

/// The reason an address is on the suppression list, if it is.
pub(super) fn suppression_of(mailbox: &Mailbox, settings: &EmulatorSettings) -> Option<SuppressionReason> {
    let address = mailbox.to_string();
    settings.suppressed.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(&address)).map(|(_, reason)| *reason)
}

const SIMULATOR_DOMAIN: &str = "simulator.amazonses.com";

const OUTCOMES: &[(&str, DeliveryOutcome)] = &[
    ("success", DeliveryOutcome::Delivery),
    ("bounce", DeliveryOutcome::Bounce),
    ("complaint", DeliveryOutcome::Complaint),
    ("ooto", DeliveryOutcome::OutOfOffice),
    ("suppressionlist", DeliveryOutcome::Suppressed),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_simulator_address_has_its_outcome_with_and_without_label() {
        let mut settings = EmulatorSettings::default();
        settings.suppressed.insert("gone@example.net".to_owned(), SuppressionReason::Bounce);
        for (address, want) in [
            ("success@simulator.amazonses.com", DeliveryOutcome::Delivery),
            ("bounce@simulator.amazonses.com", DeliveryOutcome::Bounce),
            ("bounce+label@simulator.amazonses.com", DeliveryOutcome::Bounce),
            ("complaint+x@SIMULATOR.amazonses.com", DeliveryOutcome::Complaint),
            ("ooto@simulator.amazonses.com", DeliveryOutcome::OutOfOffice),
            ("suppressionlist@simulator.amazonses.com", DeliveryOutcome::Suppressed),
            ("nobody@simulator.amazonses.com", DeliveryOutcome::Bounce),
            ("bounce@example.net", DeliveryOutcome::Delivery),
            ("Gone@example.net", DeliveryOutcome::Suppressed),
        ] {
            let mailbox = Mailbox::parse(address).expect("an address");
            assert_eq!(outcome_for(&mailbox, &settings), want, "{address}");
        }
    }
}
