//! A disk in memory that fails or stops at any operation, and loses what was not flushed.

use super::storage::{Storage, StorageFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and the next one works. A failed flush has lost some of what was to be flushed, for good.
    Error,
    /// The process ends: this and all further operations fail.
    Stop,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    stopped: bool,
    random: u64,
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    Octets(u64, Vec<u8>),
    Size(u64),
}

impl Write {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Size(size) => octets.resize(*size as usize, 0),
            Self::Octets(offset, written) => {
                let end = *offset as usize + written.len();
                octets.resize(octets.len().max(end), 0);
                octets[*offset as usize..end].copy_from_slice(written);
            }
        }
    }
}

impl Disk {
    /// The next number of a sequence that a seed determines (xorshift).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.stopped {
            return Err(io::Error::other("the process has ended"));
        }
        match self.fault.filter(|(at, _)| *at == self.operations) {
            None => Ok(()),
            Some((_, fault)) => {
                self.stopped = fault == Fault::Stop;
                Err(io::Error::other("fault"))
            }
        }
    }

    fn write(&mut self, file: usize, write: Write) -> io::Result<()> {
        let done = self.operation();
        let write = match (&done, write) {
            // Part of it was written.
            (Err(_), Write::Octets(offset, octets)) => {
                let part = self.random() as usize % (octets.len() + 1);
                Write::Octets(offset, octets[..part].to_vec())
            }
            (_, write) => write,
        };
        write.apply(&mut self.files[file].now);
        self.files[file].pending.push(write);
        done
    }

    fn flush(&mut self, file: usize) -> io::Result<()> {
        let done = self.operation();
        let pending = std::mem::take(&mut self.files[file].pending);
        for write in pending {
            if done.is_ok() || self.random().is_multiple_of(2) {
                write.apply(&mut self.files[file].durable);
            }
        }
        done
    }

    /// A power loss: of what was not flushed, any part is there, also of a single write.
    fn lose_power(&mut self) {
        for file in 0..self.files.len() {
            for write in std::mem::take(&mut self.files[file].pending) {
                match (self.random() % 3, write) {
                    (0, _) => {}
                    (1, Write::Octets(offset, octets)) => {
                        let (from, to) = (self.random() as usize % (octets.len() + 1), octets.len());
                        Write::Octets(offset + from as u64, octets[from..to].to_vec())
                            .apply(&mut self.files[file].durable);
                    }
                    (_, write) => write.apply(&mut self.files[file].durable),
                }
            }
            self.files[file].now = self.files[file].durable.clone();
        }
        let all: Vec<String> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for name in all {
            let (now, durable) = (self.names.get(&name).copied(), self.durable_names.get(&name).copied());
            if now != durable && self.random().is_multiple_of(2) {
                match now {
                    Some(file) => self.durable_names.insert(name, file),
                    None => self.durable_names.remove(&name),
                };
            }
        }
        self.names = self.durable_names.clone();
    }
}

impl SimulatedDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Sets the fault of the `at`-th operation from now, counted from 1.
    pub(super) fn fault(&self, at: u64, fault: Fault, seed: u64) {
        let mut disk = self.disk();
        disk.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        disk.fault = Some((disk.operations + at, fault));
    }

    pub(super) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// The machine loses power and starts again; the disk works.
    pub(super) fn lose_power(&self) {
        let mut disk = self.disk();
        disk.lose_power();
        disk.stopped = false;
        disk.fault = None;
    }

    /// The process ends and starts again: what it wrote is there.
    pub(super) fn restart(&self) {
        let mut disk = self.disk();
        disk.stopped = false;
        disk.fault = None;
    }

    /// Changes a file as a bad disk would.
    pub(super) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let file = disk.names[name];
        let mut octets = disk.files[file].durable.clone();
        change(&mut octets);
        disk.files[file] = File { now: octets.clone(), durable: octets, pending: Vec::new() };
    }
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Storage for SimulatedDisk {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let names = disk.names.keys().filter(|name| directory_of(name) == directory);
        Ok(names.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect())
    }

    fn create(&self, name: &str, octets: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        disk.operation()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = disk.files.len();
        let size = Write::Size(octets);
        let mut now = Vec::new();
        size.apply(&mut now);
        disk.files.push(File { now, durable: Vec::new(), pending: vec![size] });
        disk.names.insert(name.to_owned(), file);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let disk = self.disk();
        let file = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        disk.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let file = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_name(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let directory = directory_of(name);
        let kept = |name: &String| directory_of(name) != directory;
        let mut durable = std::mem::take(&mut disk.durable_names);
        durable.retain(|name, _| kept(name));
        durable.extend(disk.names.iter().filter(|(name, _)| !kept(name)).map(|(name, file)| (name.clone(), *file)));
        disk.durable_names = durable;
        Ok(())
    }

    fn free_octets(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl StorageFile for SimulatedFile {
    fn octets(&self) -> io::Result<u64> {
        Ok(self.disk.disk().files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.disk.disk();
        let octets = disk.files[self.file].now.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(octets.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.disk.disk().write(self.file, Write::Octets(offset, octets.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.disk().flush(self.file)
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        self.disk.disk().write(self.file, Write::Size(octets))
    }
}
