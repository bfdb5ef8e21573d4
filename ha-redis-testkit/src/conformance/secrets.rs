//! Tests that no error contains a password, and that the client sends a password only to ports that have proved
//! their identity.

use std::error::Error as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ha_redis_core::{Error, Event, RedisConfig};
use redis::AsyncCommands;

use super::kit::{Kit, config, settings};
use super::scripted::Sentinels;
use crate::{Answer, ScriptedServer, Server};

tests![
    password_repeated_by_server_not_in_error,
    password_repeated_by_real_server_not_in_error,
    password_repeated_by_sentinel_not_in_error,
    echo_port_rejected,
    plain_port_gets_no_password,
    plain_port_replying_ok_gets_no_password,
    plain_sentinels_lead_to_no_plain_server,
];

const PASSWORD: &str = "hunter2secret";

/// Returns the text of the error and all of its causes.
fn full_error_text(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("{error} {error:?}"));
        cause = error.source();
    }
    text
}

fn holds_no_password(error: &Error) {
    let text = full_error_text(error);
    assert!(!text.contains(PASSWORD), "{text}");
}

/// Checks every error about a connection that cannot be made.
async fn check_errors(kit: &Kit, settings: RedisConfig) -> Error {
    let client = kit.client(settings);
    let mut events = client.events();
    let error = client.initialize().await.unwrap_err();
    holds_no_password(&error);
    holds_no_password(&client.dedicated().await.unwrap_err());
    holds_no_password(&client.pubsub().await.map(drop).unwrap_err());
    holds_no_password(&client.topology().await.unwrap_err());
    let call = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(!format!("{call} {call:?}").contains(PASSWORD), "{call}");
    let health = client.health_check().await;
    assert!(!format!("{health:?} {client:?}").contains(PASSWORD), "{health:?}");
    client.close().await;
    while let Some(event) = events.next().await {
        assert!(!format!("{event:?}").contains(PASSWORD) && !matches!(event, Event::Connected { .. }));
    }
    error
}

fn short(settings: ha_redis_core::RedisConfigBuilder) -> RedisConfig {
    let short = Duration::from_millis(500);
    settings.password(PASSWORD).failover_wait(short).socket_timeout(short).build().unwrap()
}

async fn password_repeated_by_server_not_in_error(kit: Kit) {
    for refusal in [
        "-ERR invalid password 'hunter2secret'\r\n",
        "-WRONGPASS hunter2secret is wrong\r\n",
        "-hunter2secret\r\n",
        "-LOADING hunter2secret\r\n",
        "-DENIED hunter2secret\r\n",
        "hunter2secret is no RESP\r\n",
    ] {
        let server = ScriptedServer::start_bare(move |_, _| Answer::from(refusal)).unwrap();
        let error = check_errors(&kit, short(settings(&server.url()))).await;
        assert!(error.to_string().contains("***"), "{error}");
    }
}

/// Redis's error for an unknown command quotes the arguments.
async fn password_repeated_by_real_server_not_in_error(kit: Kit) {
    let without = ["rename-command AUTH \"\"", "rename-command HELLO \"\""];
    let server = Server::builder().config(without[0]).config(without[1]).start().unwrap();
    let error = check_errors(&kit, short(settings(&server.url()))).await;
    assert!(error.to_string().contains("***"), "{error}");
}

async fn password_repeated_by_sentinel_not_in_error(kit: Kit) {
    let answer = "-ERR invalid password 'hunter2secret'\r\n";
    let sentinel = ScriptedServer::start_bare(move |_, _| Answer::from(answer)).unwrap();
    let hosts = [("127.0.0.1", sentinel.port())];
    let sentinels = || RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts);
    check_errors(&kit, short(sentinels().sentinel_password(PASSWORD))).await;
    // A server may know the password of the Sentinels, and the other way round.
    check_errors(&kit, short(sentinels().sentinel_password("another"))).await;
}

/// A port that records what it receives and answers every connection in one way.
struct Port {
    address: SocketAddr,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Port {
    fn listen(answer: fn(&mut TcpStream, &[u8])) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&got);
        // The thread ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, keep) = (stream.unwrap(), Arc::clone(&keep));
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        keep.lock().unwrap().extend(&buffer[..read]);
                        answer(&mut stream, &buffer[..read]);
                    }
                });
            }
        });
        Self { address, got }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    fn has_received(&self, text: &str) -> bool {
        self.got.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn is_contacted(&self) -> bool {
        !self.got.lock().unwrap().is_empty()
    }
}

async fn echo_port_rejected(kit: Kit) {
    let echo = Port::listen(|stream, bytes| _ = stream.write_all(bytes));
    let client = kit.client(short(settings(&echo.url())));
    // The port's output may be accepted as replies. The test only requires that the password is not sent.
    if let Err(error) = client.initialize().await {
        holds_no_password(&error);
    }
}

async fn refused_without_password(kit: &Kit, port: &Port, settings: RedisConfig) {
    let error = kit.connect(settings).await.unwrap_err();
    assert!(port.is_contacted(), "{error}");
    assert!(!port.has_received(PASSWORD) && !port.has_received("AUTH"), "{error}");
}

async fn plain_port_gets_no_password(kit: Kit) {
    for answer in [
        |_: &mut TcpStream, _: &[u8]| (),
        |stream: &mut TcpStream, bytes: &[u8]| {
            _ = stream.write_all(bytes);
        },
    ] {
        let port = Port::listen(answer);
        let config = short(settings(&port.url()).ssl(true));
        refused_without_password(&kit, &port, config).await;
    }
}

async fn plain_port_replying_ok_gets_no_password(kit: Kit) {
    let port = Port::listen(|stream, _| _ = stream.write_all(b"+OK\r\n+OK\r\n+PONG\r\n"));
    refused_without_password(&kit, &port, short(settings(&port.url()).ssl(true))).await;
}

async fn plain_sentinels_lead_to_no_plain_server(kit: Kit) {
    let server = Server::builder().tls().password(PASSWORD).start().unwrap();
    let sentinels = Sentinels::naming(&server, 3);
    let encrypted = || {
        let settings = sentinels.settings().ssl(true).sentinel_ssl(false).password(PASSWORD);
        settings.ssl_ca_certs(server.ca_file())
    };
    let client = kit.connect(encrypted().build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("1"));
    client.close().await;

    // All Sentinels name another server, as an attacker in the network could make them do.
    let unlisted = Port::listen(|stream, _| _ = stream.write_all(b"+OK\r\n+OK\r\n+PONG\r\n"));
    (0..3).for_each(|number| {
        sentinels.change(number, |replies| replies.master = Some(unlisted.address.port()))
    });
    refused_without_password(&kit, &unlisted, short(encrypted())).await;

    // A server with a certificate of an untrusted authority is refused as well.
    let other = Server::builder().tls().start().unwrap();
    (0..3).for_each(|number| sentinels.change(number, |replies| replies.master = Some(other.port())));
    let error = kit.connect(short(encrypted())).await.unwrap_err().to_string();
    assert!(error.contains("`ssl_ca_certs`"), "{error}");
    assert_eq!(config(&other.url()).password(), None);
    assert_eq!(super::kit::calls(&other, "auth") + super::kit::calls(&other, "hello"), 0);
}
