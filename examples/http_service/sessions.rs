//! Sessions, and a count of visits.

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use ha_redis_tokio::redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};

use crate::redis_calls::{Failure, RedisCalls};

/// How long a session lives after it was created or written.
const TTL_SECONDS: u64 = 3_600;

/// The id of a session, from the header `Authorization: Bearer <id>`.
pub struct SessionId(String);

impl SessionId {
    fn key(&self) -> String {
        format!("session:{}", self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for SessionId {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let id = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
        match id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(id.to_owned())),
            false => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

/// Returns an id that nobody can guess.
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

/// Logs in. A real service checks a password first.
pub async fn create(
    Extension(redis): Extension<RedisCalls>,
    data: String,
) -> Result<(StatusCode, String), Failure> {
    let session = SessionId(random_id());
    // Nobody else knows the new key, so that writing it twice does no harm.
    redis
        .repeatable("create", async |mut redis| {
            redis.set_ex::<_, _, ()>(session.key(), &data, TTL_SECONDS).await
        })
        .await?;
    Ok((StatusCode::CREATED, session.0))
}

pub async fn read(
    Extension(redis): Extension<RedisCalls>,
    session: SessionId,
) -> Result<(StatusCode, String), Failure> {
    let data: Option<String> =
        redis.repeatable("read", async |mut redis| redis.get(session.key()).await).await?;
    Ok(data.map_or((StatusCode::UNAUTHORIZED, String::new()), |data| (StatusCode::OK, data)))
}

pub async fn replace(
    Extension(redis): Extension<RedisCalls>,
    session: SessionId,
    data: String,
) -> Result<StatusCode, Failure> {
    // Only a session that exists: a late write does not bring one back that was deleted.
    let options =
        SetOptions::default().conditional_set(ExistenceCheck::XX).with_expiration(SetExpiry::EX(TTL_SECONDS));
    let done: Option<String> = redis
        .repeatable("replace", async |mut redis| redis.set_options(session.key(), &data, options).await)
        .await?;
    Ok(if done.is_some() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED })
}

/// Logs out.
pub async fn delete(
    Extension(redis): Extension<RedisCalls>,
    session: SessionId,
) -> Result<StatusCode, Failure> {
    // The second run of DEL replies that there was nothing to delete. That is the same to us.
    redis.repeatable("delete", async |mut redis| redis.del::<_, ()>(session.key()).await).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Counts a visit once, or says that it does not know.
pub async fn count_visit(Extension(redis): Extension<RedisCalls>) -> Result<String, Failure> {
    let visits: u64 = redis.at_most_once("visit", async |mut redis| redis.incr("visits", 1).await).await?;
    Ok(visits.to_string())
}
