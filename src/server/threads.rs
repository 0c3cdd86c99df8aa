//! Threads that connections are served on, each with a runtime of its own.
//!
//! A message is processed on the thread of its connection, so its data stays in one processor's caches: no thread wakes another or
//! takes over its work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. If there are none, connections are tasks of the runtime that accepts them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(Arc<[Thread]>);

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    connections: AtomicUsize,
}

/// How long a thread that ends waits for work that cannot be interrupted, such as verifying a password.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

impl Threads {
    /// Starts `count` threads. They end, with all tasks on them, when `cut` is cancelled.
    pub(crate) fn start(count: usize, cut: &CancellationToken) -> io::Result<Self> {
        let start = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, cut) = (runtime.handle().clone(), cut.clone());
            std::thread::Builder::new().name("gatepost-smtp".to_owned()).spawn(move || {
                runtime.block_on(cut.cancelled());
                runtime.shutdown_timeout(END_WAIT_MAX);
            })?;
            Ok(Thread { runtime: handle, connections: AtomicUsize::new(0) })
        };
        let threads = (0..count).map(start).collect::<io::Result<_>>();
        // Ends the threads that have started.
        threads.map(Self).inspect_err(|_| cut.cancel())
    }

    /// The runtime of the first thread, which serves the first connection.
    pub(crate) fn first(&self) -> Option<&Handle> {
        self.0.first().map(|thread| &thread.runtime)
    }

    /// The thread with the fewest connections.
    pub(super) fn enter(&self) -> Option<OnThread> {
        let connections = |thread: &Thread| thread.connections.load(Ordering::Relaxed);
        let (place, thread) = self.0.iter().enumerate().min_by_key(|(_, thread)| connections(thread))?;
        thread.connections.fetch_add(1, Ordering::Relaxed);
        Some(OnThread { threads: self.clone(), place })
    }
}

/// One connection on a thread. Dropping it releases the connection.
#[derive(Debug)]
pub(super) struct OnThread {
    threads: Threads,
    place: usize,
}

impl OnThread {
    fn thread(&self) -> &Thread {
        &self.threads.0[self.place]
    }

    pub(super) fn runtime(&self) -> Handle {
        self.thread().runtime.clone()
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        self.thread().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_a_thread_ends_with_what_is_on_it() {
        let cut = CancellationToken::new();
        let threads = Threads::start(2, &cut).unwrap();
        let places: Vec<OnThread> = (0..4).filter_map(|_| threads.enter()).collect();
        let on: Vec<usize> = places.iter().map(|place| place.place).collect();
        assert_eq!(on, [0, 1, 0, 1]);
        drop(places.into_iter().next());
        let again = threads.enter().unwrap();
        assert_eq!(again.place, 0, "a place that was given back is taken again");
        let task = again.runtime().spawn(std::future::pending::<()>());
        cut.cancel();
        let runtime = Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        assert!(Threads::default().enter().is_none());
    }
}
