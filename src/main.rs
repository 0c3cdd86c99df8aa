//! The binary: a command line in, an exit code out.

/// glibc keeps what a burst of large mail, or of password verifications, once took; this one gives it back, and costs less
/// CPU a message. The library leaves the choice to whoever embeds it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gatepost::commands::main(std::env::args_os())
}
