//! The metrics of the process, as Prometheus clients name them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Figures of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessSnapshot {
    /// Octets of resident memory.
    pub resident_octets: u64,
    /// Seconds of CPU, of user and system.
    pub cpu_seconds: f64,
    /// File descriptors that are open.
    pub open_fds: u64,
    /// The maximum of open file descriptors.
    pub max_fds: u64,
    /// When it began, in seconds since 1970.
    pub started_seconds: f64,
}

/// The figures of one scrape.
pub(super) fn registry(process: &ProcessSnapshot) -> Registry {
    let mut registry = Registry::default();
    let (memory, started) = (whole(process.resident_octets), Gauge::<f64, AtomicU64>::default());
    started.set(process.started_seconds);
    let cpu = Counter::<f64, AtomicU64>::default();
    cpu.inc_by(process.cpu_seconds.max(0.0));
    registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, memory);
    registry.register_with_unit("process_start_time", "Start", Unit::Seconds, started);
    registry.register("process_open_fds", "Open file descriptors", whole(process.open_fds));
    registry.register("process_max_fds", "The most file descriptors", whole(process.max_fds));
    registry.register_with_unit("process_cpu", "User and system", Unit::Seconds, cpu);
    registry
}

fn whole(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}
