//! The binary: a command line in, an exit code out; and the allocator, which a program may choose and a library may not.

#![forbid(unsafe_code)]

// glibc keeps the memory that a burst of large mail, or of password verifications, once took. This allocator returns it to the
// system, and costs less CPU per message. With glibc it replaces `malloc` by being linked, for Rust and C alike.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use mimalloc as _;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gatepost::cli::main(std::env::args_os())
}
