//! `[log]`: the log on standard error.

use super::section::{section, words};
use crate::observe::AddressForm;

section! {
    /// The log, on standard error: one line per message outcome, refused command and refused connection.
    pub(crate) Log {
        /// human or json. human is logfmt: key=value, quoted where needed; json is one object a line.
        format: LogFormat = LogFormat::Human,
        /// error, warn, info, debug or trace. info includes accepted messages, debug connections. Other libraries log warnings
        /// and errors only. The environment variable GATEPOST_LOG replaces this key by directives such as
        /// "info,gatepost=debug".
        level: LogLevel = LogLevel::Info,
        /// plain, hashed or omitted. The form of personal data in log lines: addresses (recipients of accepted messages
        /// included), AUTH names (also of failed logins) and Message-IDs. hashed: the same address has the same hash until the
        /// process ends. With hashed and omitted, details that quote an address are left out too.
        addresses: Addresses = Addresses::Plain,
    } []
}

words! {
    /// The format of log lines.
    LogFormat {
        /// logfmt: `key=value`, quoted where needed.
        Human,
        /// One JSON object a line.
        Json,
    }
    /// Which events are logged; each level includes those above it.
    LogLevel {
        /// Errors that an operator must fix.
        Error,
        /// Messages and commands that were rejected or deferred.
        Warn,
        /// Accepted messages.
        Info,
        /// Connections.
        Debug,
        /// Everything.
        Trace,
    }
    /// The form of personal data in log lines.
    Addresses => AddressForm {
        /// As it is.
        Plain => Plain,
        /// The local part as a keyed hash, the domain as it is.
        Hashed => Hashed,
        /// Left out.
        Omitted => Omitted,
    }
}
