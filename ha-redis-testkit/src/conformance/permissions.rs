//! Tests users with few permissions and servers that lack commands: the client requires none of the commands it
//! sends on its own.

use std::time::Duration;

use ha_redis_core::{Client, Outcome, PubSubEvent, RedisConfig, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, calls, config, rejected, settings};
use crate::{Server, ServerBuilder, Topology};

tests![
    user_needs_only_caller_commands,
    user_without_each_client_command,
    server_without_each_client_command,
    refused_ping_counts_as_alive,
    refused_subscription_names_permission,
    refused_select_is_an_error,
    topology_from_role_or_info,
    reads_use_master_without_info,
    replica_reads_need_only_info,
    failover_followed_with_restricted_user,
    sentinel_user_without_each_optional_command,
    sentinel_user_without_permissions_is_an_error,
];

/// The commands that the client sends on its own.
const CLIENT_COMMANDS: [&str; 5] = ["hello", "ping", "role", "info", "client"];

/// Starts a server on which the user `app` has these ACL rules.
fn with_user(rules: &str) -> Server {
    Server::builder().user("app", &format!("on >pw {rules}")).start().unwrap()
}

fn as_user(server: &Server) -> RedisConfig {
    settings(&server.url()).username("app").password("pw").client_name("billing").build().unwrap()
}

fn without(server: ServerBuilder, command: &str) -> ServerBuilder {
    server.config(format!("rename-command {command} \"\""))
}

/// Connects, runs GET and SET, and returns the client.
async fn connect_and_check(kit: &Kit, config: RedisConfig, what: &str) -> Client {
    let client = kit.connect(config).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", what).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), what);
    let mut own = client.dedicated().await.unwrap();
    assert_eq!(own.get::<_, String>("key").await.unwrap(), what);
    assert_eq!(client.replica_connection().get::<_, String>("key").await.unwrap(), what);
    let health = client.health_check().await;
    assert!(health.is_healthy() && health.error.is_none(), "{what}: {health:?}");
    client
}

/// Subscribes, and waits for a message that `server` publishes.
async fn check_subscription(kit: &Kit, client: &Client, server: &Server) {
    let mut subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    server.query(&["PUBLISH", "news", "hello"]).unwrap();
    match kit.within("a message", subscriber.next()).await {
        Some(PubSubEvent::Message(message)) => {
            assert_eq!(message.get_payload::<String>().unwrap(), "hello");
        }
        other => panic!("{other:?}"),
    }
}

async fn user_needs_only_caller_commands(kit: Kit) {
    for rules in ["~* -@all +@read +@write", "~* -@all +get +set"] {
        let server = with_user(rules);
        connect_and_check(&kit, as_user(&server), rules).await;
    }
}

async fn user_without_each_client_command(kit: Kit) {
    for command in CLIENT_COMMANDS {
        let server = with_user(&format!("~* &* +@all -{command}"));
        let client = connect_and_check(&kit, as_user(&server), command).await;
        check_subscription(&kit, &client, &server).await;
        let scan = redis::cmd("SCAN").arg(0).take();
        let (_, keys): (u64, Vec<String>) = scan.query_async(&mut client.connection()).await.unwrap();
        assert_eq!(keys, ["key"], "{command}");
    }
}

async fn server_without_each_client_command(kit: Kit) {
    for command in CLIENT_COMMANDS {
        let server = without(Server::builder().password("pw"), command).start().unwrap();
        let named = settings(&server.url()).client_name("billing").build().unwrap();
        let client = connect_and_check(&kit, named, command).await;
        check_subscription(&kit, &client, &server).await;
    }
    let server = CLIENT_COMMANDS.into_iter().fold(Server::builder().password("pw"), without).start().unwrap();
    let client = connect_and_check(&kit, config(&server.url()), "none of them").await;
    check_subscription(&kit, &client, &server).await;
}

