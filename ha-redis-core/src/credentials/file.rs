//! Credentials from files that change, such as mounted secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use super::{Credentials, CredentialsError, CredentialsProvider};
use crate::alarm;

/// How often the files are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a file may take to be read, for example on a network file system that is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A larger file is no password.
const MAX_BYTES: usize = 64 << 10;

/// The maximum number of readings until two in a row are equal.
const MAX_READINGS: usize = 10;

/// Credentials from files that are read again every second, as Docker, Kubernetes and secret agents provide them: one
/// file holds the password, another one may hold the user name. Line ends at the end of a file do not count.
///
/// Replace both files at once, as Kubernetes does with a symbolic link to their folder. The provider reads them until
/// two readings in a row are equal, so that it never returns the old user name with the new password.
///
/// The files are read in a separate thread, which the provider keeps. While the file system does not answer, the
/// provider fails every few seconds, and starts no other thread. An empty file counts as an error: it is most likely
/// being written.
#[derive(Debug)]
pub struct FileCredentials {
    files: Files,
    reader: Option<Reader>,
    last: Option<Credentials>,
}

#[derive(Clone, Debug)]
struct Files {
    password: PathBuf,
    user: User,
}

#[derive(Clone, Debug)]
enum User {
    Default,
    Named(String),
    InFile(PathBuf),
}

impl FileCredentials {
    /// Returns a provider that reads the password from this file.
    pub fn new(password: impl Into<PathBuf>) -> Self {
        let files = Files { password: password.into(), user: User::Default };
        Self { files, reader: None, last: None }
    }

    /// Sets the user name. Without it, the user is Redis's `default`.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.files.user = User::Named(username.into());
        self
    }

    /// Sets the file that has the user name.
    #[must_use]
    pub fn username_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.user = User::InFile(file.into());
        self
    }

    async fn read(&mut self) -> Result<Credentials, CredentialsError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let files = self.files.clone();
                self.reader.insert(Reader::start(move || until_unchanged(|| files.read()))?)
            }
        };
        match alarm::timeout(READ_TIMEOUT, reader.read()).await {
            Ok(Some(result)) => result,
            Ok(None) => {
                self.reader = None;
                Err("reading the credentials panicked".into())
            }
            Err(_) => {
                let file = self.files.password.display();
                Err(format!("reading {file} takes longer than {READ_TIMEOUT:?}").into())
            }
        }
    }
}

#[async_trait]
impl CredentialsProvider for FileCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        loop {
            let credentials = self.read().await?;
            if self.last.as_ref() != Some(&credentials) {
                self.last = Some(credentials.clone());
                return Ok(credentials);
            }
            alarm::sleep(INTERVAL).await;
        }
    }

    fn name(&self) -> String {
        format!("the file {}", self.files.password.display())
    }
}

/// A thread that reads the files when it is asked, since a file system that is gone blocks it. It ends with the
/// provider.
#[derive(Debug)]
struct Reader {
    requests: Sender<()>,
    results: Receiver<Result<Credentials, CredentialsError>>,
    is_reading: bool,
}

impl Reader {
    fn start(
        mut work: impl FnMut() -> Result<Credentials, CredentialsError> + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, requested) = async_channel::bounded(1);
        let (sender, results) = async_channel::bounded(1);
        let run = move || {
            while requested.recv_blocking().is_ok() && sender.send_blocking(work()).is_ok() {}
        };
        thread::Builder::new().name("ha-redis-credentials".to_owned()).spawn(run).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start a thread to read the files: {error}"))
        })?;
        Ok(Self { requests, results, is_reading: false })
    }

    /// Waits for the running reading, or else for a new one. If the future is dropped, the next call waits for the
    /// same reading. Returns `None` if the thread panicked.
    async fn read(&mut self) -> Option<Result<Credentials, CredentialsError>> {
        if !self.is_reading {
            self.requests.try_send(()).ok()?;
            self.is_reading = true;
        }
        let result = self.results.recv().await.ok()?;
        self.is_reading = false;
        Some(result)
    }
}

/// Reads until two readings in a row are equal: the files may be replaced between reading one and the other.
fn until_unchanged(
    mut read: impl FnMut() -> Result<Credentials, CredentialsError>,
) -> Result<Credentials, CredentialsError> {
    let mut before = read()?;
    for _ in 1..MAX_READINGS {
        let credentials = read()?;
        if credentials == before {
            return Ok(credentials);
        }
        before = credentials;
    }
    Err("the user name or the password changes each time it is read".into())
}

