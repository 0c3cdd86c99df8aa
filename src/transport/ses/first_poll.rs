//! Writing and signing a large call away from the threads that serve connections.
//!
//! Until a call waits for the network, it encodes the message, writes the document and hashes it: a millisecond a megabyte,
//! in one piece. For a large message that first step runs on the blocking pool; the waits that follow are those of the task
//! that made the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// A larger message takes longer than other connections of the thread should wait for it. For smaller ones, what the pool's
/// threads keep of their memory for some seconds costs more.
pub(super) const OCTETS_MIN: usize = 12 * 1024 * 1024;

/// Threads of the blocking pool that may be in use for this at a time: as many as there are processors.
#[derive(Clone, Debug)]
pub(super) struct Writers(Arc<Semaphore>);

impl Default for Writers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))))
    }
}

impl Writers {
    /// The result of the future, whose first step runs on the blocking pool. `None` if that thread did not come to its end.
    pub(super) async fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let permit = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let runtime = Handle::current();
        let first = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Sockets and timers that it opens belong to the runtime of the task.
            let _context = runtime.enter();
            let mut future = Box::pin(future);
            // The task polls it again at once, with a waker of its own.
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
