//! The binary: a command line in, an exit code out; and what a program may choose for its process and a library may not: the
//! allocator, and to give its own code back.
//!
//! The only place with `unsafe`, which the library forbids. An idle relay would hold 12 MiB of code that its start or its
//! last messages needed, more than it holds of anything else, and no safe call lets a process give that back.

// glibc keeps what a burst of large mail, or of password verifications, once took; this one gives it back, and costs less
// CPU a message. With glibc it takes the place of `malloc` by being linked, for Rust and C alike. The library leaves the
// choice to whoever embeds it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use mimalloc as _;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gatepost::commands::main(std::env::args_os(), give_back())
}

#[cfg(not(target_os = "linux"))]
fn give_back() -> impl Fn() + Send {
    || {}
}

/// Gives back what is mapped of the program's file and its libraries'. To be made before any thread is started: what is
/// mapped later may be unmapped again, and something else be there.
#[cfg(target_os = "linux")]
fn give_back() -> impl Fn() + Send {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mappings = mappings::unchanged(&smaps);
    move || mappings.iter().for_each(mappings::give_back)
}

#[cfg(target_os = "linux")]
mod mappings {
    use rustix::mm::{Advice, madvise};

    /// A mapping of a file that stays as it is for as long as the process lives.
    pub(super) struct Mapping {
        start: usize,
        octets: usize,
    }

    /// Unmaps its pages. What is used next is found again in the page cache, so the first message after this takes a few
    /// milliseconds more.
    pub(super) fn give_back(&Mapping { start, octets }: &Mapping) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the loader mapped this before `main`, and what it mapped then is never unmapped. The mapping is private,
        // nobody can write to it, and it holds no page of its own: what it shows is the file, before and after.
        // madvise(2), MADV_DONTNEED.
        #[expect(unsafe_code, reason = "there is no safe call for it")]
        let advised = unsafe { madvise(start, octets, Advice::LinuxDontNeed) };
        // What a kernel will not give back stays.
        let _ = advised;
    }

    /// The private mappings of files that cannot be written to and have no page that differs from the file, in the text of
    /// proc_pid_smaps(5).
    pub(super) fn unchanged(smaps: &str) -> Vec<Mapping> {
        let mut found = Vec::new();
        let (mut of_file, mut not_in_memory) = (None, None);
        for line in smaps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                // Nothing of its own in memory, and nothing that was swapped out: said in this order.
                ["Anonymous:", "0", "kB"] => not_in_memory = of_file.take(),
                ["Swap:", "0", "kB"] => found.extend(not_in_memory.take()),
                [range, "r--p" | "r-xp", _, _, _, path, ..] if path.starts_with('/') => {
                    (of_file, not_in_memory) = (mapping(range), None);
                }
                // The heading of any other mapping; what is said of a mapping begins with a name and a colon.
                [range, ..] if !range.ends_with(':') => (of_file, not_in_memory) = (None, None),
                _ => {}
            }
        }
        found
    }

    fn mapping(range: &str) -> Option<Mapping> {
        let (start, end) = range.split_once('-')?;
        let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16));
        let start = start.ok()?;
        Some(Mapping { start, octets: end.ok()?.checked_sub(start)? })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_what_shows_its_file_unchanged_is_given_back() {
            let smaps = "\
                5500-5600 r--p 00000000 fe:01 7 /usr/bin/gatepost\nAnonymous: 0 kB\nSwap: 0 kB\nVmFlags: rd mr\n\
                5600-5a00 r-xp 00100000 fe:01 7 /usr/bin/gatepost\nRss: 64 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
                5a00-5b00 r--p 00500000 fe:01 7 /usr/bin/gatepost\nRss: 64 kB\nAnonymous: 60 kB\nSwap: 0 kB\n\
                5b00-5c00 rw-p 00600000 fe:01 7 /usr/bin/gatepost\nRss: 64 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
                5c00-5d00 rw-p 00000000 00:00 0 [heap]\nRss: 64 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
                5d00-5e00 r--p 00700000 fe:01 7 /usr/bin/gatepost\nRss: 0 kB\nAnonymous: 0 kB\nSwap: 60 kB\n\
                6000-6100 r--s 00000000 fe:01 9 /var/lib/shared\nRss: 64 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
                7000-7100 r-xp 00000000 fe:01 8 /usr/lib/libc.so.6 (deleted)\nAnonymous: 0 kB\nSwap: 0 kB\n\
                7100-7200 ---p 00000000 00:00 0 \nRss: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
                7ff0-7ff1 r-xp 00000000 00:00 0 [vdso]\nRss: 64 kB\nAnonymous: 0 kB\nSwap: 0 kB\n";
            let found: Vec<_> = unchanged(smaps).iter().map(|mapping| (mapping.start, mapping.octets)).collect();
            assert_eq!(found, [(0x5500, 0x100), (0x5600, 0x400), (0x7000, 0x100)]);
        }
    }
}
