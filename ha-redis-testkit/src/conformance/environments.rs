//! Tests that the servers of each environment are protected as it says, and that clients reach them as it says.

use ha_redis_core::RedisConfig;

use super::kit::{Kit, settings};
use crate::{Environment, Server};

tests! {
    everywhere: [
        server_is_protected,
        topology_is_protected,
    ],
}

/// Returns the user of each connection of the tested client.
fn users(server: &Server) -> Vec<String> {
    let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
    let lines = list.text().unwrap().lines().filter(|line| line.contains("name=billing"));
    let users = lines.filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("user=")));
    users.map(str::to_owned).collect()
}

fn user(kit: &Kit) -> &'static str {
    if kit.environment == Environment::MtlsAcl { "app" } else { "default" }
}

async fn server_is_protected(kit: Kit) {
    let server = kit.server();
    let all = settings(&server.url()).client_name("billing").build().unwrap();
    let client = kit.connect(all).await.unwrap();
    assert_eq!(users(&server), [user(&kit)]);
    let flushed = redis::cmd("FLUSHALL").exec_async(&mut client.connection()).await;
    assert_eq!(flushed.is_err_and(|error| error.code() == Some("NOPERM")), user(&kit) == "app");

    let anybody = RedisConfig::builder().host("127.0.0.1").port(server.port());
    let plain = anybody.clone().build().unwrap();
    assert_eq!(kit.connect(plain).await.is_ok(), kit.environment == Environment::Plain);
    if kit.environment == Environment::MtlsAcl {
        let without_login = anybody.ssl(true).ssl_ca_certs(server.ca_file());
        let error = kit.connect(without_login.clone().build().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("`ssl_certfile`"), "{error}");
        let without_login =
            without_login.ssl_certfile(server.client_certificate()).ssl_keyfile(server.client_key());
        let error = kit.connect(without_login.build().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("NOAUTH"), "{error}");
    }
}

async fn topology_is_protected(kit: Kit) {
    let topology = kit.topology();
    let settings = settings(&topology.url()).client_name("billing").build().unwrap();
    let client = kit.connect(settings).await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!((described.replicas.len(), described.sentinels), (2, 3), "{described}");
    for server in topology.sentinels().iter().chain([topology.master().unwrap()]) {
        kit.until("the client is connected", || !users(server).is_empty()).await;
        assert!(users(server).iter().all(|name| name == user(&kit)), "{:?}", users(server));
    }
}
