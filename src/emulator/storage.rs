//! Accepted messages on disk.
//!
//! Two files a message: `<MessageId>.eml`, the octets as they came, and `<MessageId>.json`, the line that
//! `GET /messages` prints without `raw_b64`. The second is renamed into place last, so whoever sees it sees both whole.
//! No promise beyond that: nothing is synced, because nothing depends on it after a power cut.

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
