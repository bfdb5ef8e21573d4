//! The callers. Each makes one call after another, checks the result, and sometimes drops a call.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use futures_lite::future;
use ha_redis_core::redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd, from_redis_value_ref, pipe};
use ha_redis_core::{Client, Connection, Error, Outcome, RedisErrorExt};

use super::history::{Call, End, Kind};
use super::hostile::PASSWORD;
use super::payload::Payload;
use super::plan::Plan;
use super::runtime::SimRuntime;
use super::scheduler::lock;
use super::trace::Line;
use super::world::World;

/// The end offset of a `GETRANGE`, beyond every text. The call's number is added to it.
pub(super) const MAX_TEXT_END: u64 = 1_000_000_000;
/// How many concurrent calls a burst makes: more than the client delivers replies for in one turn.
const BURST: std::ops::Range<usize> = 20..80;

/// How long a caller holds a dedicated connection that it no longer needs.
const MAX_HOLD: Duration = Duration::from_millis(10);
/// The prefixes of temporary refusals, which a call waits for.
const TEMPORARY_REFUSALS: [&str; 5] = ["READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "UNBLOCKED"];

pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) connection: Connection,
    /// For reads from replicas, if the callers make any.
    pub(super) replicas: Option<Connection>,
    pub(super) runtime: SimRuntime,
    pub(super) world: Arc<Mutex<World>>,
    /// The cursor of the caller's scan; 0 if none is in progress.
    pub(super) cursor: u64,
    pub(super) rng: Rng,
    pub(super) plan: Arc<Plan>,
}

