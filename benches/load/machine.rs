//! What the kernel knows of a process: its CPU time and its memory. And which machine this is.
//!
//! Linux only: `/proc` is where CPU time of another process can be read while it lives.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;

/// CPU time that a process has used so far.
#[derive(Clone, Debug)]
pub(crate) struct CpuTime {
    /// User and system time of all its threads, those that ended included, in whole ticks.
    ticks: u64,
    /// Nanoseconds by thread, of those that live.
    threads: BTreeMap<u64, u64>,
}

/// `USER_HZ`, which Linux has fixed at 100 for programs on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl CpuTime {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name stands in parentheses and may hold anything. proc(5): utime and stime are fields 14 and 15.
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

    /// Seconds since then: in nanoseconds where no thread has ended, else in ticks, which count those too.
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
    /// Of it, what is the process's own: the rest is mapped from files, and the system may drop it at any time.
    pub(crate) anonymous: f64,
    /// The most that was resident since the start, or since [`forget_peak`].
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

/// Lets the peak begin anew. proc(5), clear_refs: 5.
pub(crate) fn forget_peak(process: u32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5")
}

/// One line: processors, kernel, compiler.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1)).unwrap_or("?");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The part of a distribution's or cloud's own naming says nothing about speed.
    let kernel = kernel.split('-').next().unwrap_or("?").trim().to_owned();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(|_| "rustc ?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).into());
    let rustc = rustc.split(" (").next().unwrap_or("rustc ?").trim().to_owned();
    format!("{cores} cores of {}, Linux {kernel}, {rustc}", model.trim())
}

/// How busy the machine was in the last minute, this run included.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// A benchmark without optimisation measures the compiler.
pub(crate) const OPTIMISED: bool = !cfg!(debug_assertions);

/// Thousands of connections need as many file descriptors.
pub(crate) fn raise_file_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, connections fail, and that is reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
