//! Hides passwords in errors and logs, even if a server repeats them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::address::Address;
use crate::error::Error;
use crate::peer_text::printable;
use crate::sync::Snapshot;

/// How many consecutive bytes of a password are hidden: servers may cut the text that they repeat.
const MIN_PIECE: usize = 6;

/// A password shorter than this is hidden only as a separate word, since it may be a part of any word.
const MIN_UNBOUNDED: usize = 4;

/// An address that contains a password of at least this many bytes is rejected. A shorter password may well be a part
/// of a host name.
const MIN_IN_HOST: usize = 8;

const HIDDEN: &str = "***";

/// How many passwords are remembered. A server may repeat an older one, but credentials may change for ever.
const MAX_PASSWORDS: usize = 8;

/// The passwords of a client. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Secrets(Arc<Snapshot<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// The passwords, the oldest first, each in every form in which it may be printed.
    passwords: VecDeque<Vec<SecretString>>,
    /// Hosts that may contain a password, since the configuration names them.
    hosts: Vec<String>,
}

impl Known {
    fn forms(&self) -> impl Iterator<Item = &str> {
        self.passwords.iter().flatten().map(ExposeSecret::expose_secret)
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self(Arc::new(Snapshot::new(Known::default())))
    }
}

impl Secrets {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let known = Self::default();
        secrets.into_iter().for_each(|secret| known.add(secret));
        known
    }

    /// Adds a password that the client uses from now on.
    pub(crate) fn add(&self, secret: &str) {
        let mut known = Known::clone(&self.0.load());
        if secret.is_empty() || known.forms().any(|form| form == secret) {
            return;
        }
        // As errors and logs escape it.
        let escaped = [
            secret.escape_default().to_string(),
            secret.escape_debug().to_string(),
            secret.as_bytes().escape_ascii().to_string(),
            printable(secret),
        ];
        let forms: BTreeSet<_> = escaped.into_iter().chain([secret.to_owned()]).collect();
        known.passwords.push_back(forms.into_iter().map(SecretString::from).collect());
        if known.passwords.len() > MAX_PASSWORDS {
            known.passwords.pop_front();
        }
        self.0.store(known);
    }

    /// Returns the same secrets, except that these hosts are allowed in addresses.
    pub(crate) fn except(self, hosts: impl IntoIterator<Item = String>) -> Self {
        let passwords = self.0.load().passwords.clone();
        self.0.store(Known { passwords, hosts: hosts.into_iter().collect() });
        self
    }

    /// Returns true if a peer repeats a password as a host. Such an address must not be used: it would be printed,
    /// and looked up.
    pub(crate) fn are_in(&self, address: &Address) -> bool {
        let Address::Tcp { host, .. } = address else { return false };
        let lower = host.to_ascii_lowercase();
        let is_in =
            |secret: &str| secret.len() >= MIN_IN_HOST && lower.contains(&secret.to_ascii_lowercase());
        let known = self.0.load();
        known.forms().any(is_in) && !known.hosts.contains(host)
    }

    /// Returns the error without the passwords that a server repeats in it.
    pub(crate) fn hide_in(&self, error: Error) -> Error {
        match self.hide(error.message()) {
            Cow::Borrowed(_) => error,
            Cow::Owned(shown) => error.with_message(shown),
        }
    }

    /// Returns the text without the passwords and without longer pieces of them.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found: Vec<_> = self.0.load().forms().flat_map(|secret| ranges(text, secret)).collect();
        if found.is_empty() {
            return text.into();
        }
        found.sort_by_key(|range| range.start);
        let mut shown = String::with_capacity(text.len());
        let mut end = 0;
        for range in found {
            let range = whole_characters(text, range);
            // Pieces that overlap or touch become one.
            if range.start > end || shown.is_empty() {
                shown.push_str(&text[end..range.start]);
                shown.push_str(HIDDEN);
            }
            end = end.max(range.end);
        }
        shown.push_str(&text[end..]);
        shown.into()
    }
}

