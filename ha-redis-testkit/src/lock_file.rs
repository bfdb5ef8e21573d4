//! A lock between processes, which leaves no file behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// How often the lock is tried when its file or folder was removed by the last owner in between.
const ATTEMPTS: usize = 1_000;

/// A lock on a file. It ends with the process, or when this value is dropped, which removes the file, and its folder if
/// that is empty. A process that is killed leaves them.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock. Returns `None` if it is taken. Creates the file, and its folder, if they are missing.
    ///
    /// # Errors
    ///
    /// The system's error if the file cannot be opened.
    pub fn try_take(path: impl Into<PathBuf>) -> io::Result<Option<Self>> {
        let path = path.into();
        let mut removed = None;
        for _ in 0..ATTEMPTS {
            let file = match open(&path) {
                // The folder was removed after it was found, or before the file was made.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) =>
                {
                    removed = Some(error);
                    continue;
                }
                opened => opened?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
                // The last owner may have removed this file after it was opened.
                Ok(()) if !is_at(&file, &path)? => {}
                Ok(()) => return Ok(Some(Self { file, path })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        // Somebody else takes and drops it all the time, unless the folder cannot be made.
        removed.map_or(Ok(None), Err)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed under the lock, and only if it is this file. Another user's cannot be removed, and then it stays.
        if is_at(&self.file, &self.path).unwrap_or(false) && fs::remove_file(&self.path).is_ok() {
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A file of another user may be readable only.
    File::open(path).or_else(|_| OpenOptions::new().create(true).truncate(false).write(true).open(path))
}

/// Returns true if the path leads to this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_owner_at_a_time_and_no_file_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/lock");
        let (owners, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::Relaxed) < 500 {
                        let Some(lock) = LockFile::try_take(&path).unwrap() else {
                            thread::yield_now();
                            continue;
                        };
                        assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "the only owner");
                        // Gives a second owner the time to be seen.
                        thread::yield_now();
                        taken.fetch_add(1, Ordering::Relaxed);
                        owners.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!path.parent().unwrap().exists());
        assert!(folder.path().exists());
    }
}
