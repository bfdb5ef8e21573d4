//! Reads small files, and notices when they have changed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hash, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

/// How large a configuration file and a `.env` file may be.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// How large a file with a single value may be.
pub(crate) const MAX_SECRET: u64 = 64 << 10;

/// The contents of a file, wiped on drop.
pub(crate) type Text = Zeroizing<String>;

/// Reads files, and remembers a fingerprint of each.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    /// Its key is random, so that a fingerprint tells nothing about a secret.
    hasher: RandomState,
    seen: BTreeMap<PathBuf, Seen>,
}

/// Shows no path: a password may stand in the variable of one.
impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("files", &self.seen.len()).finish_non_exhaustive()
    }
}

/// Who names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedBy {
    Code,
    /// The variable may contain a password by mistake, so its text is a path only if there is such a file.
    Variable,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    contents: Contents,
    is_path: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    File { max_bytes: u64, fingerprint: u64 },
    Folder { fingerprint: u64 },
}

impl Disk {
    /// Reads an ordinary file in UTF-8.
    pub(crate) fn read(&mut self, path: &Path, named_by: NamedBy, max_bytes: u64) -> io::Result<Text> {
        let text = read(path, max_bytes);
        let contents = Contents::File { max_bytes, fingerprint: self.of_text(&text) };
        let is_path = named_by == NamedBy::Code || text.is_ok();
        self.seen.insert(path.to_owned(), Seen { contents, is_path });
        text
    }

    /// Returns the names of the files in a folder, sorted.
    pub(crate) fn list(&mut self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let names = list(folder);
        let contents = Contents::Folder { fingerprint: self.fingerprint(names.as_ref()) };
        self.seen.insert(folder.to_owned(), Seen { contents, is_path: true });
        names
    }

    /// Returns what has been read, with the missing files that the code names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.seen.iter().filter(|(_, seen)| seen.is_path).map(|(path, _)| path.as_path())
    }

    /// Reads everything again, and returns true if anything is different.
    pub(crate) fn has_changed(&self) -> bool {
        self.seen.iter().any(|(path, seen)| match seen.contents {
            Contents::File { max_bytes, fingerprint } => self.of_text(&read(path, max_bytes)) != fingerprint,
            Contents::Folder { fingerprint } => self.fingerprint(list(path).as_ref()) != fingerprint,
        })
    }

    fn of_text(&self, text: &io::Result<Text>) -> u64 {
        self.fingerprint(text.as_ref().map(|text| text.as_str()))
    }

    fn fingerprint(&self, contents: Result<impl Hash, &io::Error>) -> u64 {
        match contents {
            Ok(contents) => self.hasher.hash_one(contents),
            Err(error) => self.hasher.hash_one(error.to_string()),
        }
    }
}

/// Returns why a file could not be read, without the number that the system gives to it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    // The system begins its own texts with a capital, which the middle of a sentence does not have.
    match text.chars().next() {
        Some(first) if error.raw_os_error().is_some() => {
            format!("{}{}", first.to_lowercase(), &text[first.len_utf8()..])
        }
        _ => text.to_owned(),
    }
}

fn read(path: &Path, max_bytes: u64) -> io::Result<Text> {
    let metadata = fs::metadata(path)?;
    // Opening a FIFO waits for a writer.
    if !metadata.is_file() {
        return Err(io::Error::other("not an ordinary file"));
    }
    let too_large = || io::Error::other(format!("larger than {max_bytes} bytes"));
    if metadata.len() > max_bytes {
        return Err(too_large());
    }
    // With its capacity from the start, the text is not moved, and leaves no copy behind.
    let capacity = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    File::open(path)?.take(max_bytes + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => io::Error::other("not UTF-8"),
        _ => error,
    })?;
    if text.len() as u64 > max_bytes {
        return Err(too_large());
    }
    Ok(text)
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| !path.as_ref().is_ok_and(|path| path.is_dir()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
