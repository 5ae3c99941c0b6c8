//! Chance that can be had again.

use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result};

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub struct Dice {
    pub seed: u64,
    state: u64,
}

impl Dice {
    /// With the seed in `E2E_SEED`, or any.
    ///
    /// # Errors
    /// That is no number.
    pub fn new() -> Result<Self> {
        let seed = match std::env::var("E2E_SEED") {
            Ok(text) => text.parse().with_context(|| format!("E2E_SEED={text:?}: expected a number"))?,
            Err(_) => RandomState::new().hash_one(std::process::id()),
        };
        Ok(Self { seed, state: seed })
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
