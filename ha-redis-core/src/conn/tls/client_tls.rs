//! TLS of a whole client: read before its first connection, and replaced when it is reconfigured.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::application::ApplicationTls;
use super::file_reader::FileReader;
use super::files::Files;
use super::names;
use super::session::Session;
use super::source::FileSource;
use super::{Source, Tls, TlsSettings};
use crate::config::{ConfigError, Problem, RedisConfig};
use crate::error::{Error, Kind};
use crate::runtime::Runtime;
use crate::time::Elapsed;

/// TLS of one client, for both kinds of connections.
pub(crate) struct ClientTls {
    own: ApplicationTls,
    /// `None` if connections to masters and replicas are not encrypted.
    data: Option<Arc<Tls>>,
    /// `None` if connections to Sentinels are not encrypted, or there are none.
    sentinels: Option<Arc<Tls>>,
    /// Settings that contradict the configurations of the application.
    contradictions: Vec<Problem>,
    reader: FileReader<Result<(), Error>>,
    /// Reads the files of other settings.
    staging: FileReader<Result<(), Error>>,
}

/// TLS settings whose files have been read: see [`ClientTls::stage`].
pub(crate) struct StagedTls {
    data: Option<Arc<TlsSettings>>,
    sentinels: Option<Arc<TlsSettings>>,
}

impl ClientTls {
    /// Creates the TLS of a client with these settings. A configuration of the application's own is used in place of
    /// the files, and turns TLS on by itself.
    pub(crate) fn new(config: &RedisConfig, own: ApplicationTls) -> Self {
        let settings = settings_of(config, &own);
        Self {
            data: settings.data.map(|settings| Tls::new(&names::DATA, settings)),
            sentinels: settings.sentinels.map(|settings| Tls::new(&names::SENTINELS, settings)),
            contradictions: contradictions(config, &own),
            own,
            reader: FileReader::default(),
            staging: FileReader::default(),
        }
    }

    /// Returns TLS for connections to masters and replicas, if they are encrypted.
    pub(crate) fn data(&self) -> Option<Arc<Tls>> {
        self.data.clone()
    }

    /// Returns TLS for connections to Sentinels, if they are encrypted.
    #[cfg(feature = "sentinel")]
    pub(crate) fn sentinels(&self) -> Option<Arc<Tls>> {
        self.sentinels.clone()
    }

    /// Reads the files once, before the first connection, until `by` at the latest. Concurrent callers wait for the
    /// same attempt.
    ///
    /// # Errors
    /// Returns everything that is wrong with the settings and any of the files, or that they were not read in time.
    pub(crate) async fn prepare(&self, runtime: &dyn Runtime, by: Instant) -> Result<(), Error> {
        if !self.contradictions.is_empty() {
            return Err(ConfigError::new(self.contradictions.clone()).into());
        }
        let all = [&self.data, &self.sentinels].into_iter().flatten().map(|tls| tls.settings.load());
        read(&self.reader, unread(all.filter_map(|settings| settings.files())), runtime, by).await
    }

    /// Reads the files of other settings, for all of which [`install`](Self::install) then replaces the current ones.
    /// Until then, and after an error, the current ones stay in use. Configurations of the application stay as well.
    ///
    /// # Errors
    /// Returns everything that is wrong: files, settings, TLS that is turned on or off while the client runs, or that
    /// the files were not read by `by`.
    pub(crate) async fn stage(
        &self,
        config: &RedisConfig,
        runtime: &dyn Runtime,
        by: Instant,
    ) -> Result<StagedTls, Error> {
        let staged = settings_of(config, &self.own);
        let mut problems = contradictions(config, &self.own);
        problems.extend(switched("ssl", staged.data.is_some(), self.data.is_some()));
        problems.extend(switched("sentinel_ssl", staged.sentinels.is_some(), self.sentinels.is_some()));
        if !problems.is_empty() {
            return Err(ConfigError::new(problems).into());
        }
        let all = [&staged.data, &staged.sentinels].into_iter().flatten();
        // The caller lets one at a time in, so that only an attempt that has taken too long is still running.
        if self.staging.is_running() {
            let message = "the files of an earlier reconfiguration are still being read; try again later";
            return Err(Error::new(Kind::Timeout, message));
        }
        read(&self.staging, unread(all.filter_map(|settings| settings.files())), runtime, by).await?;
        Ok(staged)
    }

    /// Uses these settings for all new connections.
    pub(crate) fn install(&self, staged: StagedTls) {
        for (tls, settings) in [(&self.data, staged.data), (&self.sentinels, staged.sentinels)] {
            if let (Some(tls), Some(settings)) = (tls, settings) {
                tls.settings.store(settings);
            }
        }
    }
}

