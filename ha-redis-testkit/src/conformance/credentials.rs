//! Tests credentials that change while the client runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use ha_redis_core::{
    Client, ClientOptions, Credentials, CredentialsError, CredentialsProvider, Event, Events,
    FileCredentials, PubSub, PubSubEvent, RedisConfig, RedisConfigBuilder,
};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, config, settings};
use super::load::{Load, none_failed};
use crate::{Server, Topology};

tests![
    new_user_takes_over_live_connections,
    new_user_takes_over_after_failover,
    sentinels_get_new_user,
    rotated_password_file_fails_no_call,
    thousand_rotations_leave_nothing_behind,
    transaction_is_not_interrupted,
    refused_credentials_are_retried,
    connections_in_demand_log_in,
    former_password_serves_until_the_new_one_is_known,
    failing_provider_keeps_last_credentials,
    silent_provider_blocks_no_call_for_ever,
    login_errors_name_user_and_origin,
];

/// Credentials that the test announces.
#[derive(Debug)]
struct Announced(Receiver<Result<Credentials, String>>);

#[async_trait]
impl CredentialsProvider for Announced {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        match self.0.recv().await {
            Ok(announced) => Ok(announced?),
            Err(_) => std::future::pending().await,
        }
    }

    fn name(&self) -> String {
        "the test".to_owned()
    }
}

pub(super) type Announcer = Sender<Result<Credentials, String>>;

fn announced() -> (Announcer, Announced) {
    let (announcer, announced) = async_channel::unbounded();
    (announcer, Announced(announced))
}

pub(super) fn announce(announcer: &Announcer, user: &str, password: &str) {
    announcer.try_send(Ok(Credentials::new(user, password))).unwrap();
}

/// Returns a client that has not connected yet, and logs in as this user until another one is announced.
pub(super) fn client_as(
    kit: &Kit,
    settings: RedisConfigBuilder,
    user: &str,
    password: &str,
) -> (Announcer, Client) {
    let (announcer, provider) = announced();
    announce(&announcer, user, password);
    let options = ClientOptions::new().credentials(provider);
    let config = named(settings.build().unwrap());
    (announcer, Client::with_options(config, kit.runtime.clone(), options))
}

pub(super) fn add_user(server: &Server, user: &str, password: &str) {
    let rules = ["ACL", "SETUSER", user, "on", &format!(">{password}"), "~*", "&*", "+@all"];
    server.query(&rules).unwrap();
}

/// Returns the user of each connection of the client, by the connection's ID.
pub(super) fn users(server: &Server) -> BTreeMap<u64, String> {
    let list = server.query(&["CLIENT", "LIST"]).unwrap();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let lines = list.text().unwrap().lines().filter(|line| line.contains(" name=app "));
    lines.map(|line| (field(line, "id").unwrap().parse().unwrap(), field(line, "user").unwrap())).collect()
}

pub(super) async fn until_all_are(kit: &Kit, server: &Server, user: &str) {
    let are_all = || users(server).values().all(|name| name == user);
    kit.until(&format!("all connections are of the user {user}: {:?}", users(server)), are_all).await;
}

pub(super) fn named(config: RedisConfig) -> RedisConfig {
    config.to_builder().client_name("app").failover_wait(BOUND).build().unwrap()
}

pub(super) async fn subscribed(client: &Client) -> PubSub {
    let subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    subscriber
}

/// Publishes a message, and expects it to be the next event.
pub(super) async fn check_subscriber(kit: &Kit, subscriber: &mut PubSub, server: &Server, text: &str) {
    server.query(&["PUBLISH", "news", text]).unwrap();
    match kit.within("a message", subscriber.next()).await {
        Some(PubSubEvent::Message(message)) => assert_eq!(message.get_payload::<String>().unwrap(), text),
        other => panic!("{other:?}"),
    }
}

async fn new_user_takes_over_live_connections(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app-1", "first");
    let (announcer, client) =
        client_as(&kit, settings(&server.url()).shared_connections(3), "app-1", "first");
    client.initialize().await.unwrap();
    let mut subscriber = subscribed(&client).await;
    check_subscriber(&kit, &mut subscriber, &server, "before").await;
    let (mut lent, idle) = (client.dedicated().await.unwrap(), client.dedicated().await.unwrap());
    lent.set::<_, _, ()>("lent", 1).await.unwrap();
    drop(idle);
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    let before = users(&server);
    assert!(before.len() >= 6 && before.values().all(|user| user == "app-1"), "{before:?}");

    add_user(&server, "app-2", "second");
    announce(&announcer, "app-2", "second");
    kit.until("only the connection that is lent has not logged in again", || {
        users(&server).values().filter(|user| *user == "app-1").count() == 1
    })
    .await;
    lent.set::<_, _, ()>("lent", 2).await.unwrap();
    drop(lent);
    until_all_are(&kit, &server, "app-2").await;
    // The server ends the connections of a user that is deleted.
    server.query(&["ACL", "DELUSER", "app-1"]).unwrap();
    load.progress(100).await;
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
    assert_eq!(users(&server).into_keys().collect::<Vec<_>>(), before.into_keys().collect::<Vec<_>>());
    none_failed(&load.finish().await);
}

