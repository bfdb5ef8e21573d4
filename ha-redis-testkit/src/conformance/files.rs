//! Tests unusual files in the configuration: reading them neither blocks for ever nor fills memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ha_redis_core::{RedisConfig, RedisConfigBuilder};
use redis::AsyncCommands;

use super::kit::{Kit, config, peak_memory, settings};
use crate::Server;

tests![
    unreadable_file_named_in_error,
    every_file_setting_checked,
    concurrent_callers_read_files_once,
    invalid_key_not_quoted,
];

/// Creates a FIFO at `path` that nobody writes to.
fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn with_tls() -> RedisConfigBuilder {
    RedisConfig::builder().host("127.0.0.1").port(1).ssl(true)
}

/// Returns the error that connecting with this configuration ends with. The client runs on the runtime, so that the
/// test continues even if the runtime is blocked.
async fn connect_error(kit: &Kit, settings: RedisConfigBuilder) -> String {
    let client = kit.client(settings.build().unwrap());
    let task = kit.spawn(async move { client.initialize().await.unwrap_err() });
    let error = kit.within("the error about a file", task.end()).await;
    assert!(error.is_config(), "{error}");
    error.to_string()
}

fn contains(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn unreadable_file_named_in_error(kit: Kit) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_fifo(&path("fifo"));
    std::os::unix::fs::symlink(path("fifo"), path("link")).unwrap();
    File::create(path("large")).unwrap().set_len(5 << 20).unwrap();
    fs::create_dir(path("folder")).unwrap();
    let before = peak_memory();
    for (file, why) in [
        (path("fifo"), "not an ordinary file"),
        (path("link"), "not an ordinary file"),
        ("/dev/zero".into(), "not an ordinary file"),
        (path("folder"), "not an ordinary file"),
        (path("large"), "5242880 bytes"),
        (path("missing"), "o such file"),
    ] {
        let text = connect_error(&kit, with_tls().ssl_ca_certs(&file)).await;
        contains(&text, &["`ssl_ca_certs`", &file.display().to_string(), why, "4 MiB"]);
    }
    assert!(
        peak_memory().saturating_sub(before) < 64 << 20,
        "at most the memory for a file of the maximum size"
    );
}

async fn every_file_setting_checked(kit: Kit) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    make_fifo(&fifo);
    let sentinels = || RedisConfig::builder().use_sentinel(true).sentinel_hosts([("127.0.0.1", 1)]);
    contains(
        &connect_error(&kit, with_tls().ssl_certfile(&fifo).ssl_keyfile(&fifo)).await,
        &["`ssl_certfile`", "`ssl_keyfile`"],
    );
    let own = sentinels().sentinel_ssl(true).sentinel_ssl_ca_certs(&fifo);
    let own = own.sentinel_ssl_certfile(&fifo).sentinel_ssl_keyfile(&fifo);
    contains(
        &connect_error(&kit, own).await,
        &["`sentinel_ssl_ca_certs`", "`sentinel_ssl_certfile`", "`sentinel_ssl_keyfile`"],
    );
    let url = format!("rediss://127.0.0.1:1?ssl_ca_certs={}", fifo.display());
    contains(&connect_error(&kit, config(&url).to_builder()).await, &["`ssl_ca_certs`"]);
}

async fn concurrent_callers_read_files_once(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    // The client has not connected before, so all callers wait for the same file reads.
    let client = kit.client(config(&server.url()));
    let callers = (0..200).map(|n| {
        let mut redis = client.connection();
        kit.spawn(async move { redis.set::<_, _, ()>(n, n).await })
    });
    kit.all(callers).await.into_iter().for_each(|set| set.unwrap());
    let late = client.connection().with_timeout(Duration::ZERO).get::<_, Option<i64>>("key").await;
    assert!(late.unwrap_err().is_timeout());
}

async fn invalid_key_not_quoted(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let key = server.folder().join("one-line.key");
    fs::write(&key, "-----BEGIN PRIVATE KEY MIIEsecretsecretsecret\n-----END PRIVATE KEY-----\n").unwrap();
    let settings = settings(&server.url());
    let settings = settings.ssl_certfile(server.client_certificate()).ssl_keyfile(&key);
    let text = connect_error(&kit, settings).await;
    contains(&text, &["`ssl_keyfile`", "one-line.key"]);
    assert!(!text.contains("MIIE") && !text.contains("77, 73, 73"), "{text}");
}
