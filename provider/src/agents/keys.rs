//! Which keys machines were seen with: who has seen a later key of a machine takes no earlier one again.
//!
//! A state knows a machine by the pin of a key, which stays when the key is renewed: an agent's statements lead from it to the key in
//! force. So that a key that was laid down is worth nothing, the latest one that was seen is noted beside the state
//! ([`crate::keys`]), and read back before an agent is spoken to.

use super::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use trust::Pin;

/// The latest keys seen, by the pin by which their machine is known. Objects may know of different ones: all of them count.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Keys {
    /// Whether a machine with this lineage, the key in force last, is the one that is known by `pin`; its key then is the latest seen.
    pub(super) fn judge(&self, address: &str, pin: Pin, lineage: &[Pin]) -> Result<(), Error> {
        let Some(found) = lineage.last().copied() else { return Err(other(address, pin, pin)) };
        let mut noted = self.lock();
        let seen = noted.get(&pin.to_string()).cloned().unwrap_or_default();
        let is_told = |key: &String| lineage.iter().any(|own| own.to_string() == *key);
        match (lineage.contains(&pin), seen.iter().find(|key| !is_told(key))) {
            (true, None) => {}
            (true, Some(latest)) => {
                return Err(Error::OldKey { address: address.to_owned(), latest: latest.clone(), found });
            }
            (false, _) => return Err(other(address, pin, found)),
        }
        if found != pin {
            noted.insert(pin.to_string(), BTreeSet::from([found.to_string()]));
        }
        Ok(())
    }

    /// The latest key seen of the machine that is known by `pin`, if it is another.
    pub(super) fn latest(&self, pin: &str) -> Option<String> {
        self.lock().get(pin)?.first().cloned()
    }

    /// Takes in what was noted once.
    pub(super) fn recall(&self, pin: &str, key: &str) {
        self.lock().entry(pin.to_owned()).or_default().insert(key.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn other(address: &str, expected: Pin, found: Pin) -> Error {
    Error::OtherKey { address: address.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> [Pin; 4] {
        [b"1", b"2", b"3", b"4"].map(|key| Pin::of(key))
    }

    #[test]
    fn who_has_seen_a_later_key_takes_no_earlier_one() {
        let ([one, two, three, stranger], keys) = (pins(), Keys::default());
        keys.judge("a", one, &[one]).unwrap();
        assert_eq!(keys.latest(&one.to_string()), None);
        keys.judge("a", one, &[one, two]).unwrap();
        assert_eq!(keys.latest(&one.to_string()), Some(two.to_string()));
        assert!(matches!(keys.judge("a", one, &[one]), Err(Error::OldKey { found, .. }) if found == one));
        keys.judge("a", one, &[one, two, three]).unwrap();
        assert!(matches!(keys.judge("a", one, &[one, two]), Err(Error::OldKey { found, .. }) if found == two));
        assert!(
            matches!(keys.judge("a", one, &[one, stranger]), Err(Error::OldKey { .. })),
            "signed by a key laid down"
        );
        assert!(matches!(keys.judge("a", one, &[stranger]), Err(Error::OtherKey { found, .. }) if found == stranger));
        // Known by a key in between.
        keys.judge("a", two, &[one, two, three]).unwrap();
    }

    #[test]
    fn what_was_noted_counts_whoever_noted_it() {
        let ([one, two, three, _], keys) = (pins(), Keys::default());
        keys.recall(&one.to_string(), &two.to_string());
        keys.recall(&one.to_string(), &three.to_string());
        assert!(keys.judge("a", one, &[one, two]).is_err());
        keys.judge("a", one, &[one, two, three]).unwrap();
        assert_eq!(keys.latest(&one.to_string()), Some(three.to_string()));
    }
}
