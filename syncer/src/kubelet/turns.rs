//! How many logs are read at one time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::work::locked;

/// Of all namespaces together; each is a connection to a WEC.
pub const MOST: usize = 512;
/// Of one namespace: nobody's workflow of many pods keeps the others from their logs.
pub const SHARE: usize = 128;

/// Those that are being read, by namespace.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, usize>>);

/// One of them.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    namespace: String,
}

impl Turns {
    /// `None`: there are too many.
    pub fn take(self: &Arc<Self>, namespace: &str) -> Option<Turn> {
        let mut taken = locked(&self.0);
        if taken.values().sum::<usize>() >= MOST || taken.get(namespace).is_some_and(|own| *own >= SHARE) {
            return None;
        }
        *taken.entry(namespace.to_owned()).or_default() += 1;
        Some(Turn { turns: Arc::clone(self), namespace: namespace.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = locked(&self.turns.0);
        if let Some(own) = taken.get_mut(&self.namespace) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_a_share_and_all_no_more_than_there_are() {
        let turns = Arc::new(Turns::default());
        let take = |namespace: &str| -> Vec<Turn> { std::iter::from_fn(|| turns.take(namespace)).collect() };
        let mut own = take("a");
        assert_eq!(own.len(), SHARE);
        let others: Vec<Vec<Turn>> = ["b", "c", "d", "e"].map(take).into();
        assert_eq!(others.iter().map(Vec::len).collect::<Vec<_>>(), [SHARE, SHARE, SHARE, 0]);
        own.pop();
        assert_eq!(take("e").len(), 1);
        drop(others);
        assert_eq!(take("a").len(), 1);
    }
}
