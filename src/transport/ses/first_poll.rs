//! Writes and signs large calls on the blocking pool.
//!
//! Before a call waits for the network for the first time, it encodes the message, writes the document and hashes it: a
//! millisecond per megabyte without interruption. For a large message, that first poll runs on the blocking pool, all later
//! ones in the task that made the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The smallest message for which this is done. Other connections of the thread should not wait longer. For smaller messages, the
/// memory that the pool's threads keep for some seconds costs more than the wait.
pub(super) const OCTETS_MIN: usize = 12 * 1024 * 1024;

/// Bounds the threads of the blocking pool that are used at a time, to the number of processors.
#[derive(Clone, Debug)]
pub(super) struct Writers(Arc<Semaphore>);

impl Default for Writers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))))
    }
}

impl Writers {
    /// Runs a future, with its first poll on the blocking pool. `None` if that poll panicked or was aborted.
    pub(super) async fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let permit = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let runtime = Handle::current();
        let first = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Sockets and timers must belong to the runtime of the task.
            let _context = runtime.enter();
            let mut future = Box::pin(future);
            // The task polls it again at once, with its own waker.
            match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => Ok(output),
                Poll::Pending => Err(future),
            }
        });
        match first.await.ok()? {
            Ok(output) => Some(output),
            Err(future) => Some(future.await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[tokio::test]
    async fn the_first_step_runs_on_another_thread_and_the_rest_here() {
        let here = thread::current().id();
        let future = async {
            let first = thread::current().id();
            tokio::time::sleep(Duration::from_millis(5)).await;
            (first, thread::current().id())
        };
        let (first, last) = Writers::default().run(future).await.unwrap();
        assert_ne!(first, here);
        assert_eq!(last, here);
        assert_eq!(Writers::default().run(async { 7 }).await, Some(7), "one that never waits");
    }
}
