//! Accepted messages on disk.
//!
//! Two files for each message: `<MessageId>.eml` has the octets unchanged, and `<MessageId>.json` the line of `GET
//! /messages` without `raw_b64`. The second is renamed into place last, so when it exists, both are complete. Nothing
//! is synced, because the files are not needed after a power failure.

use std::path::Path;

pub(super) async fn write(directory: &Path, message_id: &str, raw: bytes::Bytes, json: String) -> std::io::Result<()> {
    let stem = directory.join(message_id);
    let write = move || {
        let temporary = stem.with_extension("tmp");
        std::fs::write(stem.with_extension("eml"), raw)?;
        std::fs::write(&temporary, json)?;
        std::fs::rename(temporary, stem.with_extension("json"))
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => written,
        Err(stopped) => Err(std::io::Error::other(stopped)),
    }
}
