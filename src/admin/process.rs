//! Figures of this process, from `/proc`.

use crate::observe::ProcessSnapshot;

/// The figures; `None` where there is no `/proc`.
pub(super) fn figures() -> Option<ProcessSnapshot> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let stat = read("stat")?;
    // The name in brackets may contain spaces. The third field follows it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|word| word.parse::<f64>().ok());
    let status = read("status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
    let limits = read("limits")?;
    let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(ProcessSnapshot {
        resident_octets: resident_kib * 1024,
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
        max_fds: max_fds.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default(),
        started_seconds: boot + ticks(22)? / TICKS_PER_SECOND,
    })
}

/// `USER_HZ`, which is 100 on all architectures that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;
