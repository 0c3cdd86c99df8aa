//! The only writer to standard output, and of messages to standard error.
//!
//! A reader that went away (`gatepost schema | head`) is no error.

use super::exit::{Exit, Failure};
use super::journal;
use crate::mail::{Clock, SystemClock};
use std::io::{self, Write};

#[derive(Clone, Copy, Debug)]
pub(super) struct Printer;

impl Printer {
    /// A line of the result.
    pub(super) fn line(self, text: &str) -> Result<Exit, Failure> {
        self.text(&format!("{text}\n"))
    }

    /// A text of the result, as it is.
    pub(super) fn text(self, text: &str) -> Result<Exit, Failure> {
        let mut output = io::stdout().lock();
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => Ok(Exit::Ok),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
            Err(error) => Err(Failure::new(Exit::Io, format!("cannot write: {error}"))),
        }
    }

    /// What ends the command. In the journal, each line is an error.
    pub(super) fn complain(self, failure: &Failure) {
        let priority = if journal::is_stderr() { journal::priority(tracing::Level::ERROR) } else { "" };
        for cause in &failure.causes {
            let name = if cause.place.is_none() { "gatepost: " } else { "" };
            for (number, line) in cause.to_string().lines().enumerate() {
                Self::message(&format!("{priority}{}{line}", if number == 0 { name } else { "" }));
            }
        }
    }

    /// The same as log lines in JSON, one for each cause, so that a collector of the log has the reason of a failed start.
    pub(super) fn complain_in_json(self, failure: &Failure) {
        let now = jiff::Timestamp::try_from(SystemClock.wall()).unwrap_or_default();
        for cause in &failure.causes {
            let line = serde_json::json!({
                "timestamp": format!("{now:.6}"),
                "level": "ERROR",
                "message": cause.message,
                "place": cause.place,
                "hint": cause.hint,
                "exit_code": failure.exit as u8,
                "target": "gatepost",
            });
            Self::message(&line.to_string());
        }
    }

    /// A message to the person.
    pub(super) fn tell(self, text: &str) {
        Self::message(&format!("gatepost: {text}"));
    }

    /// A line to standard error as it is.
    pub(super) fn note(self, text: &str) {
        Self::message(text);
    }

    fn message(text: &str) {
        // If this fails, there is no reader left.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
