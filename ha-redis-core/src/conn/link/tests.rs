use std::pin::pin;

use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::error::Kind;
use crate::manual_runtime::ManualRuntime;

const COMMANDS: usize = 3;

fn link() -> Link {
    let bounds = Bounds { commands: COMMANDS, bytes: 1 << 20 };
    Link::new(Generation::default(), Address::tcp("localhost", 1), Instant::now(), bounds)
}

fn slot() -> Arc<ReplySlot> {
    Arc::default()
}

/// Does what the driver does: takes what is staged, and records replies.
fn answer(link: &Link, replies: usize) {
    link.take(&mut Vec::new(), &mut Vec::new());
    link.report(replies, &mut Vec::new());
}

async fn submit_in_turn(link: &Link, runtime: &ManualRuntime) -> Result<(), SubmitError> {
    submit_in_turn_this(link, runtime, &redis::cmd("PING")).await
}

async fn submit_in_turn_this(
    link: &Link,
    runtime: &ManualRuntime,
    command: &redis::Cmd,
) -> Result<(), SubmitError> {
    let until = runtime.now() + Duration::from_secs(1);
    link.submit_in_turn(Call::Command(command), &slot(), ReplyBound::default(), runtime, until).await
}

#[test]
fn full_link_serves_waiters_in_order() {
    let runtime = ManualRuntime::new();
    let ping = redis::cmd("PING");
    let call = Call::Command(&ping);
    let link = link();
    for _ in 0..COMMANDS {
        link.submit(call, &slot(), ReplyBound::default()).unwrap();
    }
    assert!(matches!(link.submit(call, &slot(), ReplyBound::default()), Err(SubmitError::Full)));
    let mut first = pin!(submit_in_turn(&link, &runtime));
    let mut second = pin!(submit_in_turn(&link, &runtime));
    assert!(block_on(poll_once(&mut first)).is_none());
    assert!(block_on(poll_once(&mut second)).is_none());
    answer(&link, 1);
    assert!(
        matches!(link.submit(call, &slot(), ReplyBound::default()), Err(SubmitError::Full)),
        "newcomers do not overtake waiters"
    );
    assert!(block_on(poll_once(&mut second)).is_none(), "the second does not overtake the first");
    assert!(matches!(block_on(poll_once(&mut first)), Some(Ok(()))));
    answer(&link, 1);
    assert!(matches!(block_on(poll_once(&mut second)), Some(Ok(()))));
    answer(&link, 1);
    link.submit(call, &slot(), ReplyBound::default()).unwrap();
}

#[test]
fn leaving_waiter_lets_next_submit() {
    let runtime = ManualRuntime::new();
    let ping = redis::cmd("PING");
    let call = Call::Command(&ping);
    let link = link();
    for _ in 0..COMMANDS {
        link.submit(call, &slot(), ReplyBound::default()).unwrap();
    }
    let mut first = Box::pin(submit_in_turn(&link, &runtime));
    let mut second = pin!(submit_in_turn(&link, &runtime));
    assert!(block_on(poll_once(&mut first)).is_none());
    assert!(block_on(poll_once(&mut second)).is_none());
    answer(&link, 1);
    drop(first);
    assert!(matches!(block_on(poll_once(&mut second)), Some(Ok(()))));
}

#[test]
fn ended_link_returns_reason() {
    let ping = redis::cmd("PING");
    let link = link();
    link.hold();
    assert!(matches!(
        link.submit(Call::Command(&ping), &slot(), ReplyBound::default()),
        Err(SubmitError::Held)
    ));
    link.drain(Error::new(Kind::Closed, "closed"));
    let ended = link.submit(Call::Command(&ping), &slot(), ReplyBound::default());
    assert!(matches!(ended, Err(SubmitError::Ended(why)) if why.is_closed()));
}

#[test]
fn large_call_encoded_outside_lock() {
    let link = link();
    let set = redis::cmd("SET").arg("key").arg(vec![b'x'; 1 << 20]).take();
    let (call, mut prepared) = (Call::Command(&set), Prepared::default());
    let submit = |prepared: &mut Prepared| {
        lock(&link.state).submit(call, &slot(), ReplyBound::default(), prepared, true)
    };
    let Err(obstacle) = submit(&mut prepared) else { panic!("it was encoded") };
    prepared.resolve(obstacle, call).unwrap();
    assert!(submit(&mut prepared).is_ok());
    assert_eq!(lock(&link.state).staged.len(), call.encoded().len());
}

#[test]
fn large_call_waits_in_queue() {
    let runtime = ManualRuntime::new();
    let (link, ping) = (link(), redis::cmd("PING"));
    for _ in 0..COMMANDS {
        link.submit(Call::Command(&ping), &slot(), ReplyBound::default()).unwrap();
    }
    let set = redis::cmd("SET").arg("key").arg(vec![b'x'; 1 << 20]).take();
    let mut large = pin!(submit_in_turn_this(&link, &runtime, &set));
    let mut next = pin!(submit_in_turn(&link, &runtime));
    assert!(block_on(poll_once(&mut large)).is_none());
    assert!(block_on(poll_once(&mut next)).is_none());
    answer(&link, 1);
    assert!(matches!(block_on(poll_once(&mut large)), Some(Ok(()))));
    assert!(block_on(poll_once(&mut next)).is_none());
    let mut taken = Vec::new();
    link.take(&mut taken, &mut Vec::new());
    assert_eq!(taken, Call::Command(&set).encoded());
}

#[test]
fn read_only_link_accepts_reads() {
    let runtime = ManualRuntime::new();
    let (link, get, set) = (link(), redis::Cmd::get("key"), redis::Cmd::set("key", 1));
    link.restrict(Some(Error::new(Kind::Sentinel, "no majority")));
    let submit = |command| link.submit(Call::Command(command), &slot(), ReplyBound::default());
    assert!(matches!(submit(&set), Err(SubmitError::ReadOnly(_))));
    submit(&get).unwrap();
    let turn = |command| block_on(submit_in_turn_this(&link, &runtime, command));
    assert!(matches!(turn(&set), Err(SubmitError::ReadOnly(_))));
    turn(&get).unwrap();
}
