//! rustis.

use rustis::client::{BatchPreparedCommand, Client as Rustis};
use rustis::commands::StringCommands;
use rustis::resp::{BulkString, RefBulkString};

use super::Client;
use crate::Failure;

pub(crate) async fn rustis(url: &str) -> Result<Rustis, Failure> {
    Ok(Rustis::connect(url).await?)
}

// Uses rustis's types for binary values, which its documentation recommends.
impl Client for Rustis {
    async fn get(&mut self, key: &str) -> Result<usize, Failure> {
        let value: BulkString = StringCommands::get(&*self, key).await?;
        Ok(value.len())
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        Ok(StringCommands::set(&*self, key, RefBulkString::new(value)).await?)
    }

    async fn set_all(&mut self, keys: &[String], value: &[u8]) -> Result<(), Failure> {
        let mut pipeline = self.create_pipeline();
        for key in keys {
            pipeline.set(key, RefBulkString::new(value)).queue();
        }
        let _: Vec<()> = pipeline.execute().await?;
        Ok(())
    }
}
