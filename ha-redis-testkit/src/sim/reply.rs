//! Encodes replies of servers.

pub(super) fn status(text: &str) -> Vec<u8> {
    format!("+{text}\r\n").into_bytes()
}

pub(super) fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

pub(super) fn integer(number: i64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

pub(super) fn nil() -> Vec<u8> {
    b"$-1\r\n".to_vec()
}

pub(super) fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    counted('*', items)
}

pub(super) fn bulks(texts: &[&str]) -> Vec<u8> {
    array(&texts.iter().map(|text| bulk(text)).collect::<Vec<_>>())
}

/// Encodes a push, a message of RESP3 that is not a reply.
pub(super) fn push(items: &[Vec<u8>]) -> Vec<u8> {
    counted('>', items)
}

fn counted(kind: char, items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("{kind}{}\r\n", items.len()).into_bytes();
    items.iter().for_each(|item| bytes.extend(item));
    bytes
}

/// Encodes the reply to HELLO.
pub(super) fn hello(client_id: u64) -> Vec<u8> {
    let fields = [("server", bulk("redis")), ("proto", integer(3)), ("id", integer(client_id as i64))];
    let mut bytes = format!("%{}\r\n", fields.len()).into_bytes();
    for (name, value) in fields {
        bytes.extend(bulk(name));
        bytes.extend(value);
    }
    bytes
}
