//! Making a connection ready for use: socket, handshake, role.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::config::{AddressMap, RedisConfig};
use crate::engine::dial::Dial;
use crate::engine::dialog::Dialog;
use crate::error::{Error, Kind};
use crate::pool::GivenBy;
use crate::proto::{Answer, Greeting, Handshake, Protocol};
use crate::runtime::Runtime;
use crate::time::until;
use crate::tls::Tls;

/// Opens connections of one kind: to the data, or to the Sentinels.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) runtime: Arc<dyn Runtime>,
    handshake: Handshake,
    /// Where servers are reached that announce other addresses.
    map: AddressMap,
    /// `None` where connections are plain.
    tls: Option<Tls>,
    /// The bound on everything from the look-up of the name to the last word of the handshake.
    timeout: Duration,
}

impl Connector {
    /// For connections to masters and replicas.
    pub(crate) fn for_data(runtime: Arc<dyn Runtime>, config: &RedisConfig) -> Self {
        let handshake = Handshake {
            username: config.username().map(str::to_owned),
            password: config.password().map(Into::into),
            client_name: config.client_name().map(str::to_owned),
            db: config.db(),
            role: config.use_sentinel(),
            settings: "",
        };
        let tls = Tls::of_data(config);
        Self::new(runtime, handshake, tls, config, config.socket_connect_timeout())
    }

    /// For connections to Sentinels, which have no databases and their own users.
    #[cfg(feature = "sentinel")]
    pub(crate) fn for_sentinels(runtime: Arc<dyn Runtime>, config: &RedisConfig) -> Self {
        let handshake = Handshake {
            username: config.sentinel_username().map(str::to_owned),
            password: config.sentinel_password().map(Into::into),
            client_name: config.client_name().map(str::to_owned),
            db: 0,
            role: false,
            settings: "sentinel_",
        };
        let tls = Tls::of_sentinels(config);
        Self::new(runtime, handshake, tls, config, config.sentinel_socket_connect_timeout())
    }

    fn new(
        runtime: Arc<dyn Runtime>,
        handshake: Handshake,
        tls: Option<Tls>,
        config: &RedisConfig,
        timeout: Duration,
    ) -> Self {
        Self { runtime, handshake, tls, map: config.address_map().clone(), timeout }
    }

    /// How its connections are secured, if they are.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Connects to `address`. `given_by` says in errors where the address comes from.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        given_by: &GivenBy,
    ) -> Result<(Dialog, Greeting), Error> {
        let bound = self.runtime.now() + self.timeout;
        let reached = self.map.reach(address);
        let failed = match &reached {
            Some(reached) => {
                format!("cannot connect to {reached}, for {address} in the address_map ({given_by})")
            }
            None => format!("cannot connect to {address} ({given_by})"),
        };
        let mut dial = Dial::new(&*self.runtime, reached.as_ref().unwrap_or(address), self.timeout);
        match until(&*self.runtime, bound, self.open(&mut dial)).await {
            Ok(Ok(ready)) => Ok(ready),
            Ok(Err(error)) => Err(error.during(failed)),
            Err(_) => {
                let suspects = self.tls.as_ref().filter(|_| dial.has_connected());
                let suspicion = suspects.map(Tls::suspicion).unwrap_or_default();
                let message = format!("{failed}: {}{suspicion}", dial.silence());
                Err(Error::new(Kind::Timeout, message))
            }
        }
    }

    async fn open(&self, dial: &mut Dial<'_>) -> Result<(Dialog, Greeting), Error> {
        let (mut dialog, mut answer) = self.introduce(dial, Protocol::Resp3).await?;
        if let Answer::OnlyResp2(why) = answer {
            tracing::debug!(address = %dial.address(), %why, "it is spoken to in RESP2");
            let replies = dialog.ask(&self.handshake.commands(Protocol::Resp2)).await?;
            answer = self.handshake.read(Protocol::Resp2, &replies)?;
        }
        let mut greeting = match answer {
            Answer::Ready(greeting) => greeting,
            Answer::OnlyResp2(why) => return Err(why),
        };
        if self.handshake.role && greeting.role.is_none() {
            greeting.role = dialog.role_by_info().await?;
        }
        Ok((dialog, greeting))
    }

    async fn introduce(&self, dial: &mut Dial<'_>, protocol: Protocol) -> Result<(Dialog, Answer), Error> {
        let socket = dial.connect().await?;
        let transport = match &self.tls {
            Some(tls) => tls.secure(dial.address(), socket).await?,
            None => socket,
        };
        let mut dialog = Dialog::new(transport);
        let mut replies = Vec::new();
        let asked = dialog.ask_into(&self.handshake.commands(protocol), &mut replies).await;
        // A server that turns clients away says why before it hangs up.
        let answer = self.handshake.read(protocol, &replies);
        match asked {
            Err(error) => Err(answer.err().unwrap_or(error)),
            Ok(()) => Ok((dialog, answer?)),
        }
    }
}
