//! The stream under a kept connection. It reports whether an octet of the current request was written.
//!
//! Before the first octet of a request, the kernel is asked whether the endpoint has closed the connection. The runtime
//! detects a close only when it polls the socket again, and for a request that is written before, it is unknown whether it
//! was read.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// What is known of the request that a connection carries. Shared by the connection and the call.
#[derive(Debug, Default)]
pub(super) struct RequestProgress {
    written: AtomicBool,
    /// An answer was read on the connection before.
    is_kept: AtomicBool,
}

impl RequestProgress {
    /// A request begins.
    pub(super) fn begin(&self) {
        self.written.store(false, Ordering::Relaxed);
    }

    /// Its answer was read.
    pub(super) fn answered(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Whether an octet of the request was written.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }
}

/// A stream to an endpoint.
#[derive(Debug)]
pub(super) struct Wire {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    progress: Arc<RequestProgress>,
}

impl Wire {
    pub(super) fn new(stream: MaybeHttpsStream<TokioIo<TcpStream>>, progress: Arc<RequestProgress>) -> Self {
        Self { stream, progress }
    }

    /// Checks that the connection is open before the first octet of a request.
    ///
    /// # Errors
    /// If nothing of the request is written yet and the endpoint has closed the connection.
    fn check_open(&self) -> io::Result<()> {
        if self.progress.is_written() {
            return Ok(());
        }
        let tcp = match &self.stream {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        };
        let closed = match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => true,
            // Between two calls an endpoint writes only what announces the end: a TLS alert, or an answer 408. A new
            // connection may have TLS session tickets.
            Ok(_) => self.progress.is_kept.load(Ordering::Relaxed),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let text = "the endpoint closed the connection before the request was written";
        if closed { Err(io::Error::new(io::ErrorKind::NotConnected, text)) } else { Ok(()) }
    }

    fn write(
        &mut self,
        write: impl FnOnce(Pin<&mut MaybeHttpsStream<TokioIo<TcpStream>>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.check_open()?;
        let written = write(Pin::new(&mut self.stream));
        if matches!(written, Poll::Ready(Ok(octets)) if octets > 0) {
            self.progress.written.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, octets))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
