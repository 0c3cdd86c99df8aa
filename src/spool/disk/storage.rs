//! What the spool needs of a file system, as a trait, so that tests can fail or stop every single operation.
//!
//! Nothing that was written is durable before [`StorageFile::sync`], and no created or removed name before
//! [`Storage::sync_name`]: until then a crash may undo it, or not, in any order.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory with files, and one level of directories in it. Names are relative.
pub(super) trait Storage: Send + Sync + 'static {
    /// The names in a directory (`""`: the upper one), in no order. Names of directories are left out.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Creates a file with that many zero octets, for which space is reserved. It must not exist.
    fn create(&self, name: &str, octets: u64) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, durably.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creation or removal of this name durable.
    fn sync_name(&self, name: &str) -> io::Result<()>;

    /// Free space of the file system.
    fn free_octets(&self) -> io::Result<u64>;
}

/// An open file.
pub(super) trait StorageFile: Send + Sync + 'static {
    /// Its size.
    fn octets(&self) -> io::Result<u64>;

    /// Fills the buffer from that offset. Fewer octets are an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all octets at that offset.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what was written. After an error the kernel may have forgotten what it could not write, and the next
    /// call may succeed although data are lost: never call it again on this file.
    fn sync(&self) -> io::Result<()>;

    /// Sets the size.
    fn truncate(&self, octets: u64) -> io::Result<()>;
}

/// The directories below the upper one.
pub(super) const DIRECTORIES: [&str; 2] = [CONTENT, CORRUPT];
/// Content that is too large for a segment.
pub(super) const CONTENT: &str = "content";
/// Records that are damaged.
pub(super) const CORRUPT: &str = "corrupt";

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A real directory.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Creates the directory and those below, with mode 0700, if they are missing.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder.create(path)?;
        for name in DIRECTORIES {
            builder.create(path.join(name))?;
        }
        File::open(path)?.sync_all()?;
        // The names of directories that were created. One that this user cannot read was there before.
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        Ok(Self(path.to_owned()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Storage for Directory {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(directory))? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, octets: u64) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.path(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        let reserved = match fallocate(&file, FallocateFlags::empty(), 0, octets) {
            _ if octets == 0 => Ok(()),
            // A file system that cannot reserve: the space is taken as it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(octets),
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = reserved {
            drop(file);
            // The name alone would be in the way of the next attempt.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))?;
        self.sync_name(to)?;
        self.sync_name(from)
    }

    fn sync_name(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        File::open(path.parent().unwrap_or(&self.0))?.sync_all()
    }

    fn free_octets(&self) -> io::Result<u64> {
        let free = statvfs(&self.0)?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }
}

impl StorageFile for File {
    fn octets(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        // A file without a name would be gone after a restart, whatever was flushed to it.
        match self.metadata()?.nlink() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was in use")),
            _ => Ok(()),
        }
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        self.set_len(octets)
    }
}
