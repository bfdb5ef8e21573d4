//! Makes everything go wrong, and searches all that the client shows for passwords, keys and control characters.

use std::fs;
use std::panic;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ha_redis_core::{RedisConfig, RedisConfigBuilder};

use super::kit::{Kit, settings};
use super::load::Load;
use super::output::{HOSTILE, Output};
use super::scripted::Sentinels;
use super::watch::record;
use crate::server::url_encoded;
use crate::{Answer, ScriptedServer, Server, Topology};

tests![
    wrong_credentials_leak_nothing,
    missing_permissions_leak_nothing,
    tls_and_file_errors_leak_nothing,
    peers_that_repeat_passwords_leak_nothing,
    failover_leaks_nothing,
    configuration_errors_leak_nothing,
    panics_leak_nothing,
];

/// Passwords that look different in a URL and in `Debug`. Each begins with a word that looks the same everywhere.
const PASSWORD: &str = "hunter2data\"p@ss/w%rd é\\'";
const SENTINEL_PASSWORD: &str = "hunter2watch\"p@ss/w%rd é\\'";
const KEY_PASSWORD: &str = "hunter2key\"p@ss/w%rd é\\'";
const WORDS: [&str; 3] = ["hunter2data", "hunter2watch", "hunter2key"];

/// Returns the texts that must be shown nowhere: the words of the passwords, also as a list of bytes.
fn secrets() -> Vec<String> {
    let bytes = WORDS.map(|word| format!("{:?}", word.as_bytes()).trim_matches(['[', ']']).to_owned());
    WORDS.map(str::to_owned).into_iter().chain(bytes).collect()
}

