//! What the operating system says about this process and its files.

use crate::error::{Error, ErrorKind, Result};
use std::path::Path;

/// Largest resident set of this process so far, in bytes (`VmHWM` of `/proc/self/status`); `None` where there is no such file.
pub fn peak_rss_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Resident set of this process, in bytes (`VmRSS`); `None` where it cannot be told.
pub fn rss_bytes() -> Option<u64> {
    status("VmRSS:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Checks that `file` can be written, before any work is done for it; leaves the disk as it was.
///
/// # Errors
/// `NotFound` when its directory is missing, `Io` when it cannot be written; names the directory or the file.
pub fn check_writable(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let missing = Error::new(ErrorKind::NotFound, "no such directory").in_file(folder);
        return Err(missing.advise(format!("create it before writing {}", file.display())));
    }
    let existed = file.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
    opened.map_err(|error| Error::io("write", file, error))?;
    if !existed {
        std::fs::remove_file(file).map_err(|error| Error::io("write", file, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_at_least_a_block_just_touched() {
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(super::peak_rss_bytes().unwrap() > block.len() as u64);
    }
}
