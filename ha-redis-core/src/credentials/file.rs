//! Credentials from files that change, such as mounted secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_lite::future;

use super::{Credentials, CredentialsError, CredentialsProvider};
use crate::runtime::{Timer, alarm};

/// How often the files are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a file may take to be read, for example on a network file system that is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A larger file is no password.
const MAX_BYTES: u64 = 64 << 10;

/// Credentials from files that are read again every second, as Docker, Kubernetes and secret agents provide them: one
/// file holds the password, another one may hold the user name. Line ends at the end of a file do not count.
///
/// The files are read in a separate thread. An empty file counts as an error: it is most likely being written.
#[derive(Debug)]
pub struct FileCredentials {
    password: PathBuf,
    user: User,
    last: Option<Credentials>,
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
        Self { password: password.into(), user: User::Default, last: None }
    }

    /// Sets the user name. Without it, the user is Redis's `default`.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.user = User::Named(username.into());
        self
    }

    /// Sets the file that has the user name.
    #[must_use]
    pub fn username_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.user = User::InFile(file.into());
        self
    }

    async fn read(&self) -> Result<Credentials, CredentialsError> {
        let (password, user) = (self.password.clone(), self.user.clone());
        let (result, read) = async_channel::bounded(1);
        let work = move || {
            // It fails if nobody waits any more.
            let _ = result.try_send(read_credentials(&password, &user));
        };
        thread::Builder::new().name("ha-redis-credentials".to_owned()).spawn(work)?;
        let late = async {
            wait(READ_TIMEOUT).await;
            Err(format!("reading {} takes longer than {READ_TIMEOUT:?}", self.password.display()).into())
        };
        let done =
            async { read.recv().await.unwrap_or_else(|_| Err("reading the credentials panicked".into())) };
        future::or(done, late).await
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
            wait(INTERVAL).await;
        }
    }

    fn name(&self) -> String {
        format!("the file {}", self.password.display())
    }
}

fn read_credentials(password: &Path, user: &User) -> Result<Credentials, CredentialsError> {
    let username = match user {
        User::Default => String::new(),
        User::Named(name) => name.clone(),
        User::InFile(file) => read_line(file)?,
    };
    Ok(Credentials::new(username, read_line(password)?))
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
fn read_text(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not an ordinary file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("it has more than 64 KiB")),
        false => Ok(text),
    }
}

/// Waits independently of any runtime.
pub(super) async fn wait(time: Duration) {
    let mut timer = alarm(Instant::now() + time);
    std::future::poll_fn(|cx| Timer::poll(&mut *timer, cx)).await;
}

#[cfg(test)]
mod tests {
    use std::fs;

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
}
