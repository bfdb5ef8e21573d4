//! Reads what the client writes as a server does, to test that no argument breaks out of its place.

use proptest::prelude::*;
use redis::Cmd;

use super::encode;

/// Text that means something to a server, a terminal or a log.
const HOSTILE: [&str; 16] = [
    "\r\n",
    "\n",
    "\r",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "$-1\r\n",
    "\r\nFLUSHALL\r\n",
    "+OK\r\n",
    "\0",
    " ",
    "\"",
    "'",
    "\\",
    "%0d%0a",
    "\u{1b}[2J",
    "\u{202e}",
    "schlüssel 鍵",
];

/// Returns any text, mostly hostile. May be empty.
pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Returns any bytes, mostly hostile, often no UTF-8. May be empty.
pub(crate) fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop_oneof![Just(Vec::new()), any::<Vec<u8>>(), Just(b"\xff\xfe\r\n".to_vec())];
    (hostile_text(), tail).prop_map(|(text, tail)| [text.into_bytes(), tail].concat())
}

/// Returns the arguments of these commands as a server reads them.
pub(crate) fn written<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> Vec<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    commands.into_iter().for_each(|command| assert!(encode(command, &mut out, usize::MAX)));
    commands_in(&out)
}

/// Returns the arguments of each command in the bytes. Panics if they are anything but complete commands: arrays of
/// bulk strings, by the lengths that are written.
pub(crate) fn commands_in(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let args = read_number(&mut bytes, b'*');
        commands.push((0..args).map(|_| read_string(&mut bytes)).collect());
    }
    commands
}

fn read_string(bytes: &mut &[u8]) -> Vec<u8> {
    let length = read_number(bytes, b'$');
    let (text, rest) = bytes.split_at(length);
    *bytes = rest.strip_prefix(b"\r\n").expect("a line end behind the string");
    text.to_vec()
}

fn read_number(bytes: &mut &[u8], marker: u8) -> usize {
    let rest = bytes.strip_prefix(&[marker]).expect("a marker");
    let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line");
    let digits = std::str::from_utf8(&rest[..end]).unwrap();
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits:?}");
    *bytes = &rest[end + 2..];
    digits.parse().unwrap()
}

/// Returns words as the arguments of a command.
pub(crate) fn args<T: AsRef<[u8]>>(words: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    words.into_iter().map(|word| word.as_ref().to_vec()).collect()
}

proptest! {
    #[test]
    fn any_argument_stays_in_its_place(
        commands in prop::collection::vec(prop::collection::vec(hostile_bytes(), 1..5), 1..5),
    ) {
        let of_args = |args: &Vec<Vec<u8>>| {
            args.iter().fold(Cmd::new(), |mut command, arg| command.arg(arg.as_slice()).take())
        };
        prop_assert_eq!(written(&commands.iter().map(of_args).collect::<Vec<_>>()), commands);
    }

    #[test]
    fn any_argument_beside_a_cursor_stays_in_its_place(
        before in hostile_bytes(), cursor in any::<u64>(), behind in hostile_bytes(),
    ) {
        let mut scan = redis::cmd("SSCAN");
        scan.arg(&before).cursor_arg(cursor).arg("MATCH").arg(&behind);
        let cursor = cursor.to_string();
        let expected = args([b"SSCAN".as_slice(), &before, cursor.as_bytes(), b"MATCH", &behind]);
        prop_assert_eq!(written([&scan]), [expected]);
    }
}