impl Caller {
    /// Makes calls until it is stopped or the client is closed.
    pub(super) async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let pause = self.plan.pause.mul_f64(self.rng.f64());
            self.runtime.sleep(pause).await;
            self.wait_while_idle().await;
            let kind = self.random_kind();
            let timeout = (self.rng.u8(..10) == 0).then(|| self.plan.pause.mul_f64(self.rng.f64()));
            if self.call(kind, timeout).await.is_some_and(|error| is_closed(&error)) {
                return;
            }
        }
    }

    /// Increments a counter until it succeeds.
    pub(super) async fn probe(mut self) {
        while self.call(Kind::Count, None).await.is_some_and(|error| !is_closed(&error)) {
            self.runtime.sleep(self.plan.pause).await;
        }
    }

    /// Waits for the end of the idle period, which all callers share so that connections are idle.
    async fn wait_while_idle(&self) {
        if let Some(end) = self.plan.idle_until(self.runtime.elapsed()) {
            self.runtime.sleep(end - self.runtime.elapsed()).await;
        }
    }

    fn random_kind(&mut self) -> Kind {
        if self.replicas.is_some() && self.rng.u8(..4) == 0 {
            return Kind::ReplicaGet;
        }
        if self.plan.crowded && self.rng.bool() {
            return if self.rng.u8(..4) == 0 { Kind::Block } else { Kind::Dedicated };
        }
        match self.rng.u8(..23) {
            0..5 => Kind::Count,
            5..8 => Kind::Set,
            8..11 => Kind::Get,
            11..13 => Kind::Echo,
            13 if self.plan.bursts => Kind::Burst,
            13 => Kind::Echo,
            14 => Kind::NewEntries,
            22 => Kind::Scan,
            15 | 16 => Kind::Pipeline,
            17 | 18 => Kind::Transaction,
            19 => Kind::Block,
            _ => Kind::Dedicated,
        }
    }

    /// Makes a call, drops it after `timeout` if there is one, and returns its error.
    async fn call(&mut self, kind: Kind, timeout: Option<Duration>) -> Option<RedisError> {
        let call = self.begin(kind);
        let runtime = self.runtime.clone();
        let work = async { Some(self.perform(call).await) };
        let ended = match timeout {
            None => work.await,
            Some(timeout) => {
                let given_up = async {
                    runtime.sleep(timeout).await;
                    None
                };
                future::or(work, given_up).await
            }
        };
        let (end, how, error) = match ended {
            None => (End::Cancelled, "its caller went away".to_owned(), None),
            Some(Ok(())) => (End::Done, "done".to_owned(), None),
            Some(Err(error)) => (End::Failed(error.outcome()), describe(&error), Some(error)),
        };
        let at = self.runtime.elapsed();
        if self.plan.hostility.is_some() && !is_printable(&how) {
            let what = format!("call {} ended with text that is not printable: {how:?}", call.number);
            lock(&self.world).history.violation(what);
        }
        let mut world = lock(&self.world);
        let ended = world.history.call(call.number);
        ended.end = Some((at, end));
        ended.temporary_refusal = TEMPORARY_REFUSALS.into_iter().find(|code| how.contains(code));
        world.note(Line::Ended { call: call.number, how });
        error
    }

    fn begin(&mut self, kind: Kind) -> CallInProgress {
        let begun = self.runtime.elapsed();
        let large = self.plan.largest_text > 0 && self.rng.u8(..5) == 0;
        let padding = if large { self.rng.usize(..self.plan.largest_text) } else { 0 };
        let chosen = self.rng.usize(..2);
        let mut world = lock(&self.world);
        let register = if kind.uses_register() { world.history.register(chosen) } else { 0 };
        let deadline = begun + self.plan.call_timeout;
        let safety = self.plan.safety;
        let call = Call {
            kind,
            register,
            safety,
            begun,
            deadline,
            connected_at: None,
            end: None,
            temporary_refusal: None,
            read: None,
        };
        let number = world.history.begin(call);
        world.note(Line::Begun { call: number, what: kind.name() });
        CallInProgress { number, kind, register, text: Payload { call: number, padding } }
    }

    async fn perform(&mut self, call: CallInProgress) -> RedisResult<()> {
        match call.kind {
            Kind::Count => {
                let counted = self.connection.request(&call.count()).await?.extract_error()?;
                self.expect(call.is_count(&counted), call, &counted);
            }
            Kind::Set => {
                let set = self.connection.request(&call.set()).await?.extract_error()?;
                self.expect(set == Value::Okay, call, &set);
            }
            Kind::Get => {
                let value = self.connection.request(&call.get()).await?.extract_error()?;
                self.record_read(call, &value);
            }
            Kind::ReplicaGet => {
                if let Some(replicas) = &mut self.replicas {
                    let value = replicas.request(&call.get()).await?.extract_error()?;
                    self.record_read(call, &value);
                }
            }
            Kind::NewEntries => {
                let none = self.connection.request(&call.new_entries()).await?.extract_error()?;
                self.expect(none == Value::Nil, call, &none);
            }
            Kind::Scan => self.scan(call).await?,
            Kind::Echo => {
                let echoed = self.connection.request(&call.echo()).await?.extract_error()?;
                self.expect(call.is_text(&echoed), call, &echoed);
            }
            Kind::Burst => self.burst(call).await?,
            Kind::Pipeline => self.pipeline(call).await?,
            Kind::Transaction => self.transaction(call).await?,
            Kind::Block => {
                let mut block = cmd("BLPOP");
                block.arg(format!("nothing:{}", call.number)).arg("0.03");
                let popped = self.connection.request(&block).await?.extract_error()?;
                self.expect(popped == Value::Nil, call, &popped);
            }
            Kind::Dedicated => self.dedicated(call).await?,
        }
        Ok(())
    }

    /// Continues the caller's scan, or begins one. A scan that has lost its server begins again.
    async fn scan(&mut self, call: CallInProgress) -> RedisResult<()> {
        let mut step = cmd("SCAN");
        step.arg(std::mem::take(&mut self.cursor)).arg("COUNT").arg(call.number);
        let found = match self.connection.request(&step).await.and_then(Value::extract_error) {
            Err(error) if error.to_string().contains("begin again with cursor 0") => return Ok(()),
            found => found?,
        };
        let next: Option<(u64, Vec<String>)> = from_redis_value_ref(&found).ok();
        self.expect(next.is_some(), call, &found);
        self.cursor = next.map_or(0, |(cursor, _)| cursor);
        Ok(())
    }

    /// Makes the calls of a burst. Each gets its own reply or an error.
    async fn burst(&mut self, call: CallInProgress) -> RedisResult<()> {
        let echoes = (0..self.rng.usize(BURST)).map(|number| {
            let text = format!("{}:{number}", call.number);
            let mut connection = self.connection.clone();
            Box::pin(async move {
                let echoed = connection.request(cmd("ECHO").arg(&text)).await?.extract_error()?;
                Ok((echoed == Value::BulkString(text.into_bytes()), echoed))
            })
        });
        let mut error = None;
        for reply in all(echoes.collect()).await {
            match reply {
                Ok((right, echoed)) => self.expect(right, call, &echoed),
                Err(failure) => error = Some(failure),
            }
        }
        error.map_or(Ok(()), Err)
    }

    async fn pipeline(&mut self, call: CallInProgress) -> RedisResult<()> {
        let mut three = Pipeline::new();
        three.add_command(call.echo()).add_command(call.count()).add_command(call.get());
        let values = self.connection.request_pipeline(&three).await?;
        let [echoed, counted, value] = &values[..] else {
            self.expect(false, call, &Value::Array(values));
            return Ok(());
        };
        // Each call may be refused.
        if !is_refused(echoed) {
            self.expect(call.is_text(echoed), call, echoed);
        }
        if !is_refused(value) {
            self.record_read(call, value);
        }
        let counted = counted.clone().extract_error()?;
        self.expect(call.is_count(&counted), call, &counted);
        Ok(())
    }

    async fn transaction(&mut self, call: CallInProgress) -> RedisResult<()> {
        let mut both = pipe();
        both.atomic().add_command(call.count()).add_command(call.set());
        let values = self.connection.request_pipeline(&both).await?;
        let right = match &values[..] {
            [Value::Array(executed)] => {
                matches!(&executed[..], [counted, Value::Okay] if call.is_count(counted))
            }
            _ => false,
        };
        self.expect(right, call, &Value::Array(values));
        Ok(())
    }

    async fn dedicated(&mut self, call: CallInProgress) -> RedisResult<()> {
        let mut own = self.client.dedicated().await?;
        // Taking the connection has its own timeout, and the command begins a new one.
        let now = self.runtime.elapsed();
        {
            let mut world = lock(&self.world);
            let made = world.history.call(call.number);
            (made.connected_at, made.deadline) = (Some(now), now + self.plan.call_timeout + MAX_HOLD);
        }
        let counted = own.request(&call.count()).await?.extract_error()?;
        self.expect(call.is_count(&counted), call, &counted);
        let held = MAX_HOLD.mul_f64(self.rng.f64());
        self.runtime.sleep(held).await;
        Ok(())
    }

    /// Records what a call has read from its register.
    fn record_read(&self, call: CallInProgress, value: &Value) {
        if call.kind == Kind::ReplicaGet && self.plan.has_hostile_replica() {
            return;
        }
        let text = match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let setter = match text {
            Some("") => Some(None),
            text => text.and_then(Payload::read).map(|payload| Some(payload.call)),
        };
        self.expect(setter.is_some(), call, value);
        lock(&self.world).history.call(call.number).read = setter;
    }

    fn expect(&self, right: bool, call: CallInProgress, got: &Value) {
        if !right {
            let mut got = format!("{got:?}");
            got.truncate(200);
            lock(&self.world).history.violation(format!("call {} got a wrong reply: {got}", call.number));
        }
    }
}

