//! Conditions, as Kubernetes keeps them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Puts a condition among `conditions`, in the place of the one of its type: another order would be a write. Its transition
/// time is that of the one before, unless its status is another.
pub fn set(
    conditions: &mut Vec<Condition>,
    r#type: &str,
    (status, reason, message): (&str, &str, &str),
    generation: Option<i64>,
    now: Timestamp,
) {
    let known = conditions.iter_mut().find(|known| known.type_ == r#type);
    let since = known.as_ref().filter(|known| known.status == status);
    let condition = Condition {
        type_: r#type.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
    };
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