async fn new_user_takes_over_after_failover(kit: Kit) {
    let topology = Topology::start().unwrap();
    topology.servers().iter().for_each(|server| add_user(server, "app-1", "first"));
    let (announcer, provider) = announced();
    announce(&announcer, "app-1", "first");
    let options = ClientOptions::new().credentials(provider);
    let client = Client::with_options(named(config(&topology.url())), kit.runtime.clone(), options);
    client.initialize().await.unwrap();
    client.replica_connection().get::<_, Option<String>>("key").await.unwrap();
    let mut subscriber = subscribed(&client).await;
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    topology.servers().iter().for_each(|server| add_user(server, "app-2", "second"));
    announce(&announcer, "app-2", "second");
    for server in topology.servers() {
        until_all_are(&kit, server, "app-2").await;
        server.query(&["ACL", "DELUSER", "app-1"]).unwrap();
    }
    check_subscriber(&kit, &mut subscriber, topology.master().unwrap(), "before the failover").await;
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    load.progress(100).await;
    none_failed(&load.finish().await);
}

async fn sentinels_get_new_user(kit: Kit) {
    let topology = Topology::start().unwrap();
    topology.sentinels().iter().for_each(|sentinel| add_user(sentinel, "watch-1", "first"));
    let (announcer, provider) = announced();
    announce(&announcer, "watch-1", "first");
    let options = ClientOptions::new().sentinel_credentials(provider);
    let client = Client::with_options(named(config(&topology.url())), kit.runtime.clone(), options);
    client.initialize().await.unwrap();
    let mut own = client.sentinel_connection().await.unwrap();
    topology.sentinels().iter().for_each(|sentinel| add_user(sentinel, "watch-2", "second"));
    announce(&announcer, "watch-2", "second");
    let ask = redis::cmd("SENTINEL").arg("CKQUORUM").arg(topology.master_name()).take();
    for sentinel in topology.sentinels() {
        kit.until("both connections of the Sentinel exist", || users(sentinel).len() >= 2).await;
    }
    // The caller's own connection logs in again at its next use.
    for sentinel in topology.sentinels() {
        kit.until("the client's connections log in again", || {
            users(sentinel).values().filter(|user| *user == "watch-1").count() <= 1
        })
        .await;
    }
    own.request(&ask).await.unwrap().extract_error().unwrap();
    for sentinel in topology.sentinels() {
        until_all_are(&kit, sentinel, "watch-2").await;
        sentinel.query(&["ACL", "DELUSER", "watch-1"]).unwrap();
    }
    let old = topology.planned_failover().unwrap();
    kit.until_master(&client, topology.wait_for_new_master(old).unwrap()).await;
}

/// The way of most operators: one user with two passwords for a while.
async fn rotated_password_file_fails_no_call(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app", "old");
    let file = server.folder().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let options = ClientOptions::new().credentials(FileCredentials::new(&file).username("app"));
    let config = named(settings(&server.url()).build().unwrap());
    let client = Client::with_options(config, kit.runtime.clone(), options);
    client.initialize().await.unwrap();
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    let connections = users(&server).into_keys().collect::<Vec<_>>();
    server.query(&["ACL", "SETUSER", "app", ">new"]).unwrap();
    let logins = super::kit::calls(&server, "auth");
    std::fs::write(&file, "new\n").unwrap();
    kit.until("the client logs in again", || super::kit::calls(&server, "auth") > logins).await;
    server.query(&["ACL", "SETUSER", "app", "<old"]).unwrap();
    load.progress(100).await;
    assert_eq!(users(&server).into_keys().collect::<Vec<_>>(), connections);
    none_failed(&load.finish().await);
    // New connections use the new password.
    let mut own = client.dedicated().await.unwrap();
    own.get::<_, Option<String>>("key").await.unwrap();
}

