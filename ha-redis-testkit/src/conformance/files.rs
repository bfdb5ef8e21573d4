//! Files that the configuration names and that are not what it says: whoever reads them neither waits for ever nor fills
//! the memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ha_redis_core::{RedisConfig, RedisConfigBuilder};
use redis::AsyncCommands;

use super::kit::{Kit, config, peak_memory};
use crate::Server;

tests![
    a_file_that_cannot_be_read_is_an_error_that_names_it,
    every_setting_of_a_file_is_checked,
    callers_at_once_read_the_files_together,
    a_key_that_is_no_key_is_not_quoted,
];

/// Something at `path` from which nothing ever comes.
fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn with_tls() -> RedisConfigBuilder {
    RedisConfig::builder().host("127.0.0.1").port(1).ssl(true)
}

/// What is told of this configuration. The client runs on the runtime, so that the test goes on when that is blocked.
async fn told(kit: &Kit, settings: RedisConfigBuilder) -> String {
    let client = kit.client(settings.build().unwrap());
    let asked = kit.spawn(async move { client.initialize().await.unwrap_err() });
    let error = kit.within("the error about a file", asked.end()).await;
    assert!(error.is_config(), "{error}");
    error.to_string()
}

fn holds(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn a_file_that_cannot_be_read_is_an_error_that_names_it(kit: Kit) {
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
        let text = told(&kit, with_tls().ssl_ca_certs(&file)).await;
        holds(&text, &["`ssl_ca_certs`", &file.display().to_string(), why, "4 MiB"]);
    }
    assert!(peak_memory().saturating_sub(before) < 64 << 20, "as much as a file of the allowed size takes");
}

async fn every_setting_of_a_file_is_checked(kit: Kit) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    make_fifo(&fifo);
    let sentinels = || RedisConfig::builder().use_sentinel(true).sentinel_hosts([("127.0.0.1", 1)]);
    holds(
        &told(&kit, with_tls().ssl_certfile(&fifo).ssl_keyfile(&fifo)).await,
        &["`ssl_certfile`", "`ssl_keyfile`"],
    );
    let own = sentinels().sentinel_ssl(true).sentinel_ssl_ca_certs(&fifo);
    let own = own.sentinel_ssl_certfile(&fifo).sentinel_ssl_keyfile(&fifo);
    holds(
        &told(&kit, own).await,
        &["`sentinel_ssl_ca_certs`", "`sentinel_ssl_certfile`", "`sentinel_ssl_keyfile`"],
    );
    let url = format!("rediss://127.0.0.1:1?ssl_ca_certs={}", fifo.display());
    holds(&told(&kit, config(&url).to_builder()).await, &["`ssl_ca_certs`"]);
}

async fn callers_at_once_read_the_files_together(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    // None has waited for the client's start before.
    let client = kit.client(config(&server.url()));
    let callers = (0..200).map(|n| {
        let mut redis = client.connection();
        kit.spawn(async move { redis.set::<_, _, ()>(n, n).await })
    });
    kit.all(callers).await.into_iter().for_each(|set| set.unwrap());
    let late = client.connection().with_timeout(Duration::ZERO).get::<_, Option<i64>>("key").await;
    assert!(late.unwrap_err().is_timeout());
}

async fn a_key_that_is_no_key_is_not_quoted(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let key = server.folder().join("one-line.key");
    fs::write(&key, "-----BEGIN PRIVATE KEY MIIEsecretsecretsecret\n-----END PRIVATE KEY-----\n").unwrap();
    let settings = config(&server.url()).to_builder();
    let settings = settings.ssl_certfile(server.client_certificate()).ssl_keyfile(&key);
    let text = told(&kit, settings).await;
    holds(&text, &["`ssl_keyfile`", "one-line.key"]);
    assert!(!text.contains("MIIE") && !text.contains("77, 73, 73"), "{text}");
}
