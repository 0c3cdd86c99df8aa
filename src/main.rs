//! The binary: a command line in, an exit code out.

fn main() -> std::process::ExitCode {
    gatepost::commands::main(std::env::args_os())
}