impl StagedTls {
    /// Returns TLS for a connection to the master that tries these settings.
    pub(crate) fn on_trial(&self) -> Option<Arc<Tls>> {
        self.data.as_ref().map(|settings| Tls::new(&names::DATA, Arc::clone(settings)))
    }
}

/// Returns the problem that TLS is turned on or off.
fn switched(setting: &'static str, new: bool, now: bool) -> Option<Problem> {
    let allowed = format!("{now}, as when the client was created");
    (new != now).then(|| Problem::new(setting, allowed, "create another client").found(new.to_string()))
}

/// Returns the settings of both kinds of connections. Both share what is read from the same files.
fn settings_of(config: &RedisConfig, own: &ApplicationTls) -> StagedTls {
    let data = (config.ssl() || own.data.is_some()).then(|| TlsSettings {
        server_name: config.ssl_server_name().map(str::to_owned),
        source: match &own.data {
            Some(own) => Source::Application(Session::of_application(own)),
            None => Source::Files(FileSource::new(&names::DATA, Files::of_data(config))),
        },
    });
    let sentinels = sentinel_settings(config, own, data.as_ref());
    StagedTls { data: data.map(Arc::new), sentinels: sentinels.map(Arc::new) }
}

#[cfg(feature = "sentinel")]
fn sentinel_settings(
    config: &RedisConfig,
    own: &ApplicationTls,
    data: Option<&TlsSettings>,
) -> Option<TlsSettings> {
    let inherits = own.data.is_some() && config.sentinel_ssl_if_set().is_none();
    if !config.use_sentinel() || !(config.sentinel_ssl() || own.sentinels.is_some() || inherits) {
        return None;
    }
    let files = Files::of_sentinels(config);
    let has_own_files = files != Files::of_data(config);
    let source = match (&own.sentinels, data.map(|data| &data.source)) {
        (Some(own), _) => Source::Application(Session::of_application(own)),
        (None, Some(Source::Application(session))) if !has_own_files => Source::Application(session.clone()),
        (None, Some(Source::Files(source))) if !has_own_files => Source::Files(Arc::clone(source)),
        (None, _) => Source::Files(FileSource::new(&names::SENTINELS, files)),
    };
    Some(TlsSettings { server_name: config.sentinel_ssl_server_name().map(str::to_owned), source })
}

#[cfg(not(feature = "sentinel"))]
fn sentinel_settings(_: &RedisConfig, _: &ApplicationTls, _: Option<&TlsSettings>) -> Option<TlsSettings> {
    None
}

/// Returns the settings that have no effect next to a configuration of the application.
fn contradictions(config: &RedisConfig, own: &ApplicationTls) -> Vec<Problem> {
    let default = RedisConfig::default();
    let mut problems = Vec::new();
    if own.data.is_some() {
        let plain = Files::of_data(&default);
        problems.extend(Files::of_data(config).differences(&plain, &names::DATA));
    }
    #[cfg(feature = "sentinel")]
    if own.sentinels.is_some() {
        let inherited = Files::of_data(config);
        problems.extend(Files::of_sentinels(config).differences(&inherited, &names::SENTINELS));
    }
    let allowed = "nothing next to a TlsConfig, which decides on it";
    problems
        .into_iter()
        .map(|setting| Problem::new(setting, allowed, "leave it out, or give no TlsConfig"))
        .collect()
}

/// Returns the sources that have not been read, each once.
fn unread(sources: impl Iterator<Item = Arc<FileSource>>) -> Vec<Arc<FileSource>> {
    let mut unread: Vec<Arc<FileSource>> = Vec::new();
    for source in sources.filter(|source| source.session().is_none()) {
        if !unread.iter().any(|known| Arc::ptr_eq(known, &source)) {
            unread.push(source);
        }
    }
    unread
}

async fn read(
    reader: &FileReader<Result<(), Error>>,
    sources: Vec<Arc<FileSource>>,
    runtime: &dyn Runtime,
    by: Instant,
) -> Result<(), Error> {
    if sources.is_empty() {
        return Ok(());
    }
    let list = sources.iter().map(|source| source.list()).collect::<Vec<_>>().join(", ");
    let load = move || {
        let problems = sources.iter().filter_map(|source| source.load().err()).flatten();
        let problems: Vec<Problem> = problems.collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems).into()) }
    };
    match reader.start(Box::new(load), runtime)?.end(runtime, by).await {
        Ok(read) => read?,
        Err(Elapsed) => {
            let message = format!("cannot read in time: {list}; check that their file system responds");
            Err(Error::new(Kind::Timeout, message))
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, sentinels, .. } = self;
        f.debug_struct("ClientTls").field("data", data).field("sentinels", sentinels).finish_non_exhaustive()
    }
}
