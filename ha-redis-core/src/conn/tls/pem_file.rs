//! Reading a file of a setting: a regular one of limited size.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// Larger files are refused. All certificate authorities of a system take a quarter of a megabyte.
const MAX_BYTES: u64 = 4 << 20;

/// What is allowed, for errors.
pub(super) const ORDINARY: &str = "an ordinary file of at most 4 MiB";

/// Reads the file at `path`.
///
/// Opening a FIFO blocks, and a device may do anything: neither is opened. The file at the path may be replaced
/// before it is opened, so this is called where blocking does no harm.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(&path.metadata()?)?;
    read_opened(File::open(path)?)
}

/// Returns an error if there is a file at `path` that must not be opened.
pub(super) fn check_if_exists(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        metadata => check(&metadata?),
    }
}

/// Reads an open file. It may be another one than the one that was checked, and it may grow while it is read.
fn read_opened(file: File) -> io::Result<Vec<u8>> {
    check(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64)?;
    Ok(bytes)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "it is a directory, not" } else { "it is not" };
        return Err(io::Error::other(format!("{what} an ordinary file")));
    }
    check_size(metadata.len())
}

fn check_size(bytes: u64) -> io::Result<()> {
    match bytes > MAX_BYTES {
        true => Err(io::Error::other(format!("it has {bytes} bytes or more"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_file_is_read() {
        let this = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/conn/tls/pem_file.rs"));
        assert!(read(this).unwrap().starts_with(b"//! Reading a file"));
        assert!(check_if_exists(this).is_ok() && check_if_exists(Path::new("/nowhere/at/all")).is_ok());
    }

    #[test]
    fn replaced_file_is_refused() {
        for path in ["/dev/zero", "/"] {
            let refused = read_opened(File::open(path).unwrap()).unwrap_err();
            assert!(refused.to_string().ends_with("an ordinary file"), "{refused}");
        }
        // Files in /proc report no size.
        assert!(read(Path::new("/proc/self/status")).is_ok());
    }

    #[test]
    fn size_is_limited() {
        assert!(check_size(MAX_BYTES).is_ok());
        assert!(check_size(MAX_BYTES + 1).unwrap_err().to_string().contains("4194305 bytes"));
    }
}
