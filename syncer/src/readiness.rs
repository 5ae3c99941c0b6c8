//! When a cluster counts as ready, look by look: one missed answer does not lose it, and one good answer after it was
//! lost does not bring it back.

use argosy_api::WorkloadClusterStatus;
use argosy_api::workload_cluster::{READY, UNREACHABLE};

use crate::health::{Seen, Trouble};

/// So many unanswered looks in a row make a cluster not ready.
const MISSED: u32 = 3;
/// So many good looks in a row make one that was lost ready again.
const GOOD: u32 = 2;

/// What is known from the looks so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    phase: Phase,
    /// Whether the cluster has ever answered.
    met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next look decides.
    Open,
    Ready {
        missed: u32,
    },
    /// It did not answer, and before that it did.
    Lost {
        good: u32,
    },
}

/// What a look means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Ready(Seen),
    NotReady(Trouble),
    /// It stays as it was until the next look, soon.
    Undecided(Option<Trouble>),
}

impl Readiness {
    /// Goes on from what was reported last, perhaps by another process.
    pub fn from_status(status: Option<&WorkloadClusterStatus>) -> Self {
        let met = status.is_some_and(|status| status.cluster_uid.is_some());
        let ready = status.and_then(|status| status.condition(READY));
        let is_lost = met && ready.is_some_and(|ready| ready.status == "False" && ready.reason == UNREACHABLE);
        Self { phase: if is_lost { Phase::Lost { good: 0 } } else { Phase::Open }, met }
    }

    /// The way to the cluster is another one: what it was before says nothing.
    pub fn reset(&mut self) {
        self.phase = Phase::Open;
    }

    pub fn judge(&mut self, look: Result<Seen, Trouble>) -> Verdict {
        match look {
            Ok(seen) => self.answered(seen),
            Err(trouble) => self.failed(trouble),
        }
    }

    fn answered(&mut self, seen: Seen) -> Verdict {
        self.met = true;
        match self.phase {
            Phase::Lost { good } if good + 1 < GOOD => {
                self.phase = Phase::Lost { good: good + 1 };
                Verdict::Undecided(None)
            }
            _ => {
                self.phase = Phase::Ready { missed: 0 };
                Verdict::Ready(seen)
            }
        }
    }

    fn failed(&mut self, trouble: Trouble) -> Verdict {
        let is_unreachable = trouble.reason == UNREACHABLE;
        self.phase = match self.phase {
            Phase::Ready { missed } if is_unreachable && missed + 1 < MISSED => {
                self.phase = Phase::Ready { missed: missed + 1 };
                return Verdict::Undecided(Some(trouble));
            }
            // An API server that starts may refuse at first: other troubles do not end a loss.
            Phase::Lost { .. } => Phase::Lost { good: 0 },
            _ if is_unreachable && self.met => Phase::Lost { good: 0 },
            _ => Phase::Open,
        };
        Verdict::NotReady(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::WorkloadCluster;
    use rstest::rstest;
    use serde_json::json;

    fn seen() -> Seen {
        Seen { cluster_uid: "u".into(), version: "v".into(), argo: Ok(()), capacity: None, of_before: None }
    }

    /// Looks as letters: `o` an answer, `u` none, `f` a refusal, `!` a change of the Secret. Verdicts likewise: `R`
    /// ready, `N` not ready, `.` as before.
    fn verdicts(mut readiness: Readiness, looks: &str) -> String {
        let trouble = |reason| Trouble { reason, message: String::new() };
        let mut said = String::new();
        for look in looks.chars() {
            let look = match look {
                'o' => Ok(seen()),
                'u' => Err(trouble(UNREACHABLE)),
                'f' => Err(trouble("Forbidden")),
                _ => {
                    readiness.reset();
                    continue;
                }
            };
            said.push(match readiness.judge(look) {
                Verdict::Ready(_) => 'R',
                Verdict::NotReady(_) => 'N',
                Verdict::Undecided(_) => '.',
            });
        }
        said
    }

    #[rstest]
    #[case::first_contact_counts_at_once("o", "R")]
    #[case::first_contact_after_vain_tries("uuo", "NNR")]
    #[case::one_missed_answer_is_nothing("ouo", "R.R")]
    #[case::answers_missed_in_a_row("oouuu", "RR..N")]
    #[case::answers_missed_now_and_then("ouuouuo", "R..R..R")]
    #[case::back_after_two_good_looks("ouuuoo", "R..N.R")]
    #[case::two_in_a_row("ouuuouooo", "R..N.N.RR")]
    #[case::and_lost_again("ouuuoouuuoo", "R..N.R..N.R")]
    #[case::a_changed_secret_counts_at_once("ouuu!o", "R..NR")]
    #[case::refused_at_once("of", "RN")]
    #[case::no_longer_refused("ofo", "RNR")]
    #[case::refused_while_coming_back("ouuuofoo", "R..N.N.R")]
    #[case::refused_before_the_first_answer("fo", "NR")]
    fn looks_in_a_row(#[case] looks: &str, #[case] expected: &str) {
        assert_eq!(verdicts(Readiness::from_status(None), looks), expected);
    }

    #[rstest]
    #[case::never_answered("False", "Unreachable", None, "oo", "RR")]
    #[case::lost("False", "Unreachable", Some("u"), "oo", ".R")]
    #[case::refused("False", "Forbidden", Some("u"), "o", "R")]
    #[case::ready("True", "Connected", Some("u"), "o", "R")]
    #[case::lost_meanwhile("True", "Connected", Some("u"), "uoo", "N.R")]
    fn goes_on_from_the_status(
        #[case] status: &str,
        #[case] reason: &str,
        #[case] cluster_uid: Option<&str>,
        #[case] looks: &str,
        #[case] expected: &str,
    ) {
        let cluster: WorkloadCluster = serde_json::from_value(json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "c"},
            "spec": {"kubeconfigSecret": {"name": "s"}},
            "status": {"clusterUid": cluster_uid, "conditions": [{
                "type": "Ready", "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap();
        assert_eq!(verdicts(Readiness::from_status(cluster.status.as_ref()), looks), expected);
    }
}
