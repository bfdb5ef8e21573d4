//! Reads the files, and reads them again when they change.
//!
//! The authorities are one unit, and the client's certificate and key another: each is taken as soon as all of it is
//! valid, and otherwise what was read before stays in use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;

use super::authorities;
use super::certificate::Validity;
use super::file_reader::FileReader;
use super::files::{self, Content, Files};
use super::identity::{self, Identity};
use super::names::Names;
use super::session::Session;
use crate::config::{ConfigError, Problem, cut};
use crate::peer_text::escaped;
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock};

/// A certificate of the client that ends within this time is reported.
const EXPIRY_NOTICE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often that is reported.
const NOTICE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Files, and the TLS configuration that was read from them.
pub(super) struct FileSource {
    names: &'static Names,
    files: Files,
    /// What new connections use; `None` until everything was valid once.
    session: Mutex<Option<Session>>,
    /// What the session was built from. It is locked while files are read, so only by threads that may block.
    parts: Mutex<Option<Parts>>,
    reader: FileReader<()>,
}

struct Parts {
    /// `None` if certificates are not verified.
    authorities: Option<Unit<Arc<RootCertStore>>>,
    /// `None` if the client has no certificate.
    identity: Option<Unit<Identity>>,
    /// When the end of the certificate was reported.
    expiry_noticed_at: Option<SystemTime>,
}

/// What was read from files that are valid only together.
struct Unit<T> {
    fingerprint: u64,
    value: T,
    /// Why the files as they are now were not taken.
    refused: Option<String>,
}

impl FileSource {
    pub(super) fn new(names: &'static Names, files: Files) -> Arc<Self> {
        let (session, parts) = (Mutex::new(None), Mutex::new(None));
        Arc::new(Self { names, files, session, parts, reader: FileReader::default() })
    }

    /// Returns the configuration for new connections; `None` before it was read for the first time.
    pub(super) fn session(&self) -> Option<Session> {
        lock(&self.session).clone()
    }

    /// Returns the files with their settings.
    pub(super) fn list(&self) -> String {
        self.files.list(self.names)
    }

    /// Reads everything. May block.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files.
    pub(super) fn load(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let authorities = self.authorities_content().map(|content| self.read_authorities(&content));
        let authorities = authorities.transpose().map_err(|problem| problems.extend(problem)).ok();
        let identity = self.identity_content().map(|contents| self.read_identity(&contents));
        let identity = identity.transpose().map_err(|found| problems.extend(found)).ok();
        let (Some(authorities), Some(identity)) = (authorities, identity) else { return Err(problems) };
        let mut parts = Parts { authorities, identity, expiry_noticed_at: None };
        let session = self.build(&parts).map_err(|problem| vec![problem])?;
        parts.warn_of_expiry(&self.files, self.names);
        if self.files.accepts_invalid_certs {
            let setting = self.names.danger_accept_invalid_certs;
            tracing::warn!(
                files = self.list(),
                "{setting} = true: certificates of servers are not verified, so anyone on the network can impersonate \
                 them; use it for development only"
            );
        }
        *lock(&self.parts) = Some(parts);
        *lock(&self.session) = Some(session);
        Ok(())
    }

    /// Looks at the files, on a thread of its own, and waits for that: at most for `max_wait` after the look began. A
    /// file system that does not respond takes one thread, and delays connections once.
    pub(super) async fn look(self: &Arc<Self>, runtime: &dyn Runtime, max_wait: Duration) {
        if self.authorities_file().is_none() && self.files.identity.is_none() {
            return;
        }
        let asked_at = runtime.now();
        loop {
            let source = Arc::clone(self);
            let look = match self.reader.start(Box::new(move || source.reload()), runtime) {
                Ok(look) => look,
                Err(error) => {
                    tracing::warn!(%error, "cannot look whether the files of TLS have changed");
                    return;
                }
            };
            let by = look.started_at + max_wait;
            if look.end(runtime, by).await.is_err() {
                if look.is_first_report() {
                    tracing::warn!(
                        files = self.list(),
                        "the files of TLS cannot be read in time; what was read before stays in use; check that their \
                         file system responds"
                    );
                }
                return;
            }
            // A look that had begun earlier may have missed the latest change.
            if look.started_at >= asked_at {
                return;
            }
        }
    }

    /// Begins a look that does not end before it is released.
    #[cfg(test)]
    pub(super) fn hang_until(&self, released: std::sync::mpsc::Receiver<()>, runtime: &dyn Runtime) {
        let hang = move || released.recv().unwrap_or_default();
        self.reader.start(Box::new(hang), runtime).expect("a thread");
    }