async fn refused_ping_counts_as_alive(kit: Kit) {
    let server = with_user("~* &* +@all -ping");
    let often = as_user(&server).to_builder().health_check_interval(Duration::from_millis(20));
    let client = kit.connect(often.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let id = redis::cmd("CLIENT").arg("ID").query_async::<u64>(&mut redis).await.unwrap();
    kit.until("the client repeats the health check", || rejected(&server, "ping") >= 5).await;
    assert_eq!(redis::cmd("CLIENT").arg("ID").query_async::<u64>(&mut redis).await.unwrap(), id);

    let mut subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    let before = rejected(&server, "ping");
    kit.until("the subscriber runs health checks as well", || rejected(&server, "ping") >= before + 10).await;
    server.query(&["PUBLISH", "news", "hello"]).unwrap();
    let event = kit.within("a message", subscriber.next()).await;
    assert!(matches!(event, Some(PubSubEvent::Message(_))), "{event:?}");
}

async fn refused_subscription_names_permission(kit: Kit) {
    let server = with_user("~* &* +@all -subscribe");
    let client = connect_and_check(&kit, as_user(&server), "subscribe").await;
    let error = client.pubsub().await.unwrap().subscribe("news").await.unwrap_err();
    assert!(error.is_permission_denied() && !error.is_authentication(), "{error}");
    assert!(error.to_string().contains("+subscribe"), "{error}");
}

async fn refused_select_is_an_error(kit: Kit) {
    let server = with_user("~* &* +@all -select");
    connect_and_check(&kit, as_user(&server), "database 0").await;
    let third = as_user(&server).to_builder().db(3).build().unwrap();
    let error = kit.connect(third).await.unwrap_err();
    assert!(error.is_permission_denied() && !error.is_authentication(), "{error}");
    let text = error.to_string();
    assert!(["SELECT", "`db`", "NOPERM", "+select"].iter().all(|part| text.contains(part)), "{text}");
    assert!(!text.contains("password"), "{text}");

    let server = without(Server::builder(), "SELECT").start().unwrap();
    connect_and_check(&kit, config(&server.url()), "database 0").await;
    let error = kit.connect(settings(&server.url()).db(3).build().unwrap()).await.unwrap_err();
    let text = error.to_string();
    assert!(error.is_config() && text.contains("SELECT") && text.contains("`db`"), "{text}");
}

async fn topology_from_role_or_info(kit: Kit) {
    let master = Server::builder()
        .user("app", "on >pw ~* &* +@all -role")
        .user("blind", "on >pw ~* &* +@all -role -info")
        .start()
        .unwrap();
    let replica = Server::builder()
        .user("app", "on >pw ~* &* +@all -role")
        .replica_of(&master)
        .config("masteruser ha-redis-testkit")
        .config("masterauth any")
        .start()
        .unwrap();
    kit.until("the replica is connected", || {
        replica.query(&["INFO", "replication"]).unwrap().field("master_link_status") == Some("up")
    })
    .await;
    let of_master = kit.connect(as_user(&master)).await.unwrap().topology().await.unwrap();
    assert_eq!(of_master.master.to_string(), master.address().to_string());
    let replicas = of_master.replicas.iter().map(|replica| replica.address.to_string());
    assert_eq!(replicas.collect::<Vec<_>>(), [replica.address().to_string()]);
    let of_replica = kit.connect(as_user(&replica)).await.unwrap().topology().await.unwrap();
    assert_eq!(of_replica.master.to_string(), master.address().to_string());
    assert_eq!(of_replica.replicas[0].address.to_string(), replica.address().to_string());
    assert!(of_replica.replicas[0].healthy);

    let blind = as_user(&master).to_builder().username("blind").build().unwrap();
    let error = kit.connect(blind).await.unwrap().topology().await.unwrap_err();
    assert!(error.is_permission_denied(), "{error}");
    assert!(error.to_string().contains("+role") && error.to_string().contains("NOPERM"), "{error}");
}

async fn reads_use_master_without_info(kit: Kit) {
    let server = with_user("~* &* +@all -info");
    connect_and_check(&kit, as_user(&server), "info").await;
    let alone =
        as_user(&server).to_builder().replica_fallback(false).failover_wait(Duration::from_millis(300));
    let client = kit.connect(alone.build().unwrap()).await.unwrap();
    let error = client.replica_connection().get::<_, Option<String>>("key").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let text = error.to_string();
    assert!(["INFO", "NOPERM", "+info"].iter().all(|part| text.contains(part)), "{text}");
}

async fn replica_reads_need_only_info(kit: Kit) {
    let user = |server: ServerBuilder| server.user("app", "on >pw ~* -@all +get +info");
    let master = user(Server::builder()).start().unwrap();
    let replica = user(Server::builder()).replica_of(&master).config("masteruser ha-redis-testkit");
    let replica = replica.config("masterauth any").start().unwrap();
    let config = as_user(&master).to_builder().replica_fallback(false).failover_wait(BOUND).build().unwrap();
    let client = kit.connect(config).await.unwrap();
    assert_eq!(client.replica_connection().get::<_, Option<i64>>("key").await.unwrap(), None);
    assert_eq!((calls(&master, "get"), calls(&replica, "get")), (0, 1));
}

async fn failover_followed_with_restricted_user(kit: Kit) {
    let users = [("role", "+@all -role"), ("info", "+@all -role -info"), ("least", "-@all +get +set")];
    let line = |(name, rules)| format!("user {name} on >secret ~* &* {rules}");
    let topology = users.iter().fold(Topology::builder(), |topology, user| topology.config(line(*user)));
    let topology = topology.start().unwrap();
    let mut clients = Vec::new();
    for (name, _) in users {
        let url = topology.url().replace("redis+sentinel://", &format!("redis+sentinel://{name}:secret@"));
        clients.push((name, connect_and_check(&kit, config(&url), name).await));
    }
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    for (name, client) in clients {
        kit.until_master(&client, new).await;
        client.connection().set::<_, _, ()>(name, 2).await.unwrap();
        assert_eq!(new.query(&["GET", name]).unwrap().text(), Some("2"), "{name}");
    }
}

/// The commands that the client sends to a Sentinel.
const SENTINEL_QUERIES: [&str; 9] = [
    "ping",
    "client",
    "info",
    "subscribe",
    "sentinel|myid",
    "sentinel|master",
    "sentinel|get-master-addr-by-name",
    "sentinel|replicas",
    "sentinel|sentinels",
];

/// Creates a user with these ACL rules on every Sentinel, and returns a configuration that uses it.
fn sentinel_user(topology: &Topology, rules: &str) -> RedisConfig {
    let rules = format!("reset on >pw &* {rules}");
    for sentinel in topology.sentinels() {
        let command = ["ACL", "SETUSER", "app"].into_iter().chain(rules.split(' '));
        sentinel.query(&command.collect::<Vec<_>>()).unwrap();
    }
    let settings = settings(&topology.url()).sentinel_username("app").sentinel_password("pw");
    settings.client_name("billing").build().unwrap()
}

async fn sentinel_user_without_each_optional_command(kit: Kit) {
    let topology = Topology::start().unwrap();
    let master = topology.master().unwrap().address().to_string();
    for command in SENTINEL_QUERIES {
        let client =
            connect_and_check(&kit, sentinel_user(&topology, &format!("+@all -{command}")), command).await;
        let described = client.topology().await.unwrap();
        assert_eq!(described.master.to_string(), master, "{command}: {described}");
        assert_eq!(described.sentinels, 3, "{command}: {described}");
    }
    let least = sentinel_user(&topology, "-@all +sentinel|get-master-addr-by-name");
    let client = connect_and_check(&kit, least, "only the address").await;
    assert_eq!(client.discover_master().await.unwrap().to_string(), master);
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    client.connection().set::<_, _, ()>("key", 2).await.unwrap();
}

async fn sentinel_user_without_permissions_is_an_error(kit: Kit) {
    let topology = Topology::start().unwrap();
    let error = kit.connect(sentinel_user(&topology, "-@all +ping")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("NOPERM") && text.contains("sentinel|get-master-addr-by-name"), "{text}");
    assert!(!text.contains("password"), "{text}");
}