/// A call in progress: its commands and the expected replies.
#[derive(Clone, Copy)]
struct CallInProgress {
    number: u64,
    kind: Kind,
    register: u64,
    text: Payload,
}

impl CallInProgress {
    fn count(self) -> Cmd {
        cmd("INCRBY").arg(format!("count:{}", self.number)).arg(self.number).take()
    }

    fn set(self) -> Cmd {
        cmd("SET").arg(self.register()).arg(self.text.to_string()).take()
    }

    fn get(self) -> Cmd {
        cmd("GETRANGE").arg(self.register()).arg(0).arg(MAX_TEXT_END + self.number).take()
    }

    fn new_entries(self) -> Cmd {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(self.number).arg("BLOCK").arg(30).arg("STREAMS").arg("stream").arg("$");
        read
    }

    fn echo(self) -> Cmd {
        cmd("ECHO").arg(self.text.to_string()).take()
    }

    fn register(self) -> String {
        format!("register:{}", self.register)
    }

    fn is_text(self, value: &Value) -> bool {
        *value == Value::BulkString(self.text.to_string().into_bytes())
    }

    /// Returns true if the value is the call's counter: its number times the number of runs.
    fn is_count(self, value: &Value) -> bool {
        matches!(value, Value::Int(count) if *count > 0 && (*count as u64).is_multiple_of(self.number))
    }
}

/// Waits for all futures concurrently.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    future::poll_fn(|cx| {
        futures.retain_mut(|future| match Pin::new(future).poll(cx) {
            Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            Poll::Pending => true,
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

fn is_refused(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}

fn is_closed(error: &RedisError) -> bool {
    error.client_error().is_some_and(Error::is_closed)
}

/// Returns true if a text contains neither the password nor control characters.
fn is_printable(text: &str) -> bool {
    !text.contains(PASSWORD) && !text.chars().any(char::is_control)
}

fn describe(error: &RedisError) -> String {
    let outcome: Outcome = error.outcome();
    format!("{outcome}: {error}")
}
