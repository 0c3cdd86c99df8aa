//! The systemd journal on standard error: a line there begins with its priority, `<6>` for one of level info.
//!
//! systemd sets JOURNAL_STREAM to device and inode of the stream that it connects to the journal. A program that inherits the
//! variable and writes elsewhere, to a file or a pipe, must not write priorities, so the numbers are compared.
//! systemd.exec(5) "JOURNAL_STREAM", sd-daemon(3) "SD_ERR".

use std::ffi::OsStr;
use tracing::Level;

/// Device and inode, as `stat` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    device: u64,
    inode: u64,
}

/// Whether standard error is the journal.
pub(super) fn is_stderr() -> bool {
    is_journal(std::env::var_os("JOURNAL_STREAM").as_deref(), stderr())
}

fn is_journal(journal_stream: Option<&OsStr>, stderr: Option<Stream>) -> bool {
    let journal = journal_stream.and_then(OsStr::to_str).and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some(Stream { device: device.parse().ok()?, inode: inode.parse().ok()? })
    });
    journal.is_some() && journal == stderr
}

#[cfg(unix)]
fn stderr() -> Option<Stream> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    // The file is a duplicate of the descriptor, and closes that one only.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().ok()?;
    let metadata = std::fs::File::from(stderr).metadata().ok()?;
    Some(Stream { device: metadata.dev(), inode: metadata.ino() })
}

#[cfg(not(unix))]
fn stderr() -> Option<Stream> {
    None
}

/// The beginning of a line of that level.
pub(super) const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_the_stream_that_systemd_names() {
        let stderr = Some(Stream { device: 9, inode: 1_234_567 });
        let is_journal = |text: Option<&str>, stderr| is_journal(text.map(OsStr::new), stderr);
        assert!(is_journal(Some("9:1234567"), stderr));
        // Standard error of this process is something else: a file, or the pipe of a test.
        for other in
            ["9:1234568", "8:1234567", "1234567:9", "", "9", "9:", ":1234567", "9:1234567:1", "9:x", "0x9:1234567"]
        {
            assert!(!is_journal(Some(other), stderr), "{other}");
        }
        assert!(!is_journal(None, stderr));
        assert!(!is_journal(Some("9:1234567"), None) && !is_journal(None, None), "without standard error");
    }

    #[cfg(unix)]
    #[test]
    fn standard_error_is_found_and_stays_open() {
        let first = stderr().unwrap();
        let named = format!("{}:{}", first.device, first.inode);
        assert!(is_journal(Some(OsStr::new(&named)), stderr()), "{named}");
    }
}
