//! Content on disk: an unlinked temporary file. The only file calls of `relay`.
//!
//! Nothing is durable, and a crash leaves nothing behind: the client is responsible for a message until the provider has
//! accepted it. File calls run on the blocking pool, in pieces of 32 KiB, which is what a connection holds in memory for
//! its file.

use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

const PIECE_OCTETS: usize = 32 * 1024;

/// Octets in an unlinked file, the newest of them still in memory.
#[derive(Debug)]
pub(super) struct SpillFile {
    /// `None` while a file call runs, and after one failed.
    file: Option<File>,
    pending: Vec<u8>,
    octets: u64,
}

impl SpillFile {
    pub(super) async fn create(directory: Option<&Path>) -> io::Result<Self> {
        let directory = directory.map(Path::to_path_buf);
        let file = on_blocking_pool(move || match directory {
            Some(path) => tempfile::tempfile_in(path),
            None => tempfile::tempfile(),
        })
        .await?;
        Ok(Self { file: Some(file), pending: Vec::with_capacity(PIECE_OCTETS), octets: 0 })
    }

    /// Its file descriptor; `None` where the system has none.
    pub(super) fn descriptor(&self) -> Option<i32> {
        #[cfg(unix)]
        return self.file.as_ref().map(std::os::fd::AsRawFd::as_raw_fd);
        #[cfg(not(unix))]
        None
    }

    pub(super) async fn append(&mut self, mut octets: &[u8]) -> io::Result<()> {
        self.octets += octets.len() as u64;
        while !octets.is_empty() {
            let here = octets.len().min(PIECE_OCTETS - self.pending.len());
            self.pending.extend_from_slice(&octets[..here]);
            octets = &octets[here..];
            if self.pending.len() == PIECE_OCTETS {
                self.write_pending().await?;
            }
        }
        Ok(())
    }

    async fn write_pending(&mut self) -> io::Result<()> {
        let mut file = self.file.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        let mut pending = std::mem::take(&mut self.pending);
        let (file, pending) = on_blocking_pool(move || {
            file.write_all(&pending)?;
            pending.clear();
            Ok((file, pending))
        })
        .await?;
        (self.file, self.pending) = (Some(file), pending);
        Ok(())
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Reads all octets into one piece of memory, for which the caller holds a share.
    pub(super) async fn into_octets(mut self) -> io::Result<Bytes> {
        let mut file = self.file.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        let (pending, octets) = (self.pending, self.octets);
        on_blocking_pool(move || {
            let mut all = Vec::with_capacity(usize::try_from(octets).map_err(io::Error::other)?);
            file.rewind()?;
            file.read_to_end(&mut all)?;
            all.extend_from_slice(&pending);
            if all.len() as u64 != octets {
                return Err(io::Error::other("the temporary file has another length than was written"));
            }
            Ok(Bytes::from(all))
        })
        .await
    }
}

async fn on_blocking_pool<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_appended_comes_back_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for total in [0, 1, PIECE_OCTETS - 1, PIECE_OCTETS, 3 * PIECE_OCTETS + 17] {
            let octets: Vec<u8> = (0..total).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut file = SpillFile::create(Some(directory.path())).await.unwrap();
            for piece in octets.chunks(10_007) {
                file.append(piece).await.unwrap();
            }
            assert_eq!(file.into_octets().await.unwrap(), octets, "{total}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the files have no name");
    }
}
