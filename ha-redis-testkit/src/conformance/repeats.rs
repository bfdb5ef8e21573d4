//! What means something else the second time is not sent a second time.

use super::kit::{Kit, blocked_clients, calls, config};
use crate::{Cut, Direction, Proxy, Server};
use ha_redis_core::{Outcome, RedisErrorExt};
use redis::{AsyncCommands, RedisResult, Value};

tests![
    a_read_of_what_comes_from_now_on_is_not_repeated,
    what_others_may_have_changed_meanwhile_is_not_repeated
];

async fn a_read_of_what_comes_from_now_on_is_not_repeated(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let reading = kit.spawn({
        let mut redis = client.connection();
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(0).arg("STREAMS").arg("stream").arg("$");
        async move { read.query_async(&mut redis).await }
    });
    kit.until("XREAD waits", || blocked_clients(&server) == 1).await;
    proxy.cut(Cut::Reset);
    let ended: RedisResult<Value> = kit.within("XREAD ends", reading.end()).await;
    assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied, "what comes meanwhile would be skipped");
    assert_eq!(calls(&server, "xread"), 1);
}

async fn what_others_may_have_changed_meanwhile_is_not_repeated(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let mut redis = kit.connect(config(&proxy.url())).await.unwrap().connection();
    server.query(&["RPUSH", "list", "a", "b"]).unwrap();
    for command in [
        "GETEX key EX 1",
        "EXPIRE key 1",
        "SET key v XX PX 1000",
        "LSET list 0 c",
        "LTRIM list 0 0",
        "SETRANGE key 1 x",
        "COPY key other REPLACE",
        "PFMERGE a b",
        "CONFIG SET save 900",
        "CLIENT PAUSE 1",
    ] {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        let mut words = command.split(' ');
        let name = words.next().unwrap();
        let mut cmd = redis::cmd(name);
        words.for_each(|word| _ = cmd.arg(word));
        let cuts = proxy.cuts();
        proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
        let ended = cmd.exec_async(&mut redis).await;
        assert_eq!(proxy.cuts(), cuts + 1, "{command}: its reply was lost");
        assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied, "{command}");
    }
}
