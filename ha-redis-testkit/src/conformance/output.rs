//! Everything that the client shows: errors, events, `Debug` and `Display` of its types, and logs.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};

use ha_redis_core::{Client, Error, Event, Events, PubSubEvent, RedisConfigBuilder};
use redis::{AsyncCommands, RedisError, RedisResult};

use super::kit::Kit;
use super::watch::recorded;

/// A text that a user may pass, and that breaks a line, clears a terminal and turns its neighbours around.
pub(super) const HOSTILE: &str = "a\r\n*1\r\n$8\r\nFLUSHALL\r\n\0 \"'\u{1b}[2J\u{202e}";

/// What was shown. All of it must be free of secrets.
#[derive(Default)]
pub(super) struct Output {
    /// Texts that must be on one line, without control characters.
    lines: Vec<String>,
    /// Other texts.
    texts: Vec<String>,
}

impl Output {
    pub(super) fn text(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    pub(super) fn line(&mut self, text: impl Display) {
        self.lines.push(text.to_string());
    }

    pub(super) fn debug(&mut self, value: impl Debug) {
        self.lines.push(format!("{value:?}"));
        self.texts.push(format!("{value:#?}"));
    }

    /// Adds the error, its causes, and the error of redis-rs that callers get in its place.
    pub(super) fn error(&mut self, error: &Error) {
        self.causes(error);
        self.redis_error(&RedisError::from(error.clone()));
    }

    fn redis_error(&mut self, error: &RedisError) {
        self.causes(error);
        self.debug((error.kind(), error.code(), error.detail(), error.category()));
    }

    fn causes(&mut self, error: &(dyn StdError + 'static)) {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // One line for each mistake in a configuration.
            error.to_string().lines().for_each(|line| self.line(line));
            format!("{error:#}").lines().for_each(|line| self.line(line));
            self.debug(error);
            cause = error.source();
        }
    }

    fn result<T: Debug>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                self.debug(&value);
                Some(value)
            }
            Err(error) => {
                self.error(&error);
                None
            }
        }
    }

    fn reply(&mut self, result: RedisResult<redis::Value>) {
        let Err(error) = result else { return };
        match error.code() {
            // A server's error reply is returned as it is.
            Some(_) => self.text(format!("{error} {error:?} {error:#?}")),
            None => self.redis_error(&error),
        }
    }

    /// Uses a client with these settings in every way, and adds all that it shows.
    pub(super) async fn of_settings(&mut self, kit: &Kit, settings: RedisConfigBuilder) {
        self.debug(&settings);
        let config = settings.build().unwrap();
        self.debug(&config);
        self.line(&config);
        let client = kit.client(config);
        self.of_client(kit, &client).await;
    }

    pub(super) async fn of_client(&mut self, kit: &Kit, client: &Client) {
        let mut events = client.events();
        self.result(client.initialize().await);
        self.of_calls(client).await;
        self.of_subscriber(client).await;
        if let Some(topology) = self.result(client.topology().await) {
            topology.to_string().lines().for_each(|line| self.line(line));
        }
        self.result(client.discover_master().await);
        self.result(client.discover_replicas().await);
        self.result(client.sentinel_connection().await);
        self.debug(client.health_check().await);
        self.debug((client, &events, client.config(), &kit.runtime));
        self.debug(client.close().await);
        self.of_events(&mut events).await;
    }

    /// Adds the events of a closed client.
    pub(super) async fn of_events(&mut self, events: &mut Events) {
        while let Some(event) = events.next().await {
            if let Event::Failover(report) = &event {
                self.line(report);
            }
            self.debug(event);
        }
    }

    async fn of_calls(&mut self, client: &Client) {
        let (mut redis, mut reads) = (client.connection(), client.replica_connection());
        let mut set = redis::pipe();
        set.set(HOSTILE, HOSTILE).get(HOSTILE);
        self.reply(redis.get(HOSTILE).await);
        self.reply(reads.get(HOSTILE).await);
        self.reply(set.query_async(&mut redis).await);
        self.reply(set.atomic().query_async(&mut redis).await);
        // redis-rs quotes the type that it cannot convert.
        self.reply(redis::cmd(HOSTILE).arg(HOSTILE).query_async(&mut redis).await);
        let retried = client.retry(|mut redis| async move { redis.incr(HOSTILE, 1).await }).await;
        self.reply(retried);
        if let Some(mut own) = self.result(client.dedicated().await) {
            self.reply(own.set(HOSTILE, HOSTILE).await);
        }
        self.debug((redis, reads));
    }

    async fn of_subscriber(&mut self, client: &Client) {
        let Some(mut subscriber) = self.result(client.pubsub().await) else { return };
        self.result(subscriber.subscribe(HOSTILE).await);
        self.result(subscriber.psubscribe(HOSTILE).await);
        let event = futures_lite::future::poll_once(subscriber.next()).await.flatten();
        if let Some(PubSubEvent::Disconnected(error) | PubSubEvent::Refused { error, .. }) = &event {
            self.error(error);
        }
        self.debug((event, subscriber.split()));
    }

    /// Adds what was logged. Fails if a secret was shown, if a line has a control character, or if one of the texts
    /// `expected` was not shown, since then something did not go wrong as it should.
    pub(super) fn check(mut self, secrets: &[String], expected: &[&str]) {
        for (target, text) in recorded() {
            let ours = target.starts_with("ha_redis");
            if ours { self.lines.push(text) } else { self.texts.push(text) }
        }
        for text in self.lines.iter().chain(&self.texts) {
            let lower = text.to_lowercase();
            let shown = secrets.iter().find(|secret| lower.contains(&secret.to_lowercase()));
            assert_eq!(shown, None, "{text}");
        }
        for text in expected {
            assert!(
                self.lines.iter().chain(&self.texts).any(|shown| shown.contains(text)),
                "{text} was not shown"
            );
        }
        for line in &self.lines {
            // A list of mistakes in a configuration has one on each line, which begins with the setting.
            assert!(!line.replace("\n`", "`").contains(is_control), "{line:?}");
        }
    }
}

/// Returns true for a character that moves the cursor, or that changes how its neighbours look.
fn is_control(character: char) -> bool {
    let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    character.is_control() || turns
}
