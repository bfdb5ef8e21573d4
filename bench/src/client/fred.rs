//! fred.

use fred::bytes::Bytes;
use fred::clients::Client as Fred;
use fred::prelude::{Builder, ClientLike, Config, KeysInterface};
use fred::types::Value;

use super::Client;
use crate::Failure;

pub(crate) async fn fred(url: &str) -> Result<Fred, Failure> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    client.init().await?;
    Ok(client)
}

impl Client for Fred {
    async fn get(&mut self, key: &str) -> Result<usize, Failure> {
        // The only one of fred's types that copies nothing.
        let value: Bytes = KeysInterface::get(self, key).await?;
        Ok(value.len())
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        Ok(KeysInterface::set(self, key, value, None, None, false).await?)
    }

    async fn set_all(&mut self, keys: &[String], value: &[u8]) -> Result<(), Failure> {
        let pipeline = self.pipeline();
        for key in keys {
            let _: () = pipeline.set(key, value, None, None, false).await?;
        }
        let _: Value = pipeline.all().await?;
        Ok(())
    }
}