async fn thousand_rotations_leave_nothing_behind(kit: Kit) {
    const ROTATIONS: usize = 1_000;
    let server = Server::start().unwrap();
    (0..2).for_each(|number| add_user(&server, &format!("app-{number}"), "password"));
    let (announcer, client) = client_as(&kit, settings(&server.url()), "app-0", "password");
    client.initialize().await.unwrap();
    let mut subscriber = subscribed(&client).await;
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    let before = users(&server).into_keys().collect::<Vec<_>>();
    let logins = super::kit::calls(&server, "auth");
    for rotation in 1..=ROTATIONS {
        announce(&announcer, &format!("app-{}", rotation % 2), "password");
    }
    // The last one is of a third user.
    add_user(&server, "app-last", "password");
    announce(&announcer, "app-last", "password");
    until_all_are(&kit, &server, "app-last").await;
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
    assert_eq!(users(&server).into_keys().collect::<Vec<_>>(), before);
    let logins = super::kit::calls(&server, "auth") - logins;
    assert!(logins >= ROTATIONS as u64, "{logins} logins");
    none_failed(&load.finish().await);
}

async fn transaction_is_not_interrupted(kit: Kit) {
    let server = Server::start().unwrap();
    (1..=2).for_each(|number| add_user(&server, &format!("app-{number}"), "password"));
    let (announcer, client) = client_as(&kit, settings(&server.url()), "app-1", "password");
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("MULTI").exec_async(&mut own).await.unwrap();
    redis::cmd("INCR").arg("n").exec_async(&mut own).await.unwrap();
    announce(&announcer, "app-2", "password");
    kit.until("the shared connection logs in again", || users(&server).values().any(|user| user == "app-2"))
        .await;
    redis::cmd("INCR").arg("n").exec_async(&mut own).await.unwrap();
    let replies: Vec<i64> = redis::cmd("EXEC").query_async(&mut own).await.unwrap();
    assert_eq!(replies, [1, 2]);
}

async fn refused_credentials_are_retried(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app", "old");
    let (announcer, client) = client_as(&kit, settings(&server.url()), "app", "old");
    client.initialize().await.unwrap();
    let mut events = client.events();
    announce(&announcer, "app", "zulu-4711");
    let why = next(&kit, &mut events, |event| match event {
        Event::LoginRefused { why, .. } => Some(why.to_string()),
        _ => None,
    })
    .await;
    let expected = format!(
        "127.0.0.1:{} refused the new credentials (user app, from the test): WRONGPASS invalid username-password pair \
         or user is disabled.; its connections stay logged in as before",
        server.port()
    );
    assert!(why.starts_with(&expected), "{why}");
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    let logins = super::kit::calls(&server, "auth");
    server.query(&["ACL", "SETUSER", "app", ">zulu-4711"]).unwrap();
    kit.until("the client tries again", || super::kit::calls(&server, "auth") > logins).await;
}

