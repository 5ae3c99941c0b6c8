//! How a workflow ends that never came to run: as Argo ends one whose first pod never came to run.

use k8s_openapi::jiff::Timestamp;

/// The message of a workflow that was stopped or terminated.
pub fn stopped(shutdown: &str) -> String {
    format!("Stopped with strategy '{shutdown}'")
}

/// The message of a workflow whose time is over: `spec.activeDeadlineSeconds` after it was created. The value may be a
/// string where it came from a parameter; what is no number is no deadline.
pub fn overdue(deadline: &serde_json::Value, created: i64, now: Timestamp) -> Option<&'static str> {
    let seconds = deadline.as_i64().or_else(|| deadline.as_str()?.parse().ok())?;
    (now.as_second() >= created.saturating_add(seconds)).then_some("Step exceeded its deadline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::none(json!(null), false)]
    #[case::to_come(json!(101), false)]
    #[case::over(json!(100), true)]
    #[case::over_as_text(json!("100"), true)]
    #[case::not_known(json!("{{workflow.parameters.t}}"), false)]
    fn when_time_is_over(#[case] deadline: Value, #[case] over: bool) {
        assert_eq!(overdue(&deadline, 1000, Timestamp::from_second(1100).unwrap()).is_some(), over);
    }
}