    /// Takes what has changed and is valid. May block.
    fn reload(&self) {
        let (authorities, identity) = (self.authorities_content(), self.identity_content());
        let mut locked = lock(&self.parts);
        let Some(parts) = locked.as_mut() else { return };
        let mut changed = false;
        if let (Some(unit), Some(content)) = (&mut parts.authorities, authorities) {
            changed |= unit.update(fingerprint(&[&content]), || self.read_authorities(&content));
        }
        if let (Some(unit), Some(contents)) = (&mut parts.identity, identity) {
            let [certificate, key] = &contents;
            changed |= unit.update(fingerprint(&[certificate, key]), || self.read_identity(&contents));
        }
        if changed {
            match self.build(parts) {
                Ok(session) => {
                    tracing::info!(files = self.list(), "new connections use the changed files of TLS");
                    *lock(&self.session) = Some(session);
                }
                Err(problem) => tracing::warn!(%problem, "cannot use the changed files of TLS"),
            }
        }
        parts.warn_of_expiry(&self.files, self.names);
    }

    fn build(&self, parts: &Parts) -> Result<Session, Problem> {
        let authorities = parts.authorities.as_ref().map(|unit| Arc::clone(&unit.value));
        let identity = parts.identity.as_ref().map(|unit| &unit.value);
        Session::new(&self.files, self.names, authorities, identity)
    }

    /// Returns the content of the file of authorities, an empty one for those of the system, or `None` if they are not
    /// needed.
    fn authorities_content(&self) -> Option<Content> {
        let needed = !self.files.accepts_invalid_certs;
        needed.then(|| self.authorities_file().map_or(Ok(Vec::new()), files::content))
    }

    fn authorities_file(&self) -> Option<&Path> {
        self.files.ca_certs.as_deref().filter(|_| !self.files.accepts_invalid_certs)
    }

    fn read_authorities(&self, content: &Content) -> Result<Unit<Arc<RootCertStore>>, Vec<Problem>> {
        let roots = match &self.files.ca_certs {
            Some(file) => authorities::given(file, content, self.names),
            None => authorities::of_system(self.names),
        };
        roots.map(|roots| Unit::new(fingerprint(&[content]), roots)).map_err(|problem| vec![problem])
    }

    /// Returns the contents of the client's certificate and of its key.
    fn identity_content(&self) -> Option<[Content; 2]> {
        let files = self.files.identity.as_ref()?;
        Some([files::content(&files.certfile), files::content(&files.keyfile)])
    }

    fn read_identity(&self, [certificate, key]: &[Content; 2]) -> Result<Unit<Identity>, Vec<Problem>> {
        let Some(files) = &self.files.identity else { return Err(Vec::new()) };
        let identity = identity::read(files, certificate, key, self.names, SystemTime::now())?;
        Ok(Unit::new(fingerprint(&[certificate, key]), identity))
    }
}

impl<T> Unit<T> {
    fn new(fingerprint: u64, value: T) -> Self {
        Self { fingerprint, value, refused: None }
    }

    /// Takes what the files hold now if it is new and valid. Returns true if it was taken. What is refused is read
    /// again each time, because it may become valid without a change of the files, and is reported once.
    fn update(&mut self, fingerprint: u64, read: impl FnOnce() -> Result<Self, Vec<Problem>>) -> bool {
        if fingerprint == self.fingerprint {
            self.refused = None;
            return false;
        }
        match read() {
            Ok(unit) => {
                *self = unit;
                true
            }
            Err(problems) => {
                let why = ConfigError::new(problems).to_string();
                if self.refused.as_ref() != Some(&why) {
                    tracing::warn!(
                        %why,
                        "the changed files of TLS are not valid; what was read before stays in use"
                    );
                    self.refused = Some(why);
                }
                false
            }
        }
    }
}

impl Parts {
    /// Warns once a day while the client's certificate is about to end.
    fn warn_of_expiry(&mut self, files: &Files, names: &Names) {
        let certificate = self.identity.as_ref().and_then(|unit| unit.value.certificate.as_ref());
        let (Some(certificate), Some(files)) = (certificate, &files.identity) else { return };
        let now = SystemTime::now();
        let was_noticed = self.expiry_noticed_at.is_some_and(|noticed_at| {
            now.duration_since(noticed_at).is_ok_and(|since| since < NOTICE_INTERVAL)
        });
        let end = match certificate.validity(now) {
            Validity::Now { left, until } if left < EXPIRY_NOTICE => format!("expires on {until}"),
            Validity::Expired { on } => format!("expired on {on}"),
            _ => return,
        };
        if !was_noticed {
            tracing::warn!(
                "`{}` {}: the client's certificate {} {end}; renew it",
                names.certfile,
                escaped(&cut(&files.certfile.display().to_string())),
                certificate.subject
            );
            self.expiry_noticed_at = Some(now);
        }
    }
}

/// Returns a number that tells contents apart. It is kept in place of the key.
fn fingerprint(contents: &[&Content]) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}