/// Returns the lines of a private key.
fn lines_of_key(server: &Server) -> Vec<String> {
    let key = fs::read_to_string(server.client_key()).unwrap();
    key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

/// Adds the password, and short timeouts, since most calls fail.
fn with_password(settings: RedisConfigBuilder) -> RedisConfigBuilder {
    let (wait, silence) = (Duration::from_millis(20), Duration::from_millis(300));
    let settings = settings.failover_wait(wait).retry_attempts(1).retry_base_delay(wait / 10);
    settings.socket_timeout(silence).sentinel_socket_timeout(silence).password(PASSWORD)
}

/// Adds what a server shows to others.
fn of_server(output: &mut Output, server: &Server) {
    for query in [&["CLIENT", "LIST"][..], &["CLIENT", "INFO"], &["ACL", "LOG"], &["SLOWLOG", "GET"]] {
        output.text(format!("{:?}", server.query(query)));
    }
    output.text(server.log());
}

async fn wrong_credentials_leak_nothing(kit: Kit) {
    record();
    let mut output = Output::default();
    let server = Server::builder().password("another").start().unwrap();
    output.of_settings(&kit, with_password(settings(&server.url()))).await;
    output.of_settings(&kit, with_password(settings(&server.url()).username("nobody"))).await;
    of_server(&mut output, &server);
    let open = Server::start().unwrap();
    output.of_settings(&kit, with_password(settings(&open.url()))).await;
    let topology = Topology::builder().password("another").sentinel_password("third").start().unwrap();
    let watched = || settings(&topology.url());
    output.of_settings(&kit, with_password(watched())).await;
    output.of_settings(&kit, with_password(watched().sentinel_password(SENTINEL_PASSWORD))).await;
    output.of_settings(&kit, with_password(watched().sentinel_master_name("nosuch"))).await;
    topology.sentinels().iter().for_each(|sentinel| of_server(&mut output, sentinel));
    output.check(&secrets(), &["WRONGPASS", "invalid username-password pair", "nosuch"]);
}

async fn missing_permissions_leak_nothing(kit: Kit) {
    record();
    let mut output = Output::default();
    let quoted = crate::server::quoted(&format!(">{PASSWORD}"));
    for rules in ["~* -@all +get", "-@all", "~* &* +@all -select", "~* +@all -role -info -client -hello"] {
        let server = Server::builder().user("app", &format!("on {quoted} {rules}")).start().unwrap();
        let settings = || with_password(settings(&server.url()).username("app").client_name("billing"));
        output.of_settings(&kit, settings()).await;
        output.of_settings(&kit, settings().db(3)).await;
        of_server(&mut output, &server);
    }
    output.check(&secrets(), &["NOPERM", "ACL SETUSER"]);
}

async fn tls_and_file_errors_leak_nothing(kit: Kit) {
    record();
    let mut output = Output::default();
    let (plain, other) = (Server::start().unwrap(), Server::builder().tls().start().unwrap());
    let server = Server::builder().mutual_tls().password(PASSWORD).start().unwrap();
    let odd_file = server.folder().join("odd\u{1b}[2J\u{202e}.pem");
    fs::write(&odd_file, format!("-----BEGIN PRIVATE KEY-----\n{PASSWORD}\n-----END PRIVATE KEY-----\n"))
        .unwrap();
    let (certificate, key) = (server.client_certificate(), server.client_key());
    let tls = || with_password(settings(&server.url())).socket_connect_timeout(Duration::from_secs(1));
    for settings in [
        with_password(settings(&plain.url()).ssl(true)).socket_connect_timeout(Duration::from_millis(300)),
        with_password(settings(&format!("redis://{}", server.address()))),
        tls(),
        tls().ssl_ca_certs(other.ca_file()),
        tls().ssl_ca_certs(&key),
        tls().ssl_ca_certs(&odd_file),
        tls().ssl_ca_certs(server.folder().join(HOSTILE.replace(['\0', '\r', '\n'], ""))),
        tls().ssl_server_name("other.internal"),
        tls().ssl_certfile(&key).ssl_keyfile(&certificate),
        tls().ssl_certfile(&certificate).ssl_keyfile(&odd_file),
        tls().ssl_certfile(&certificate).ssl_keyfile(other.client_key()),
        tls().ssl_certfile(&certificate).ssl_keyfile(&key).ssl_password(KEY_PASSWORD),
        with_password(RedisConfig::builder().unix_socket(odd_file.with_extension("sock"))),
    ] {
        output.of_settings(&kit, settings).await;
    }
    let secrets = [secrets(), lines_of_key(&server), lines_of_key(&other)].concat();
    output.check(
        &secrets,
        &[
            "`ssl_ca_certs`",
            "`ssl_keyfile`",
            "`ssl_password`",
            "other.internal",
            r"odd\u{1b}[2J\u{202e}",
            "the server speaks TLS",
        ],
    );
}

async fn peers_that_repeat_passwords_leak_nothing(kit: Kit) {
    record();
    let mut output = Output::default();
    let (debug, escaped) = (format!("{PASSWORD:?}"), PASSWORD.escape_default().to_string());
    for reply in [
        format!("-ERR \u{1b}[2J\u{202e} {PASSWORD} {debug}\r\n"),
        format!("-WRONGPASS {escaped}\u{7} {PASSWORD}\r\n"),
        format!("{PASSWORD} is no RESP\r\n"),
        format!("*1\r\n{debug}\r\n"),
    ] {
        let again = reply.clone();
        let server = ScriptedServer::start_bare(move |_, _| Answer::from(reply.as_str())).unwrap();
        output.of_settings(&kit, with_password(settings(&server.url()))).await;
        let sentinel = ScriptedServer::start_bare(move |_, _| Answer::from(again.as_str())).unwrap();
        let watched =
            RedisConfig::builder().use_sentinel(true).sentinel_hosts([("127.0.0.1", sentinel.port())]);
        output.of_settings(&kit, with_password(watched.sentinel_password(SENTINEL_PASSWORD))).await;
    }
    let sentinels = Sentinels::naming(&Server::start().unwrap(), 3);
    sentinels.change_all(|replies| HOSTILE.clone_into(&mut replies.host));
    output.of_settings(&kit, with_password(sentinels.settings().sentinel_password(SENTINEL_PASSWORD))).await;
    output.check(&secrets(), &["***", r"\u{1b}[2J"]);
}

async fn failover_leaks_nothing(kit: Kit) {
    record();
    let mut output = Output::default();
    let topology = Topology::builder().tls().password(PASSWORD).sentinel_password(SENTINEL_PASSWORD);
    let topology = topology.start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let mut events = client.events();
    let load = Load::start(&kit, &client);
    load.progress(200).await;
    let new = topology.wait_for_new_master(topology.kill_master().unwrap()).unwrap();
    kit.until_master(&client, new).await;
    load.progress(200).await;
    // Two Sentinels of three are gone, so that no majority can be asked.
    topology.sentinels()[1..].iter().for_each(|sentinel| sentinel.kill().unwrap());
    of_server(&mut output, new);
    of_server(&mut output, &topology.sentinels()[0]);
    output.debug(load.finish().await);
    output.of_client(&kit, &client).await;
    output.of_events(&mut events).await;
    for file in ["cmdline", "environ"] {
        output.text(String::from_utf8_lossy(&fs::read(format!("/proc/self/{file}")).unwrap()));
    }
    output.check(&secrets(), &["FailoverReport {", "Switched {"]);
}

async fn configuration_errors_leak_nothing(_: Kit) {
    record();
    let mut output = Output::default();
    let password = url_encoded(PASSWORD);
    for url in [
        format!("redis://:{password}@h?nosuch=1"),
        format!("redis://:{PASSWORD}@h"),
        format!("redis://user:{password}@"),
        format!("redis://h:{password}"),
        format!("redis://h/{password}"),
        format!("redis://h?{password}=1"),
        format!("redis://h?pasword={password}"),
        format!("redis://h?password={password}&db={password}"),
        format!("redis+sentinel://s1,:{password}@s2/m?sentinel_password={password}&x"),
        format!("{password}@h"),
        PASSWORD.to_owned(),
    ] {
        let error = url.parse::<RedisConfig>().expect_err(&url);
        output.debug(&error);
        output.error(&error.into());
    }
    let settings = || RedisConfig::builder().password(PASSWORD).sentinel_password(SENTINEL_PASSWORD);
    for settings in [
        settings().host(format!("redis://:{PASSWORD}@h")),
        settings().max_connections(0).client_name(HOSTILE).username(HOSTILE).sentinel_master_name(HOSTILE),
        settings().use_sentinel(true).sentinel_hosts([(HOSTILE, 0)]),
        settings().ssl_ca_certs(HOSTILE).unix_socket(HOSTILE).preferred_replicas([HOSTILE]),
        settings().address_map([(HOSTILE, HOSTILE)]),
        settings().ssl_password(KEY_PASSWORD).sentinel_ssl_password(KEY_PASSWORD),
    ] {
        output.debug(&settings);
        output.error(&settings.build().unwrap_err().into());
    }
    output.check(&secrets(), &["<hidden>", "mistakes"]);
}

/// A caller that panics with what it has at hand.
async fn panics_leak_nothing(kit: Kit) {
    record();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (seen, previous) = (Arc::clone(&shown), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        seen.lock().unwrap().push(info.to_string());
        previous(info);
    }));
    let server = Server::builder().password("another").start().unwrap();
    let client = kit.client(with_password(settings(&server.url())).build().unwrap());
    let error = client.initialize().await.unwrap_err();
    let (in_task, in_thread) = (client.clone(), client.clone());
    let task = kit.spawn(async move {
        redis::cmd("GET").arg("key").exec_async(&mut in_task.connection()).await.unwrap()
    });
    let thread = thread::spawn(move || panic!("{in_thread:?} {:?} {error:?}", in_thread.config()));
    assert!(thread.join().is_err());
    kit.until("the task has panicked", || task.has_ended() && shown.lock().unwrap().len() > 1).await;
    let mut output = Output::default();
    shown.lock().unwrap().drain(..).for_each(|text| output.text(text));
    kit.within("the client still works", output.of_client(&kit, &client)).await;
    output.check(&secrets(), &["panicked at", "WRONGPASS"]);
}
