//! Passes published messages on to WebSockets: one subscriber of Redis for any number of sockets.
//!
//! A browser opens the WebSocket `/rooms/NAME`. `POST /rooms/NAME` publishes its body to all sockets of that room, on
//! all processes of the service. A socket receives JSON objects:
//!
//! | object | meaning |
//! |---|---|
//! | `{"joined": "NAME"}` | The first one: from here on, messages come. |
//! | `{"message": "text"}` | This was published. |
//! | `{"missed": 7}` | Here, this many messages were dropped: they were too large, or not read fast enough. |
//! | `{"gap": "begins"}` | Redis is not connected, as during a failover: any number of messages may be missing … |
//! | `{"gap": "ends"}` | … up to here. |
//!
//! A socket that joins within a gap receives `gap begins` right after `joined`.
//!
//! Redis keeps no published messages. After `joined`, `missed` and the end of a gap, a browser fetches what it shows
//! from where the service keeps it.
//!
//! `REDIS_URL` sets the servers, `LISTEN` the address of the service. Ctrl-C ends it, and cuts the sockets: browsers
//! open them again, at another process. [`http_service`](../http_service) shows an orderly end.

mod rooms;

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{Connection, Outcome, RedisClient, RedisConfig, RedisErrorExt};
use rooms::{MAX_MESSAGE_BYTES, Rooms, channel, gap_begins, text};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How long a socket may take nothing before it is closed.
const SEND_BOUND: Duration = Duration::from_secs(30);

/// How often a quiet socket is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a message may take to be published, failovers included.
const PUBLISH_BOUND: Duration = Duration::from_secs(8);

struct App {
    redis: Connection,
    rooms: Rooms,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;
    // One task reads while others subscribe.
    let (subscriptions, messages) = client.pubsub().await?.split();
    let app = Arc::new(App {
        redis: client.connection().with_timeout(PUBLISH_BOUND),
        rooms: Rooms::new(subscriptions),
    });

    let router = Router::new()
        .route("/rooms/{room}", get(join).post(publish))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(Arc::clone(&app));
    let listener = TcpListener::bind(&listen).await?;
    println!("listening on {}", listener.local_addr()?);
    tokio::select! {
        result = axum::serve(listener, router).into_future() => result?,
        () = app.rooms.keep_subscribed() => {}
        () = app.rooms.pass_on(messages) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    client.close().await;
    Ok(())
}

async fn publish(
    State(app): State<Arc<App>>,
    Path(room): Path<String>,
    text: String,
) -> (StatusCode, String) {
    let mut redis = app.redis.clone();
    match redis.publish::<_, _, ()>(channel(&room), text).await {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err(error) => match error.outcome() {
            Outcome::NotSent | Outcome::NotApplied => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            // The reply was lost: the sockets may have got the message or not. It is not published twice.
            _ => (StatusCode::GATEWAY_TIMEOUT, error.to_string()),
        },
    }
}

async fn join(State(app): State<Arc<App>>, Path(room): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    // Sockets only listen.
    upgrade.max_message_size(1024).on_upgrade(move |socket| serve(app, room, socket))
}

async fn serve(app: Arc<App>, room: String, mut socket: WebSocket) {
    if let Some((messages, in_gap)) = app.rooms.join(&room).await {
        let messages = forward(&room, in_gap, messages, &mut socket).await;
        app.rooms.leave(&room, messages);
    }
    let reason = Utf8Bytes::from_static("open the socket again");
    let close = Message::Close(Some(CloseFrame { code: close_code::AGAIN, reason }));
    // It fails when the browser has closed the socket.
    let _ = timeout(SEND_BOUND, socket.send(close)).await;
}

/// Passes a room's messages on to a socket, until one of them ends.
async fn forward(
    room: &str,
    in_gap: bool,
    mut messages: Receiver<Utf8Bytes>,
    socket: &mut WebSocket,
) -> Receiver<Utf8Bytes> {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let joined = text(json!({ "joined": room }));
    let mut first = iter::once(joined).chain(in_gap.then(gap_begins)).map(Message::Text);
    loop {
        let next = match first.next() {
            Some(message) => Some(message),
            None => next_message(&mut messages, socket, &mut pings).await,
        };
        let Some(message) = next else { return messages };
        // While this waits, the room's messages pass by, and the oldest are dropped: nobody waits for this socket.
        let Ok(Ok(())) = timeout(SEND_BOUND, socket.send(message)).await else { return messages };
    }
}

/// Returns what a socket is to be sent next; `None` when the socket or its room has ended.
async fn next_message(
    messages: &mut Receiver<Utf8Bytes>,
    socket: &mut WebSocket,
    pings: &mut Interval,
) -> Option<Message> {
    loop {
        tokio::select! {
            message = messages.recv() => return match message {
                Ok(text) => Some(Message::Text(text)),
                Err(RecvError::Lagged(missed)) => Some(Message::Text(text(json!({ "missed": missed })))),
                Err(RecvError::Closed) => None,
            },
            _ = pings.tick() => return Some(Message::Ping(Default::default())),
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                // The socket answers a ping, or sends something that the service does not use.
                Some(Ok(_)) => {}
            },
        }
    }
}
