//! Names as metric labels. Each is leaked once, so that counting allocates nothing; their number is bounded.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// A label value: a literal, or a leaked name.
pub(super) type Word = &'static str;

/// The label of all names beyond the bound.
pub(super) const OTHER: Word = "other";

/// Names that have been labels.
#[derive(Debug)]
pub(super) struct Words {
    most: usize,
    known: RwLock<HashSet<Word>>,
}

impl Words {
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: RwLock::default() }
    }

    /// A name as a label; [`OTHER`] beyond the bound. Names come from the configuration.
    pub(super) fn word(&self, name: &str) -> Word {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = known.get(name) {
            return word;
        }
        if known.len() >= self.most {
            return OTHER;
        }
        let kept: Word = Box::leak(name.into());
        known.insert(kept);
        kept
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<Word> {
        let mut all: Vec<Word> = self.known.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_one_label() {
        let words = Words::new(2);
        assert_eq!(["a", "b", "c", "a", "d"].map(|name| words.word(name)), ["a", "b", OTHER, "a", OTHER]);
        assert_eq!(words.all(), ["a", "b"]);
    }
}
