//! Hides passwords in errors and logs, even if a server repeats them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
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

/// How many passwords that were replaced are remembered for each kind of server, with the current one. A server may repeat
/// an older one, but credentials may change for ever.
const MAX_REPLACED: usize = 8;

/// The passwords of a client. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Secrets(Arc<Snapshot<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// The passwords of the configuration that the client was created with.
    initial: Vec<Password>,
    /// The passwords that came later, the oldest first, by the prefix of their settings.
    later: BTreeMap<&'static str, VecDeque<Password>>,
    /// Hosts that may contain a password, since the configuration names them.
    hosts: Vec<String>,
}

/// A password, in every form in which it may be printed. The first is the password itself.
#[derive(Clone, Debug)]
struct Password(Vec<SecretString>);

impl Password {
    fn new(secret: &str) -> Self {
        // As errors and logs escape it.
        let escaped = [
            secret.escape_default().to_string(),
            secret.escape_debug().to_string(),
            secret.as_bytes().escape_ascii().to_string(),
            printable(secret),
        ];
        let escaped: BTreeSet<_> = escaped.into_iter().filter(|form| form != secret).collect();
        let forms = [secret.to_owned()].into_iter().chain(escaped);
        Self(forms.map(SecretString::from).collect())
    }

    fn is(&self, secret: &str) -> bool {
        self.0.first().is_some_and(|form| form.expose_secret() == secret)
    }
}

impl Known {
    fn forms(&self) -> impl Iterator<Item = &str> {
        let passwords = self.initial.iter().chain(self.later.values().flatten());
        passwords.flat_map(|password| &password.0).map(ExposeSecret::expose_secret)
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self(Arc::new(Snapshot::new(Known::default())))
    }
}

impl Secrets {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        let initial = secrets.map(Password::new).collect();
        Self(Arc::new(Snapshot::new(Known { initial, ..Known::default() })))
    }

    /// Adds a password that servers of this kind get from now on.
    pub(crate) fn add(&self, settings: &'static str, secret: &str) {
        if secret.is_empty() {
            return;
        }
        self.0.update(|known| {
            let mut known = known.clone();
            let later = known.later.entry(settings).or_default();
            later.retain(|password| !password.is(secret));
            later.push_back(Password::new(secret));
            if later.len() > MAX_REPLACED {
                later.pop_front();
            }
            known
        });
    }

    /// Sets the hosts that are allowed in addresses although they contain a password.
    pub(crate) fn allow_hosts(&self, hosts: Vec<String>) {
        self.0.update(|known| Known { hosts, ..known.clone() });
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
        (0..3).for_each(|_| secrets.add("", "second-password"));
        secrets.add("sentinel_", "of-sentinels");
        assert_eq!(clone.hide("first-password, second-password, of-sentinels"), "***, ***, ***");
    }

    #[test]
    fn passwords_in_use_are_remembered() {
        let secrets = Secrets::new(["initial-password"]);
        secrets.add("sentinel_", "of-sentinels");
        (0..100).for_each(|number| secrets.add("", &format!("rotated {number:08}")));
        assert_eq!(secrets.0.load().later[""].len(), MAX_REPLACED);
        assert_eq!(secrets.hide("initial-password, of-sentinels, rotated 00000099"), "***, ***, ***");
        // A password that is used again is the latest.
        secrets.add("", "rotated 00000092");
        (0..MAX_REPLACED - 1).for_each(|number| secrets.add("", &format!("other {number:08}")));
        assert_eq!(secrets.hide("rotated 00000092"), "***");
    }

    #[test]
    fn concurrent_additions_are_kept() {
        for _ in 0..100 {
            let secrets = Secrets::default();
            std::thread::scope(|scope| {
                for settings in ["", "sentinel_"] {
                    let secrets = &secrets;
                    scope.spawn(move || secrets.add(settings, &format!("secret of {settings:?}")));
                }
            });
            assert_eq!(secrets.0.load().later.len(), 2);
        }
    }

    #[test]
    fn short_password_hidden_as_separate_word() {
        assert_eq!(hidden(&["pw"], "pw 'pw' pwd"), "*** '***' pwd");
        assert_eq!(hidden(&["four"], "fourth"), "***th");
    }

    #[test]
    fn host_with_long_password_rejected_unless_configured() {
        let secrets = Secrets::new(["redis", "redis-hunter2"]);
        secrets.allow_hosts(vec!["redis-hunter2.example".to_owned()]);
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