impl Files {
    fn read(&self) -> Result<Credentials, CredentialsError> {
        let username = match &self.user {
            User::Default => String::new(),
            User::Named(name) => name.clone(),
            User::InFile(file) => read_line(file)?,
        };
        Ok(Credentials::new(username, read_line(&self.password)?))
    }
}

fn read_line(path: &Path) -> Result<String, CredentialsError> {
    let failed = |why: String| format!("cannot read {}: {why}", path.display());
    let text = read_text(path).map_err(|error| failed(error.to_string()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text.is_empty() {
        true => Err(failed("it is empty".into()).into()),
        false => Ok(text.to_owned()),
    }
}

/// Opening a FIFO would block for ever, and a device may do anything.
fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not an ordinary file"));
    }
    // A string that grows would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 1));
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    match text.len() > MAX_BYTES {
        true => Err(io::Error::other("it has more than 64 KiB")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs;
    use std::sync::mpsc;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ha-redis-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn change_of_file_is_returned() {
        let folder = folder("change");
        let (user, password) = (folder.join("user"), folder.join("password"));
        fs::write(&user, "app\n").unwrap();
        fs::write(&password, "one\r\n").unwrap();
        let mut provider = FileCredentials::new(&password).username_file(&user);
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "one"));
        fs::write(&password, "two").unwrap();
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "two"));
        assert!(block_on(poll_once(provider.next_credentials())).is_none());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn unusable_file_is_explained() {
        let folder = folder("unusable");
        let empty = folder.join("empty");
        fs::write(&empty, "\n").unwrap();
        let error =
            |path: &Path| block_on(FileCredentials::new(path).next_credentials()).unwrap_err().to_string();
        assert_eq!(error(&empty), format!("cannot read {}: it is empty", empty.display()));
        assert_eq!(error(&folder), format!("cannot read {}: it is not an ordinary file", folder.display()));
        assert_eq!(error(Path::new("/dev/zero")), "cannot read /dev/zero: it is not an ordinary file");
        let missing = folder.join("missing");
        assert!(error(&missing).starts_with(&format!("cannot read {}: No such file", missing.display())));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn hanging_file_takes_one_thread() {
        let (release, released) = mpsc::channel::<()>();
        let mut is_released = false;
        let mut reader = Reader::start(move || {
            assert!(!std::mem::replace(&mut is_released, true), "a second reading");
            released.recv().unwrap();
            Ok(Credentials::new("app", "pw"))
        });
        let reader = reader.as_mut().unwrap();
        for _ in 0..3 {
            let read = alarm::timeout(Duration::from_millis(1), reader.read());
            assert!(block_on(read).is_err());
        }
        release.send(()).unwrap();
        assert_eq!(block_on(reader.read()).unwrap().unwrap(), Credentials::new("app", "pw"));
        assert!(block_on(reader.read()).is_none(), "the thread has panicked");
    }

    #[test]
    fn thread_is_kept_until_it_panics() {
        let folder = folder("thread");
        let file = folder.join("password");
        fs::write(&file, "one").unwrap();
        let mut provider = FileCredentials::new(&file);
        provider.reader = Some(Reader::start(|| panic!("a fault of the reader")).unwrap());
        let error = block_on(provider.next_credentials()).unwrap_err();
        assert_eq!(error.to_string(), "reading the credentials panicked");
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::password_only("one"));
        let requests = provider.reader.as_ref().unwrap().requests.clone();
        fs::write(&file, "two").unwrap();
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::password_only("two"));
        assert!(provider.reader.as_ref().unwrap().requests.same_channel(&requests));
        drop(provider);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn swapped_files_are_read_again() {
        let read = |readings: &[(&str, &str)]| {
            let mut readings: VecDeque<_> =
                readings.iter().map(|(user, password)| Credentials::new(*user, *password)).collect();
            until_unchanged(|| Ok(readings.pop_front().unwrap()))
        };
        let swapped = read(&[("old", "new"), ("new", "new"), ("new", "new")]);
        assert_eq!(swapped.unwrap(), Credentials::new("new", "new"));
        let mut number = 0;
        let endless = until_unchanged(|| {
            number += 1;
            Ok(Credentials::new("app", number.to_string()))
        });
        let error = endless.unwrap_err().to_string();
        assert_eq!(error, "the user name or the password changes each time it is read");
        assert_eq!(number, MAX_READINGS);
    }
}
