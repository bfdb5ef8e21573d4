//! A connection to a Sentinel, for its own commands.

use std::fmt;
use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::address::Address;
use crate::call::future::not_allowed;
use crate::command::{Placement, Safety, pipeline_placement};
use crate::conn::link::Call;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, Outcome};
use crate::node::core::{ClientGuard, closed};
use crate::tasks::sentinel::log_in_again;
use crate::tasks::start::start;
use crate::time::{Elapsed, until};
use crate::topology::AddressSource;

/// A connection to one of the Sentinels, from [`Client::sentinel_connection`](crate::Client::sentinel_connection),
/// for `SENTINEL CKQUORUM`, `SENTINEL MASTERS` and other commands of Sentinel. With a runtime crate it implements
/// [`redis::aio::ConnectionLike`](https://docs.rs/redis/latest/redis/aio/trait.ConnectionLike.html), so `redis::cmd`
/// works on it.
///
/// It uses the Sentinel at [`address`](Self::address) for as long as that one answers; the first is the one that
/// answered the client first. When it fails, the next reachable one replaces it: for the same call if its command was
/// not sent or changes nothing (such as `CKQUORUM` and `MASTERS`), otherwise for the next call (such as `FAILOVER`).
/// Connecting is bounded by `sentinel_socket_connect_timeout`, and each reply by `sentinel_socket_timeout`.
///
/// Sentinel has no transactions, and subscriptions do not work on this connection: both are refused.
///
/// # Cancellation safety
/// A call that is dropped before its end may or may not run on the Sentinel. A later call never sees its reply.
#[cfg_attr(docsrs, doc(cfg(feature = "sentinel")))]
pub struct SentinelConnection {
    core: Arc<ClientGuard>,
    address: Address,
    /// `None` after a call that was dropped before its end.
    raw: Option<RawConnection>,
}

impl SentinelConnection {
    pub(crate) async fn open(core: &Arc<ClientGuard>) -> Result<Self, Error> {
        if !core.config().use_sentinel() {
            let message = "no Sentinels are configured (use_sentinel = false)";
            return Err(Error::new(Kind::Config, message));
        }
        start(core, None).await?;
        let (address, raw) = connect(core, None).await?;
        Ok(Self { core: Arc::clone(core), address, raw: Some(raw) })
    }

    /// Returns the address of the Sentinel that was used last, and is used next if it is reachable.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a command. An error reply of the Sentinel is a [`Value::ServerError`].
    ///
    /// # Errors
    /// Returns an error if no reply came or no Sentinel could be reached: see [`Error`].
    pub async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        self.request_pipeline(&pipeline).await.map(|mut values| values.pop().unwrap_or(Value::Nil))
    }

    /// Sends the commands of a pipeline at once, and returns one value for each.
    ///
    /// # Errors
    /// See [`SentinelConnection::request`]. Atomic pipelines are refused.
    pub async fn request_pipeline(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        if pipeline.is_transaction() {
            return Err(Error::new(Kind::Refused, "Sentinel has no transactions").into());
        }
        if let Placement::Refused(refusal) = pipeline_placement(pipeline) {
            return Err(not_allowed(refusal).into());
        }
        let commands: Vec<_> = pipeline.cmd_iter().cloned().collect();
        let repeatable = Call::Pipeline(pipeline).safety() == Safety::ReadOnly;
        match self.query(&commands).await {
            Err(error) if repeatable && error.outcome() == Outcome::MaybeApplied => {
                Ok(self.query(&commands).await?)
            }
            result => Ok(result?),
        }
    }

    /// Returns the open connection, after it has logged in again if the credentials have changed.
    async fn take_logged_in(&mut self) -> Option<RawConnection> {
        let mut raw = self.raw.take()?;
        let bound = self.core.runtime.now() + self.core.config().sentinel_socket_timeout();
        let logging_in = log_in_again(&self.core, &self.address, &mut raw);
        let logged_in = until(&*self.core.runtime, bound, logging_in).await;
        matches!(logged_in, Ok(Ok(()))).then_some(raw)
    }

    /// Sends the commands once: on the open connection, or on one to any Sentinel that can be reached.
    async fn query(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Error> {
        self.core.lifecycle.check_open()?;
        let mut raw = match self.take_logged_in().await {
            Some(raw) => raw,
            None => {
                let (address, raw) = connect(&self.core, Some(&self.address)).await?;
                self.address = address;
                raw
            }
        };
        let timeout = self.core.config().sentinel_socket_timeout();
        let bound = self.core.runtime.now() + timeout;
        let failed = match until(&*self.core.runtime, bound, raw.query(commands)).await {
            Ok(Ok(values)) => {
                self.raw = Some(raw);
                return Ok(values);
            }
            Ok(Err(error)) => self.core.sentinels.hide_secrets(error),
            Err(Elapsed) => Error::new(Kind::Timeout, format!("no answer within {timeout:?}")),
        };
        Err(failed.during(format!("the Sentinel {}", self.address)).with_outcome(Outcome::MaybeApplied))
    }
}

/// Connects to the first Sentinel that can be reached; to `failed` only if there is no other.
async fn connect(core: &ClientGuard, failed: Option<&Address>) -> Result<(Address, RawConnection), Error> {
    let mut sentinels = core.sentinel_list.addresses();
    sentinels.sort_by_key(|address| Some(address) == failed);
    let mut errors = Vec::new();
    for address in sentinels {
        let closing = async {
            core.lifecycle.closing().await;
            Err(closed())
        };
        let attempt = core.sentinels.connect(&address, &AddressSource::SentinelList);
        // The attempt comes second because it may fail at once, and a closed client must report that it is closed.
        match futures_lite::future::or(closing, attempt).await {
            Ok((raw, _)) => return Ok((address, raw)),
            Err(error) if error.is_closed() => return Err(error),
            Err(error) => errors.push(error.message().to_owned()),
        }
    }
    Err(Error::new(Kind::Sentinel, format!("no Sentinel could be reached: {}", errors.join("; "))))
}

impl fmt::Debug for SentinelConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelConnection").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(feature = "aio")]
impl redis::aio::ConnectionLike for SentinelConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> redis::RedisFuture<'a, Value> {
        Box::pin(self.request(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> redis::RedisFuture<'a, Vec<Value>> {
        debug_assert!(cmd.is_transaction() || (offset == 0 && count == cmd.len()));
        Box::pin(self.request_pipeline(cmd))
    }

    fn get_db(&self) -> i64 {
        0
    }
}
