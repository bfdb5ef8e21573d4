//! What the tasks of a measurement do.

use std::ops::Range;
use std::sync::Arc;

use clap::ValueEnum;

use crate::Failure;
use crate::client::Client;
use crate::load::Calls;

const SMALL: usize = 64;
const KIB: usize = 1 << 10;
/// The size of the large values of the mixed load.
const LARGE: usize = 1 << 20;
const PIPELINE: usize = 100;
/// The length of the pipelines of the mixed load.
const LONG_PIPELINE: usize = 1_000;

/// The number of keys. Each task uses a single one.
const KEYS: usize = 1_000;

/// The numbers of the background tasks.
const BACKGROUND: Range<usize> = 0..2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// GET of 64 bytes
    Get64,
    /// SET of 64 bytes
    Set64,
    /// GET of 16 KiB
    Get16k,
    /// Pipelines of 100 SETs of 64 bytes
    Pipeline100,
    /// GET of 64 bytes while two other tasks write and read values of 1 MiB over the same handle
    BesideValues,
    /// GET of 64 bytes while two other tasks send pipelines of 1,000 SETs over the same handle
    BesidePipelines,
}

impl Workload {
    /// Writes the values that the tasks read.
    pub(crate) async fn fill(self, tasks: usize, client: &mut impl Client) -> Result<(), Failure> {
        let value = vec![b'v'; self.value_size()];
        for number in 0..tasks.min(KEYS) {
            client.set(&self.key(number), &value).await?;
        }
        Ok(())
    }

    /// Returns the tasks that are measured.
    pub(crate) fn callers<C: Client>(self, tasks: usize, client: &C) -> Vec<Caller<C>> {
        let value: Arc<[u8]> = vec![b'v'; self.value_size()].into();
        let job = |number: usize| match self {
            Self::Set64 => Job::Set { key: self.key(number), value: Arc::clone(&value) },
            Self::Pipeline100 => pipeline(number, PIPELINE),
            _ => Job::Get { key: self.key(number), size: value.len() },
        };
        (0..tasks).map(|number| Caller { client: client.clone(), job: job(number) }).collect()
    }

    /// Returns the background tasks.
    pub(crate) fn background<C: Client>(self, client: &C) -> Vec<Caller<C>> {
        let value: Arc<[u8]> = vec![b'v'; LARGE].into();
        let job = |number| match self {
            Self::BesideValues => {
                Some(Job::SetAndGet { key: format!("bench:large:{number}"), value: Arc::clone(&value) })
            }
            Self::BesidePipelines => Some(pipeline(number, LONG_PIPELINE)),
            _ => None,
        };
        let jobs = BACKGROUND.filter_map(job);
        jobs.map(|job| Caller { client: client.clone(), job }).collect()
    }

    pub(crate) fn value_size(self) -> usize {
        if self == Self::Get16k { 16 * KIB } else { SMALL }
    }

    pub(crate) fn key(self, task: usize) -> String {
        format!("bench:{}:{:03}", self.value_size(), task % KEYS)
    }

    /// Returns the number of commands of one call.
    pub(crate) fn commands(self) -> usize {
        if self == Self::Pipeline100 { PIPELINE } else { 1 }
    }
}

fn pipeline(task: usize, length: usize) -> Job {
    let keys = (0..length).map(|command| format!("bench:pipeline:{task}:{command}"));
    Job::Pipeline { keys: keys.collect(), value: vec![b'v'; SMALL].into() }
}

/// A task's handle of the client, and its work.
pub(crate) struct Caller<C> {
    client: C,
    job: Job,
}

enum Job {
    Get { key: String, size: usize },
    Set { key: String, value: Arc<[u8]> },
    SetAndGet { key: String, value: Arc<[u8]> },
    Pipeline { keys: Vec<String>, value: Arc<[u8]> },
}

impl<C: Client> Calls for Caller<C> {
    async fn call(&mut self) -> Result<u64, Failure> {
        let Self { client, job } = self;
        match job {
            Job::Get { key, size } => {
                check(client.get(key).await?, *size)?;
                Ok(1)
            }
            Job::Set { key, value } => {
                client.set(key, value).await?;
                Ok(1)
            }
            Job::SetAndGet { key, value } => {
                client.set(key, value).await?;
                check(client.get(key).await?, value.len())?;
                Ok(2)
            }
            Job::Pipeline { keys, value } => {
                client.set_all(keys, value).await?;
                Ok(keys.len() as u64)
            }
        }
    }
}

fn check(size: usize, expected: usize) -> Result<(), Failure> {
    if size == expected {
        return Ok(());
    }
    Err(format!("expected a value of {expected} bytes, got {size}").into())
}