/// Returns where the text contains the secret or a piece of it.
fn ranges(text: &str, secret: &str) -> Vec<Range<usize>> {
    let (text, secret) = (text.as_bytes(), secret.as_bytes());
    let size = secret.len().min(MIN_PIECE);
    let pieces: HashSet<&[u8]> = secret.windows(size).collect();
    let is_alone = |range: &Range<usize>| {
        let around = [range.start.checked_sub(1).and_then(|before| text.get(before)), text.get(range.end)];
        !around.into_iter().flatten().any(u8::is_ascii_alphanumeric)
    };
    let windows = text.windows(size).enumerate().filter(|(_, window)| pieces.contains(window));
    let ranges = windows.map(|(start, _)| start..start + size);
    ranges.filter(|range| size >= MIN_UNBOUNDED || is_alone(range)).collect()
}

fn whole_characters(text: &str, range: Range<usize>) -> Range<usize> {
    let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (range.end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    start..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hidden(secrets: &[&str], text: &str) -> String {
        Secrets::new(secrets.iter().copied()).hide(text).into_owned()
    }

    #[test]
    fn password_and_pieces_hidden() {
        let secret = ["correct horse"];
        assert_eq!(hidden(&secret, "ERR invalid password 'correct horse'"), "ERR invalid password '***'");
        assert_eq!(hidden(&secret, "correct horse"), "***");
        assert_eq!(hidden(&secret, "correct horsecorrect horse!"), "***!");
        assert_eq!(hidden(&secret, "cut 'correct ho"), "cut '***");
        assert_eq!(hidden(&secret, "the rest: ct horse"), "the rest: ***");
        assert_eq!(hidden(&["s3cret1", "s3cret2"], "s3cret1 or s3cret2"), "*** or ***");
        assert_eq!(hidden(&["pässword"], "é pässword é"), "é *** é");
        assert_eq!(hidden(&[""], "text"), "text");
        let escaped = [r"p\xc3\xa4ssw\xc3\xb6rd1", r"p\u{e4}ssw\u{f6}rd1"];
        escaped.iter().for_each(|text| assert_eq!(hidden(&["pässwörd1"], text), "***", "{text}"));
        assert_eq!(hidden(&["a'bcde\tf\u{200b}gh"], r"so a\'bcde\tf\u{200b}gh is wrong"), "so *** is wrong");
        assert_eq!(hidden(&secret, "WRONGPASS invalid username"), "WRONGPASS invalid username");
    }

    #[test]
    fn clones_know_passwords_that_are_added() {
        let secrets = Secrets::new(["first-password"]);
        let clone = secrets.clone();
        (0..3).for_each(|_| secrets.add("second-password"));
        assert_eq!(clone.hide("first-password, second-password"), "***, ***");
        (0..MAX_PASSWORDS).for_each(|number| secrets.add(&format!("rotated {number:08}")));
        assert_eq!(secrets.0.load().passwords.len(), MAX_PASSWORDS);
        assert_eq!(clone.hide("rotated 00000000"), "***");
    }

    #[test]
    fn short_password_hidden_as_separate_word() {
        assert_eq!(hidden(&["pw"], "pw 'pw' pwd"), "*** '***' pwd");
        assert_eq!(hidden(&["four"], "fourth"), "***th");
    }

    #[test]
    fn host_with_long_password_rejected_unless_configured() {
        let secrets = Secrets::new(["redis", "redis-hunter2"]).except(["redis-hunter2.example".to_owned()]);
        let are_in = |host: &str| secrets.are_in(&Address::tcp(host, 1));
        assert!(are_in("redis-hunter2") && are_in("a.REDIS-hunter2.b"));
        assert!(!are_in("redis") && !are_in("redis-hunter") && !are_in("redis-hunter2.example"));
        assert!(!secrets.are_in(&Address::unix("/redis-hunter2")));
    }

    proptest! {
        #[test]
        fn hides_every_password(
            secret in "\\PC{4,30}",
            before in "\\PC{0,10}",
            between in "\\PC{0,10}",
            behind in any::<String>(),
        ) {
            let shown = hidden(&[&secret], &format!("{before}{secret}{between}{secret}{behind}"));
            prop_assert!(!shown.replace(HIDDEN, "\0").contains(&secret), "{}", shown);
        }
    }
}
