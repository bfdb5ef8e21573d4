//! The credentials providers of redis-rs.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::Stream;
use redis::RedisResult;
use redis::auth::{BasicAuth, StreamingCredentialsProvider};

use super::{Credentials, CredentialsError, CredentialsProvider};

/// Credentials of a redis-rs [`StreamingCredentialsProvider`], such as `EntraIdCredentialsProvider`.
#[cfg_attr(docsrs, doc(cfg(feature = "token-based-authentication")))]
pub struct StreamedCredentials {
    provider: Arc<dyn StreamingCredentialsProvider>,
    stream: Option<Subscribed>,
}

type Subscribed = Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>>;

impl StreamedCredentials {
    /// Returns a provider of the credentials that `provider` streams.
    pub fn new(provider: impl StreamingCredentialsProvider + 'static) -> Self {
        Self::from(Arc::new(provider) as Arc<dyn StreamingCredentialsProvider>)
    }
}

impl From<Arc<dyn StreamingCredentialsProvider>> for StreamedCredentials {
    fn from(provider: Arc<dyn StreamingCredentialsProvider>) -> Self {
        Self { provider, stream: None }
    }
}

#[async_trait]
impl CredentialsProvider for StreamedCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        let stream = self.stream.get_or_insert_with(|| self.provider.subscribe());
        match poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            Some(Ok(credentials)) => Ok(Credentials::new(credentials.username(), credentials.password())),
            Some(Err(error)) => Err(error.into()),
            None => {
                self.stream = None;
                Err("the stream of credentials has ended".into())
            }
        }
    }
}

impl fmt::Debug for StreamedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedCredentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::{future::block_on, stream};

    use super::*;

    struct Two;

    impl StreamingCredentialsProvider for Two {
        fn subscribe(&self) -> Subscribed {
            let one = |password: &str| Ok(BasicAuth::new("app".into(), password.into()));
            Box::pin(stream::iter([one("first"), one("second")]))
        }
    }

    #[test]
    fn stream_is_subscribed_again_after_its_end() {
        let mut provider = StreamedCredentials::new(Two);
        let mut next = || block_on(provider.next_credentials());
        assert_eq!(next().unwrap(), Credentials::new("app", "first"));
        assert_eq!(next().unwrap(), Credentials::new("app", "second"));
        assert_eq!(next().unwrap_err().to_string(), "the stream of credentials has ended");
        assert_eq!(next().unwrap(), Credentials::new("app", "first"));
    }
}
