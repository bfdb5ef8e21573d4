//! The callers: each makes one call after another, checks what it gets, and sometimes goes away in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_lite::future;
use ha_redis_core::redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd, pipe};
use ha_redis_core::{Client, Connection, Error, Outcome, RedisErrorExt, RetrySafety};

use super::history::{Call, End, Kind};
use super::runtime::SimRuntime;
use super::scheduler::lock;
use super::trace::Line;
use super::world::World;

pub(super) struct Caller {
    pub(super) number: usize,
    pub(super) client: Client,
    pub(super) connection: Connection,
    pub(super) runtime: SimRuntime,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) rng: Rng,
    pub(super) safety: RetrySafety,
    pub(super) call_timeout: Duration,
    pub(super) pause: Duration,
}

impl Caller {
    /// Calls until it is told to stop, or the client is closed.
    pub(super) async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let pause = self.pause.mul_f64(self.rng.f64());
            self.runtime.sleep(pause).await;
            let kind = self.any_kind();
            let patience = (self.rng.u8(..10) == 0).then(|| self.pause.mul_f64(self.rng.f64()));
            if self.call(kind, patience).await.is_some_and(|error| is_closed(&error)) {
                return;
            }
        }
    }

    /// Counts until that succeeds.
    pub(super) async fn probe(mut self) {
        while self.call(Kind::Count, None).await.is_some_and(|error| !is_closed(&error)) {
            self.runtime.sleep(self.pause).await;
        }
    }

    fn any_kind(&mut self) -> Kind {
        match self.rng.u8(..20) {
            0..6 => Kind::Count,
            6..9 => Kind::Set,
            9..11 => Kind::Get,
            11..14 => Kind::Echo,
            14 | 15 => Kind::Pipeline,
            16 | 17 => Kind::Transaction,
            18 => Kind::Block,
            _ => Kind::Dedicated,
        }
    }

    /// Makes a call, and gives it up after `patience` if there is one. The error that it ended with.
    async fn call(&mut self, kind: Kind, patience: Option<Duration>) -> Option<RedisError> {
        let call = self.begin(kind);
        let runtime = self.runtime.clone();
        let work = async { Some(self.perform(call, kind).await) };
        let ended = match patience {
            None => work.await,
            Some(patience) => {
                let given_up = async {
                    runtime.sleep(patience).await;
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
        let mut world = lock(&self.world);
        world.history.call(call).end = Some((at, end));
        world.note(Line::Ended { call, how });
        error
    }

    fn begin(&mut self, kind: Kind) -> u64 {
        let begun = self.runtime.elapsed();
        let mut world = lock(&self.world);
        let deadline = begun + self.call_timeout;
        let call = Call { kind, safety: self.safety, begun, deadline, end: None };
        let number = world.history.begin(call);
        world.note(Line::Begun { call: number, what: kind.name() });
        number
    }

    async fn perform(&mut self, call: u64, kind: Kind) -> RedisResult<()> {
        match kind {
            Kind::Count => {
                let counted = self.connection.request(&count(call)).await?.extract_error()?;
                self.expect(is_count(&counted, call), call, &counted);
            }
            Kind::Set => {
                let set = self.connection.request(&set(self.number, call)).await?.extract_error()?;
                self.expect(set == Value::Okay, call, &set);
            }
            Kind::Get => {
                let value = self.connection.request(&get(self.number)).await?.extract_error()?;
                self.expect(self.is_mine(&value), call, &value);
            }
            Kind::Echo => {
                let echoed = self.connection.request(&echo(call)).await?.extract_error()?;
                self.expect(is_text(&echoed, call), call, &echoed);
            }
            Kind::Pipeline => self.pipeline(call).await?,
            Kind::Transaction => self.transaction(call).await?,
            Kind::Block => {
                let mut block = cmd("BLPOP");
                block.arg(format!("nothing:{call}")).arg("0.03");
                let popped = self.connection.request(&block).await?.extract_error()?;
                self.expect(popped == Value::Nil, call, &popped);
            }
            Kind::Dedicated => self.dedicated(call).await?,
        }
        Ok(())
    }

    async fn pipeline(&mut self, call: u64) -> RedisResult<()> {
        let mut three = Pipeline::new();
        three.add_command(echo(call)).add_command(count(call)).add_command(get(self.number));
        let values = self.connection.request_pipeline(&three).await?;
        let counted = values.get(1).cloned().map(Value::extract_error).transpose();
        let right = match (&values[..], &counted) {
            ([echoed, _, value], Ok(Some(counted))) => {
                is_text(echoed, call) && is_count(counted, call) && self.is_mine(value)
            }
            (_, Ok(_)) => false,
            // The server may be a replica, or load its data.
            (_, Err(_)) => true,
        };
        self.expect(right, call, &Value::Array(values));
        counted.map(drop)
    }

    async fn transaction(&mut self, call: u64) -> RedisResult<()> {
        let mut both = pipe();
        both.atomic().add_command(count(call)).add_command(set(self.number, call));
        let values = self.connection.request_pipeline(&both).await?;
        let right = match &values[..] {
            [Value::Array(executed)] => {
                matches!(&executed[..], [counted, Value::Okay] if is_count(counted, call))
            }
            _ => false,
        };
        self.expect(right, call, &Value::Array(values));
        Ok(())
    }

    async fn dedicated(&mut self, call: u64) -> RedisResult<()> {
        let mut own = self.client.dedicated().await?;
        // Taking the connection has its own bound, and the command begins a new one.
        lock(&self.world).history.call(call).deadline = self.runtime.elapsed() + self.call_timeout;
        let counted = own.request(&count(call)).await?.extract_error()?;
        self.expect(is_count(&counted, call), call, &counted);
        Ok(())
    }

    fn expect(&self, right: bool, call: u64, got: &Value) {
        if !right {
            lock(&self.world).history.violation(format!("call {call} got a wrong reply: {got:?}"));
        }
    }

    /// Whether this caller has set the value.
    fn is_mine(&self, value: &Value) -> bool {
        let prefix = format!("{}:", self.number);
        match value {
            Value::BulkString(bytes) => bytes.starts_with(prefix.as_bytes()),
            value => *value == Value::Nil,
        }
    }
}

fn count(call: u64) -> Cmd {
    cmd("INCRBY").arg(format!("count:{call}")).arg(call).take()
}

fn set(caller: usize, call: u64) -> Cmd {
    cmd("SET").arg(format!("register:{caller}")).arg(format!("{caller}:{call}")).take()
}

fn get(caller: usize) -> Cmd {
    cmd("GET").arg(format!("register:{caller}")).take()
}

fn echo(call: u64) -> Cmd {
    cmd("ECHO").arg(call).take()
}

fn is_text(value: &Value, call: u64) -> bool {
    *value == Value::BulkString(call.to_string().into_bytes())
}

/// Whether this is the call's counter: its number, as often as it has run.
fn is_count(value: &Value, call: u64) -> bool {
    matches!(value, Value::Int(count) if *count > 0 && (*count as u64).is_multiple_of(call))
}

fn is_closed(error: &RedisError) -> bool {
    error.client_error().is_some_and(Error::is_closed)
}

fn describe(error: &RedisError) -> String {
    let outcome: Outcome = error.outcome();
    format!("{outcome}: {error}")
}
