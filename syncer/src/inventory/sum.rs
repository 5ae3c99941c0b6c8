//! Sums that can be taken back.

use std::collections::BTreeMap;

use argosy_placement::Resources;

/// What several objects have or ask for together. It holds any number of the largest quantities there are without
/// overflow: a sum that saturated would not come back to what it was once a pod that asked for 8 EiB is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum(BTreeMap<String, i128>);

impl Sum {
    pub fn add(&mut self, resources: &Resources) {
        self.change(resources.iter().map(|(name, amount)| (name, i128::from(amount))));
    }

    pub fn subtract(&mut self, resources: &Resources) {
        self.change(resources.iter().map(|(name, amount)| (name, -i128::from(amount))));
    }

    pub fn merge(&mut self, other: &Self) {
        self.change(other.0.iter().map(|(name, amount)| (name.as_str(), *amount)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().map_or(0, saturated)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), saturated(*amount)))
    }

    /// Nothing of a resource is the same as no word of it.
    fn change<'a>(&mut self, by: impl Iterator<Item = (&'a str, i128)>) {
        for (name, amount) in by.filter(|(_, amount)| *amount != 0) {
            match self.0.get_mut(name) {
                Some(sum) if *sum == -amount => drop(self.0.remove(name)),
                Some(sum) => *sum += amount,
                None => drop(self.0.insert(name.to_owned(), amount)),
            }
        }
    }
}

fn saturated(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}
