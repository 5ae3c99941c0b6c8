//! What the webhook counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// How a review was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Routed to a cluster.
    Placed,
    /// Waits for a cluster.
    Waiting,
    /// Runs here by a rule, by its own label, or because it was created as completed.
    Local,
    /// Nothing here is about it.
    Unruled,
    /// Refused by rule, consent or state of the clusters, or for what its user wrote.
    Refused,
    /// What was sent cannot be read.
    Malformed,
    /// The rule could not be found out.
    Unavailable,
    /// A change that is noted for the copy.
    Noted,
    /// A change that gets old values back, and nothing is to come of it.
    Restored,
    /// A change that is left to the fence.
    Left,
    /// Nothing that the path is for.
    Unconcerned,
}

impl Outcome {
    const ALL: [Self; 11] = [
        Self::Placed,
        Self::Waiting,
        Self::Local,
        Self::Unruled,
        Self::Refused,
        Self::Malformed,
        Self::Unavailable,
        Self::Noted,
        Self::Restored,
        Self::Left,
        Self::Unconcerned,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Waiting => "waiting",
            Self::Local => "local",
            Self::Unruled => "unruled",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::Noted => "noted",
            Self::Restored => "restored",
            Self::Left => "left",
            Self::Unconcerned => "unconcerned",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// Counters of the webhook. Those by outcome are looked up once, here, and not for every review.
#[derive(Debug)]
pub struct Metrics {
    reviews: [Counter; Outcome::ALL.len()],
    seconds: Histogram,
}

impl Metrics {
    /// Metrics that appear in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register("argosy_webhook_reviews", "Admission reviews answered, by outcome", family.clone());
        // From 50 µs (a plain workflow) to 3 s (a namespace had to be asked for).
        let seconds =
            Histogram::new([0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 3.0]);
        registry.register_with_unit(
            "argosy_webhook_review_duration",
            "Time from a whole review to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        let reviews = Outcome::ALL.map(|outcome| family.get_or_create_owned(&Labels { outcome: outcome.label() }));
        Self { reviews, seconds }
    }

    pub(crate) fn count(&self, outcome: Outcome, took: Duration) {
        if let Some(counter) = self.reviews.get(outcome as usize) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_counter() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=i).for_each(|_| metrics.count(outcome, Duration::from_micros(80)));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            let line = format!("argosy_webhook_reviews_total{{outcome=\"{}\"}} {}\n", outcome.label(), i + 1);
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.contains("argosy_webhook_review_duration_seconds_count 66\n"), "{text}");
    }
}
