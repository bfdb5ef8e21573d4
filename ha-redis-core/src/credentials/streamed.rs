//! The credentials providers of redis-rs.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_core::Stream;
use redis::RedisResult;
use redis::auth::{BasicAuth, StreamingCredentialsProvider};

use super::{Credentials, CredentialsError, CredentialsProvider};
use crate::alarm;

/// The pause after the end of a stream that has yielded credentials.
const RESUBSCRIBE_DELAY: Duration = Duration::from_secs(60);

/// Credentials of a redis-rs [`StreamingCredentialsProvider`], such as `EntraIdCredentialsProvider`.
///
/// A stream may end: its last credentials stay in use, and a minute later the next one is subscribed to. A stream that
/// ends without any credentials counts as an error.
#[cfg_attr(docsrs, doc(cfg(feature = "token-based-authentication")))]
pub struct StreamedCredentials {
    provider: Arc<dyn StreamingCredentialsProvider>,
    stream: Option<Subscribed>,
    has_yielded: bool,
    resubscribe_at: Option<Instant>,
}

type Subscribed = Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>>;

impl StreamedCredentials {
    /// Returns a provider of the credentials that `provider` streams.
    pub fn new(provider: impl StreamingCredentialsProvider + 'static) -> Self {
        Self::from(Arc::new(provider) as Arc<dyn StreamingCredentialsProvider>)
    }

    /// Waits for the next item of the stream, and forgets a stream that ends or panics.
    async fn next_item(&mut self) -> Option<RedisResult<BasicAuth>> {
        poll_fn(|cx| {
            let mut stream = self.stream.take().unwrap_or_else(|| self.provider.subscribe());
            let next = stream.as_mut().poll_next(cx);
            if !matches!(next, Poll::Ready(None)) {
                self.stream = Some(stream);
            }
            next
        })
        .await
    }
}

impl From<Arc<dyn StreamingCredentialsProvider>> for StreamedCredentials {
    fn from(provider: Arc<dyn StreamingCredentialsProvider>) -> Self {
        Self { provider, stream: None, has_yielded: false, resubscribe_at: None }
    }
}

#[async_trait]
impl CredentialsProvider for StreamedCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        loop {
            if let Some(at) = self.resubscribe_at {
                alarm::sleep(at.saturating_duration_since(Instant::now())).await;
                self.resubscribe_at = None;
            }
            match self.next_item().await {
                Some(Ok(credentials)) => {
                    self.has_yielded = true;
                    return Ok(Credentials::new(credentials.username(), credentials.password()));
                }
                Some(Err(error)) => return Err(error.into()),
                None if std::mem::take(&mut self.has_yielded) => {
                    self.resubscribe_at = Instant::now().checked_add(RESUBSCRIBE_DELAY);
                }
                None => return Err("the stream of credentials has ended".into()),
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
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_lite::future::{block_on, poll_once};
    use futures_lite::stream;

    use super::*;

    /// Each of its streams yields what `answers` returns for its number.
    struct Streams {
        subscribed: AtomicU32,
        answers: fn(u32) -> Vec<RedisResult<BasicAuth>>,
    }

    impl StreamingCredentialsProvider for Streams {
        fn subscribe(&self) -> Subscribed {
            Box::pin(stream::iter((self.answers)(self.subscribed.fetch_add(1, Ordering::Relaxed))))
        }
    }

    fn provider(answers: fn(u32) -> Vec<RedisResult<BasicAuth>>) -> StreamedCredentials {
        StreamedCredentials::new(Streams { subscribed: AtomicU32::new(0), answers })
    }

    fn one(password: &str) -> RedisResult<BasicAuth> {
        Ok(BasicAuth::new("app".into(), password.into()))
    }

    #[test]
    fn ended_stream_is_subscribed_again_later() {
        let mut provider = provider(|number| vec![one("first"), one(&number.to_string())]);
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "first"));
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "0"));
        assert!(block_on(poll_once(provider.next_credentials())).is_none(), "not before a minute has passed");
        assert!(provider.stream.is_none());
        provider.resubscribe_at = Some(Instant::now());
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "first"));
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "1"));
    }

    #[test]
    fn empty_stream_is_an_error() {
        let mut provider = provider(|number| if number == 0 { vec![] } else { vec![one("first")] });
        let error = block_on(provider.next_credentials()).unwrap_err();
        assert_eq!(error.to_string(), "the stream of credentials has ended");
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "first"));
    }

    #[test]
    fn panicking_stream_is_not_polled_again() {
        struct Panicking;

        impl StreamingCredentialsProvider for Panicking {
            fn subscribe(&self) -> Subscribed {
                let mut polls = 0;
                Box::pin(stream::poll_fn(move |_| {
                    polls += 1;
                    match polls {
                        1 => Poll::Ready(Some(one("first"))),
                        _ => panic!("a fault of the stream"),
                    }
                }))
            }
        }

        let mut provider = StreamedCredentials::new(Panicking);
        for _ in 0..2 {
            assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "first"));
            let next = catch_unwind(AssertUnwindSafe(|| block_on(provider.next_credentials())));
            assert!(next.is_err());
        }
    }
}
