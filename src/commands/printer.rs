//! The only writer to standard output, and of messages to standard error.
//!
//! A reader that went away (`gatepost schema | head`) is no error: whoever reads has read enough.

use super::exit::{Exit, Failure};
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

    /// What ends the command.
    pub(super) fn complain(self, failure: &Failure) {
        if failure.placed { Self::message(&failure.message) } else { self.tell(&failure.message) }
    }

    /// A message to the person.
    pub(super) fn tell(self, text: &str) {
        Self::message(&format!("gatepost: {text}"));
    }

    fn message(text: &str) {
        // Nobody is left to tell if this fails.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
