//! The machine that figures were measured on, and what it says of processes and folders.

use std::fs;
use std::io;
use std::path::Path;

use crate::server::process_memory_kib;

/// Processor, cores and memory, in words.
#[must_use]
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0);
    format!("{model}, {cores} cores, {} GiB", kib >> 20)
}

/// Bytes that a folder takes on disk (blocks, so that sparse files count as what they hold).
///
/// # Errors
/// When it can't be read.
pub fn folder_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let status = entry.metadata()?;
        bytes += if status.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            status.blocks() * 512
        };
    }
    Ok(bytes)
}

/// User and system time of this process, milliseconds.
///
/// # Errors
/// When `/proc` can't be read.
pub fn own_cpu_ms() -> io::Result<u64> {
    Ok((ticks(11)? + ticks(12)?) * 10)
}

/// Memory of this process now, and the most it has had, KiB.
///
/// # Errors
/// When `/proc` can't be read.
pub fn own_memory_kib() -> io::Result<(u64, u64)> {
    process_memory_kib(std::process::id())
}

/// Lets the most that this process has had begin anew at what it has now (`proc(5)`, `clear_refs`).
///
/// # Errors
/// When `/proc` can't be written.
pub fn forget_memory_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// Time that all processors of the machine were not idle since it started, milliseconds: of every
/// process, a database's too.
///
/// # Errors
/// When `/proc` can't be read.
pub fn machine_cpu_ms() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or("").split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq; what follows is of other machines.
    let busy = fields.take(7).enumerate();
    let busy = busy.filter(|(field, _)| !matches!(field, 3 | 4));
    let ticks: u64 = busy.filter_map(|(_, text)| text.parse::<u64>().ok()).sum();
    Ok(ticks * 10)
}

/// User and system time of children that have ended, milliseconds.
///
/// # Errors
/// When `/proc` can't be read.
pub fn children_cpu_ms() -> io::Result<u64> {
    Ok((ticks(13)? + ticks(14)?) * 10)
}

/// A time of `/proc/self/stat` in ticks of 10 ms, by its field after the name in parentheses.
fn ticks(field: usize) -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or("");
    let ticks = fields.split_whitespace().nth(field);
    Ok(ticks.and_then(|text| text.parse().ok()).unwrap_or(0))
}