async fn failing_provider_keeps_last_credentials(kit: Kit) {
    let server = Server::builder().user("app", "on >password ~* &* +@all").start().unwrap();
    let (announcer, client) = client_as(&kit, settings(&server.url()), "app", "password");
    client.initialize().await.unwrap();
    let mut events = client.events();
    (0..3).for_each(|_| announcer.try_send(Err("the vault is sealed: password".into())).unwrap());
    let why = next(&kit, &mut events, |event| match event {
        Event::CredentialsFailed { why } => Some(why.to_string()),
        _ => None,
    })
    .await;
    let expected = "the test has failed: the vault is sealed: ***; the last credentials stay in use";
    assert!(why.starts_with(expected), "{why}");
    // Also on a new connection.
    client.dedicated().await.unwrap().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn silent_provider_blocks_no_call_for_ever(kit: Kit) {
    let server = Server::start().unwrap();
    let (announcer, provider) = announced();
    let config = settings(&server.url()).socket_connect_timeout(Duration::from_millis(100));
    let config = config.failover_wait(Duration::from_millis(300)).build().unwrap();
    let options = ClientOptions::new().credentials(provider);
    let client = Client::with_options(config, kit.runtime.clone(), options);
    let error = client.initialize().await.unwrap_err().to_string();
    let expected = format!(
        "cannot connect to 127.0.0.1:{} (the address in the configuration): the test has not returned the credentials",
        server.port()
    );
    assert!(error.starts_with(&expected), "{error}");
    announcer.try_send(Err("no network".into())).unwrap();
    kit.error_that(&client, |error| error.contains("the test has not returned the credentials: no network"))
        .await;
    add_user(&server, "app", "late");
    announce(&announcer, "app", "late");
    kit.until_master(&client, &server).await;
}

async fn login_errors_name_user_and_origin(kit: Kit) {
    let server =
        Server::builder().user("app", "on >right ~* &* -@all +get").password("secret").start().unwrap();
    let refused = |config: RedisConfig| async { kit.connect(config).await.unwrap_err() };
    let base = || RedisConfig::builder().host("127.0.0.1").port(server.port());
    let address =
        format!("cannot connect to 127.0.0.1:{} (the address in the configuration): ", server.port());
    let wrong = refused(base().username("app").password("wrong").build().unwrap()).await;
    assert!(wrong.is_authentication());
    let expected =
        "the server refused the user name or password (user app, from the setting `password`): WRONGPASS";
    assert!(wrong.to_string().starts_with(&format!("{address}{expected}")), "{wrong}");
    let none = refused(base().build().unwrap()).await;
    assert!(none.is_authentication());
    let expected = "the server requires a password: NOAUTH";
    assert!(none.to_string().starts_with(&format!("{address}{expected}")), "{none}");
    assert!(none.to_string().contains("; set `password`"), "{none}");
    let not_allowed = refused(base().username("app").password("right").db(1).build().unwrap()).await;
    assert!(not_allowed.is_permission_denied() && !not_allowed.is_authentication());
    let expected = "the user app may not run SELECT, which `db` = 1 needs: NOPERM";
    assert!(not_allowed.to_string().starts_with(&format!("{address}{expected}")), "{not_allowed}");
    let options = ClientOptions::new().credentials(FileCredentials::new("/nowhere/password"));
    let config = base().password("secret").build().unwrap();
    let both = Client::with_options(config, kit.runtime.clone(), options).initialize().await.unwrap_err();
    assert!(both.is_config());
    let expected = "password is set, and the client has a credentials provider; remove one of them";
    assert!(both.to_string().starts_with(expected), "{both}");
}

/// Waits for an event that `wanted` accepts.
pub(super) async fn next<T>(kit: &Kit, events: &mut Events, wanted: impl Fn(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    kit.within("an event", search).await
}

/// Dedicated connections are given back at every moment of a change.
async fn connections_in_demand_log_in(kit: Kit) {
    const CHANGES: usize = 30;
    let server = Server::start().unwrap();
    (0..2).for_each(|number| add_user(&server, &format!("app-{number}"), "zulu-4711"));
    let (announcer, client) =
        client_as(&kit, settings(&server.url()).max_connections(8), "app-0", "zulu-4711");
    client.initialize().await.unwrap();
    for change in 1..=CHANGES {
        let stop = Arc::new(AtomicBool::new(false));
        let borrower = |_| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            kit.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut own = client.dedicated().await.unwrap();
                    own.get::<_, Option<String>>("key").await.unwrap();
                }
            })
        };
        let borrowers = (0..4).map(borrower).collect::<Vec<_>>();
        let user = format!("app-{}", change % 2);
        announce(&announcer, &user, "zulu-4711");
        kit.until("a connection has logged in", || users(&server).values().any(|name| *name == user)).await;
        stop.store(true, Ordering::Relaxed);
        kit.all(borrowers).await;
        until_all_are(&kit, &server, &user).await;
    }
}

/// A provider may be ahead of the servers, each of which has its own list of users.
async fn former_password_serves_until_the_new_one_is_known(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app", "zulu-4711");
    let (announcer, client) = client_as(&kit, settings(&server.url()), "app", "zulu-4711");
    client.initialize().await.unwrap();
    let mut events = client.events();
    announce(&announcer, "app", "kilo-0815");
    next(&kit, &mut events, |event| matches!(event, Event::LoginRefused { .. }).then_some(())).await;
    // New connections, too.
    client.dedicated().await.unwrap().set::<_, _, ()>("key", 1).await.unwrap();
    server.query(&["CLIENT", "KILL", "USER", "app"]).unwrap();
    client.connection().set::<_, _, ()>("key", 2).await.unwrap();
    // The server is told last.
    server.query(&["ACL", "SETUSER", "app", ">kilo-0815"]).unwrap();
    let logins = super::kit::calls(&server, "auth");
    kit.until("the client logs in", || super::kit::calls(&server, "auth") > logins).await;
    server.query(&["ACL", "SETUSER", "app", "<zulu-4711"]).unwrap();
    kit.until_master(&client, &server).await;
    client.dedicated().await.unwrap().set::<_, _, ()>("key", 3).await.unwrap();
}
