//! CPU time and memory of a process, from the kernel, and a description of the machine.
//!
//! Linux only: `/proc` has the CPU time of another process while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;

/// The CPU time of a process since its start.
#[derive(Clone, Debug)]
pub(crate) struct CpuTime {
    /// User and system time of all its threads, including those that ended, in whole ticks.
    ticks: u64,
    /// Nanoseconds of each running thread.
    threads: BTreeMap<u64, u64>,
}

/// `USER_HZ`, which Linux has fixed at 100 for programs on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl CpuTime {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name is in parentheses and may contain any character. proc(5): utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = [11, 12].iter().filter_map(|place| fields.get(*place)?.parse::<u64>().ok()).sum();
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
            let nanoseconds = fs::read_to_string(entry.path().join("schedstat"))
                .ok()
                .and_then(|text| text.split_whitespace().next()?.parse().ok());
            if let (Some(thread), Some(nanoseconds)) = (entry.file_name().to_string_lossy().parse().ok(), nanoseconds) {
                threads.insert(thread, nanoseconds);
            }
        }
        Ok(Self { ticks, threads })
    }

    /// The time of a process, of all processes that it started, and of those that ended.
    pub(crate) fn of_family(process: u32) -> io::Result<Self> {
        // proc(5): the parent is field 4; the time of children that ended, and were waited for, is in fields 16 and 17.
        let field = |stat: &str, place: usize| -> Option<u64> {
            stat.rsplit(')').next()?.split_whitespace().nth(place)?.parse().ok()
        };
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let mut ticks: u64 = [11, 12, 13, 14].iter().filter_map(|place| field(&stat, *place)).sum();
        for entry in fs::read_dir("/proc")?.flatten() {
            // A process that ends meanwhile is counted by its parent the next time.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if field(&stat, 1) == Some(process.into()) {
                ticks += [11, 12].iter().filter_map(|place| field(&stat, *place)).sum::<u64>();
            }
        }
        Ok(Self { ticks, threads: BTreeMap::new() })
    }

    /// Seconds since then: from nanoseconds if no thread has ended, otherwise from ticks, which include ended threads.
    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        let sum = |threads: &BTreeMap<u64, u64>| threads.values().sum::<u64>();
        if !before.threads.is_empty() && before.threads.keys().all(|thread| self.threads.contains_key(thread)) {
            return sum(&self.threads).saturating_sub(sum(&before.threads)) as f64 / 1e9;
        }
        self.ticks.saturating_sub(before.ticks) as f64 / TICKS_PER_SECOND
    }
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// The part that is not mapped from files. The system may drop the rest at any time.
    pub(crate) anonymous: f64,
    /// The maximum of resident memory since the start, or since [`forget_peak`].
    pub(crate) peak: f64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let mebibytes = |name| field(name).map_or(f64::NAN, |kibibytes| kibibytes / 1024.0);
        Ok(Self { resident: mebibytes("VmRSS:"), anonymous: mebibytes("RssAnon:"), peak: mebibytes("VmHWM:") })
    }
}

/// Resets the peak. proc(5), clear_refs: 5.
pub(crate) fn forget_peak(process: u32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5")
}

/// One line: processors, kernel, compiler.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1)).unwrap_or("?");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The suffix of a distribution or cloud says nothing about speed.
    let kernel = kernel.split('-').next().unwrap_or("?").trim().to_owned();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(|_| "rustc ?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).into());
    let rustc = rustc.split(" (").next().unwrap_or("rustc ?").trim().to_owned();
    format!("{cores} cores of {}, Linux {kernel}, {rustc}", model.trim())
}

/// The load average of the last minute, including this run.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// A benchmark without optimisation measures the compiler.
pub(crate) const OPTIMISED: bool = !cfg!(debug_assertions);

/// Raises the limit on file descriptors, for thousands of connections.
pub(crate) fn raise_file_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it cannot be raised, connections fail, and the report shows it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
