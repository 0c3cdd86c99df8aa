//! One stream type for TCP, Unix and TLS connections.

use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;

/// A connection before TLS, with the octets that were read together with the PROXY header.
pub(super) struct AcceptedStream {
    pub(super) stream: Plain,
    pub(super) early: BytesMut,
}

/// A connection before TLS.
#[derive(Debug)]
pub(super) enum Plain {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection that is registered with no runtime, to be moved from one to another.
#[derive(Debug)]
pub(super) enum UnregisteredStream {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Plain {
    /// Its file descriptor; `None` where the system has none.
    pub(super) fn descriptor(&self) -> Option<i32> {
        #[cfg(unix)]
        use std::os::fd::AsRawFd;
        match self {
            #[cfg(unix)]
            Self::Tcp(stream) => Some(stream.as_raw_fd()),
            #[cfg(not(unix))]
            Self::Tcp(_) => None,
            #[cfg(unix)]
            Self::Unix(stream) => Some(stream.as_raw_fd()),
        }
    }

    /// Writes what fits now, without waiting.
    pub(super) fn write_now(&self, octets: &[u8]) {
        // A client that cannot take a line at once has closed or is overloaded: only close.
        let _ = match self {
            Self::Tcp(stream) => stream.try_write(octets),
            #[cfg(unix)]
            Self::Unix(stream) => stream.try_write(octets),
        };
    }

    /// Deregisters the connection from its runtime.
    pub(super) fn deregister(self) -> io::Result<UnregisteredStream> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(UnregisteredStream::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => stream.into_std().map(UnregisteredStream::Unix),
        }
    }
}

impl UnregisteredStream {
    /// Registers the connection with the runtime of the caller.
    pub(super) fn register(self) -> io::Result<Plain> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Plain::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => UnixStream::from_std(stream).map(Plain::Unix),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Plain),
    Tls(Box<TlsStream<PrefixedStream>>),
    /// During a STARTTLS handshake, and after a failed one.
    Closed(tokio::io::Empty),
}

impl Stream {
    /// Waits until there are octets to read, if that can be known without reading.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(Plain::Tcp(stream)) => stream.readable().await,
            #[cfg(unix)]
            Self::Plain(Plain::Unix(stream)) => stream.readable().await,
            // The TLS stream may have octets buffered.
            Self::Tls(_) | Self::Closed(_) => Ok(()),
        }
    }
}

/// A connection of which some octets were read already. Reads return them first.
#[derive(Debug)]
pub(super) struct PrefixedStream {
    early: BytesMut,
    stream: Plain,
    first: Option<u8>,
}

impl PrefixedStream {
    pub(super) fn new(early: BytesMut, stream: Plain) -> Self {
        let first = early.first().copied();
        Self { early, stream, first }
    }

    /// The first octet received, if any.
    pub(super) fn first(&self) -> Option<u8> {
        self.first
    }
}

impl AsyncRead for PrefixedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            if this.first.is_none() {
                this.first = buf.filled().get(before).copied();
            }
            return read;
        }
        let octets = this.early.split_to(this.early.len().min(buf.remaining()));
        buf.put_slice(&octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PrefixedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

macro_rules! forward {
    ($kind:ty, $($(#[$cfg:meta])? $variant:path),+) => {
        impl AsyncRead for $kind {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $( $(#[$cfg])? $variant(inner) => Pin::new(inner).poll_read(cx, buf), )+ }
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $( $(#[$cfg])? $variant(inner) => Pin::new(inner).poll_write(cx, buf), )+ }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $( $(#[$cfg])? $variant(inner) => Pin::new(inner).poll_flush(cx), )+ }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $( $(#[$cfg])? $variant(inner) => Pin::new(inner).poll_shutdown(cx), )+ }
            }
        }
    };
}

forward!(
    Plain,
    Plain::Tcp,
    #[cfg(unix)]
    Plain::Unix
);
forward!(Stream, Stream::Plain, Stream::Tls, Stream::Closed);
