//! What a pod does, and what comes next for it: the annotations that drive it, and the one decision that the player
//! takes, as a pure function.
//!
//! | annotation on the pod | value | without it |
//! |---|---|---|
//! | `player.argosy.dev/duration` | how long its containers run: `30s`, `1.5s`, `2m30s` | `500ms` |
//! | `player.argosy.dev/exit-code` | exit code of its main container, 0 to 255 | `0` |
//! | `player.argosy.dev/message` | what the main container leaves as its termination message | none |
//! | `player.argosy.dev/outputs` | JSON, as `outputs` of Argo's WorkflowTaskResult: `{"parameters": [{"name": "n", "value": "v"}], "result": "r", "exitCode": "0"}` | none |
//!
//! A Workflow sets them in `spec.templates[].metadata.annotations`, or for all its pods in
//! `spec.podMetadata.annotations`. *Main* is the container `main`, or the first one that isn't Argo's `wait`; all others
//! exit with 0 when it does. An annotation that cannot be read fails the pod with a message that says so; so does an
//! output parameter that the template declares and neither `outputs` nor `valueFrom.default` gives, because Argo would
//! wait for it for ever. A pod with restartPolicy Always runs until it is deleted; no container is ever restarted.
//! `activeDeadlineSeconds` is kept, and so is a signal that Argo's controller sends into a container.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::pod::{ArgoStep, Phase, Pod};
use super::status::{self, Ends};

const DURATION: &str = "player.argosy.dev/duration";
const EXIT_CODE: &str = "player.argosy.dev/exit-code";
const MESSAGE: &str = "player.argosy.dev/message";
const OUTPUTS: &str = "player.argosy.dev/outputs";

const DEFAULT_DURATION: SignedDuration = SignedDuration::from_millis(500);

/// What a pod's annotations ask of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    pub(crate) duration: SignedDuration,
    pub(crate) exit_code: i32,
    pub(crate) message: Option<String>,
    pub(crate) outputs: Option<Map<String, Value>>,
}

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("annotation {annotation}: {value:?}: expected {expected}")]
pub(crate) struct ScriptError {
    annotation: &'static str,
    value: String,
    expected: &'static str,
}

/// What the player does next for a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing, until the pod changes.
    Rest,
    /// Look again then.
    Wait(Timestamp),
    /// Let it run: bind it to the node if `bind`, and write the status.
    Start { bind: bool, status: Box<PodStatus> },
    /// Let it end: save its outputs, then write the status.
    Finish { result: Option<TaskResult>, status: Box<PodStatus> },
    /// It was deleted: write the status if there is one, then remove it for good.
    Remove { status: Option<Box<PodStatus>> },
}

/// What Argo's executor would report through a WorkflowTaskResult.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskResult {
    pub(crate) step: ArgoStep,
    pub(crate) outputs: Map<String, Value>,
}

impl Script {
    /// Reads a pod's annotations.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> Result<Self, ScriptError> {
        fn parse<T>(
            annotations: &BTreeMap<String, String>,
            annotation: &'static str,
            expected: &'static str,
            read: impl FnOnce(&str) -> Option<T>,
        ) -> Result<Option<T>, ScriptError> {
            let Some(value) = annotations.get(annotation) else { return Ok(None) };
            read(value).map(Some).ok_or_else(|| ScriptError { annotation, value: value.clone(), expected })
        }
        Ok(Script {
            duration: parse(annotations, DURATION, "a duration such as 500ms, 30s or 2m30s", |value| {
                value.trim().parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative())
            })?
            .unwrap_or(DEFAULT_DURATION),
            exit_code: parse(annotations, EXIT_CODE, "an exit code, 0 to 255", |value| {
                value.trim().parse::<u8>().ok()
            })?
            .unwrap_or_default()
            .into(),
            message: annotations.get(MESSAGE).cloned(),
            outputs: parse(
                annotations,
                OUTPUTS,
                "a JSON object such as {\"parameters\": [], \"result\": \"\"}",
                |value| serde_json::from_str(value).ok(),
            )?,
        })
    }
}

/// What comes next for `pod` at `now`, on the node called `node`.
pub(crate) fn next(pod: &Pod, node: &str, now: Timestamp) -> Next {
    let elsewhere = pod.node.as_deref().is_some_and(|its| its != node);
    if elsewhere {
        return Next::Rest;
    }
    match (pod.deleting, pod.phase) {
        // Grace 0: removed already but for somebody's finalizers.
        (Some(0), _) => Next::Rest,
        (Some(_), Phase::Running) => Next::Remove { status: Some(status::killed(pod, now)) },
        (Some(_), _) => Next::Remove { status: None },
        (None, Phase::Finished) => Next::Rest,
        (None, Phase::Pending) if pod.gated => Next::Rest,
        (None, Phase::Pending) => match &pod.script {
            Ok(_) => Next::Start { bind: pod.node.is_none(), status: status::running(pod, now) },
            // Bound or not: a status can be written to both.
            Err(error) => Next::Finish { result: None, status: status::refused(pod, &error.to_string(), now) },
        },
        (None, Phase::Running) => run(pod, now),
    }
}

/// What comes next for a pod whose containers run.
fn run(pod: &Pod, now: Timestamp) -> Next {
    let script = match &pod.script {
        Ok(script) => script,
        Err(error) => return Next::Finish { result: None, status: status::refused(pod, &error.to_string(), now) },
    };
    if let Some(signal) = pod.signal {
        return Next::Finish { result: None, status: status::stopped(pod, signal, now) };
    }
    let started = pod.started.unwrap_or(now);
    let after = |duration| started.checked_add(duration).unwrap_or(Timestamp::MAX);
    let end = (!pod.stays).then(|| after(script.duration));
    let deadline = pod.active_deadline.map(|seconds| after(SignedDuration::from_secs(seconds)));
    let finish = |end: Timestamp| {
        if deadline.is_some_and(|deadline| deadline < end) {
            return Next::Finish { result: None, status: status::deadline_exceeded(pod, now) };
        }
        match outputs(pod.argo.as_ref(), script) {
            Ok(result) => {
                let ends = Ends { main: script.exit_code, message: script.message.clone(), ..Ends::default() };
                Next::Finish { result, status: status::finished(pod, ends, now) }
            }
            Err(why) => without_outputs(pod, why, now),
        }
    };
    match [end, deadline].into_iter().flatten().min() {
        None => Next::Rest,
        Some(due) if due > now => Next::Wait(due),
        Some(_) => finish(end.unwrap_or(Timestamp::MAX)),
    }
}

/// The end of a step whose outputs could not be saved, as Argo's executor reports it: its container `wait` fails.
pub(crate) fn without_outputs(pod: &Pod, why: String, now: Timestamp) -> Next {
    let main = pod.script.as_ref().map_or(0, |script| script.exit_code);
    let ends = Ends { main, wait: Some(why), ..Ends::default() };
    Next::Finish { result: None, status: status::finished(pod, ends, now) }
}

/// What the executor would save: what the annotation says, and the defaults of what it leaves out.
fn outputs(argo: Option<&ArgoStep>, script: &Script) -> Result<Option<TaskResult>, String> {
    let Some(step) = argo else { return Ok(None) };
    let mut outputs = script.outputs.clone().unwrap_or_default();
    let mut parameters = match outputs.remove("parameters") {
        None => Vec::new(),
        Some(Value::Array(parameters)) => parameters,
        Some(_) => return Err(format!("annotation {OUTPUTS}: parameters: expected a list")),
    };
    for (name, default) in &step.parameters {
        if parameters.iter().any(|parameter| parameter["name"] == name.as_str()) {
            continue;
        }
        match default {
            Some(value) => parameters.push(json!({"name": name, "value": value})),
            // What fails anyhow needs no outputs.
            None if script.exit_code != 0 => {}
            None => {
                return Err(format!(
                    "output parameter {name:?} has no value: give it one in the annotation {OUTPUTS} of the template"
                ));
            }
        }
    }
    if !parameters.is_empty() {
        outputs.insert("parameters".into(), parameters.into());
    }
    if step.wants_result && !outputs.contains_key("result") {
        outputs.insert("result".into(), "".into());
    }
    Ok((!outputs.is_empty()).then(|| TaskResult { step: step.clone(), outputs }))
}

#[cfg(test)]
mod tests {
    use super::super::pod::{Container, PodKey};
    use super::*;

    const NODE: &str = "cluster1-node";
    const NOW: &str = "2026-01-01T00:01:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn script(annotations: &[(&str, &str)]) -> Result<Script, ScriptError> {
        Script::read(
            &annotations.iter().map(|(name, value)| (format!("player.argosy.dev/{name}"), (*value).into())).collect(),
        )
    }

    fn container(name: &str) -> Container {
        Container { name: name.into(), image: "i".into() }
    }

    /// A step of a Workflow: pending, and nowhere yet.
    fn pending(annotations: &[(&str, &str)]) -> Pod {
        Pod {
            key: PodKey { namespace: "n".into(), name: "p".into() },
            uid: "u".into(),
            version: 1,
            node: None,
            phase: Phase::Pending,
            gated: false,
            stays: false,
            active_deadline: None,
            init_containers: vec![container("init")],
            containers: vec![container("wait"), container("main"), container("sidecar")],
            started: None,
            signal: None,
            deleting: None,
            argo: Some(ArgoStep {
                workflow: "w".into(),
                workflow_uid: "wu".into(),
                node_id: "w-1".into(),
                parameters: vec![],
                wants_result: false,
            }),
            script: script(annotations),
        }
    }

    /// The same, running since 00:00:30.
    fn running(annotations: &[(&str, &str)]) -> Pod {
        Pod {
            node: Some(NODE.into()),
            phase: Phase::Running,
            started: Some(time("2026-01-01T00:00:30Z")),
            ..pending(annotations)
        }
    }

    /// A step in one line: what it does, the phase, the exit codes by container, messages.
    fn told(next: Next) -> String {
        let status = |status: &PodStatus| {
            let phase = status.phase.clone().unwrap_or_default();
            let ends = status.container_statuses.iter().flatten().filter_map(|container| {
                let state = container.state.as_ref()?.terminated.as_ref()?;
                let message = state.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
                Some(format!(" {}={}{message}", container.name, state.exit_code))
            });
            let message = status.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            format!("{phase}{}{message}", ends.collect::<String>())
        };
        match next {
            Next::Rest => "rest".into(),
            Next::Wait(until) => format!("wait until {until}"),
            Next::Start { bind, status: s } => format!("{}{}", if bind { "bind, " } else { "" }, status(&s)),
            Next::Finish { result, status: s } => {
                let outputs = result.map(|result| format!("outputs {}, ", Value::Object(result.outputs)));
                format!("{}{}", outputs.unwrap_or_default(), status(&s))
            }
            Next::Remove { status: Some(s) } => format!("remove, {}", status(&s)),
            Next::Remove { status: None } => "remove".into(),
        }
    }

    fn step(pod: &Pod) -> String {
        told(next(pod, NODE, time(NOW)))
    }

    #[test]
    fn a_pod_goes_through_its_phases() {
        let on_node = |pod: Pod| Pod { node: Some(NODE.into()), ..pod };
        let table = [
            ("new", pending(&[]), "bind, Running"),
            ("bound", on_node(pending(&[])), "Running"),
            ("held by a gate", Pod { gated: true, ..pending(&[]) }, "rest"),
            ("on another node", Pod { node: Some("other".into()), ..pending(&[]) }, "rest"),
            ("runs, short", running(&[]), "Succeeded wait=0 main=0 sidecar=0"),
            ("runs, long", running(&[("duration", "1m")]), "wait until 2026-01-01T00:01:30Z"),
            ("its time is up", running(&[("duration", "30s")]), "Succeeded wait=0 main=0 sidecar=0"),
            ("no start known", Pod { started: None, ..running(&[]) }, "wait until 2026-01-01T00:01:00.5Z"),
            ("stays", Pod { stays: true, ..running(&[("duration", "1s")]) }, "rest"),
            ("ended", Pod { phase: Phase::Finished, ..running(&[]) }, "rest"),
            (
                "fails",
                running(&[("exit-code", "3"), ("message", "no data")]),
                "Failed wait=0 main=3 (no data) sidecar=0",
            ),
            (
                "runs beyond its deadline",
                Pod { active_deadline: Some(20), ..running(&[("duration", "1h")]) },
                "Failed wait=143 main=143 sidecar=143: Pod was active on the node longer than the specified deadline",
            ),
            (
                "has a deadline ahead",
                Pod { active_deadline: Some(40), ..running(&[("duration", "1h")]) },
                "wait until 2026-01-01T00:01:10Z",
            ),
            (
                "stays until its deadline",
                Pod { stays: true, active_deadline: Some(20), ..running(&[]) },
                "Failed wait=143 main=143 sidecar=143: Pod was active on the node longer than the specified deadline",
            ),
            (
                "ends before its deadline",
                Pod { active_deadline: Some(20), ..running(&[]) },
                "Succeeded wait=0 main=0 sidecar=0",
            ),
            (
                "stopped by the controller",
                Pod { signal: Some(15), ..running(&[("duration", "1h")]) },
                "Failed wait=0 main=143 sidecar=143",
            ),
            ("stopped before it ran", Pod { signal: Some(9), ..pending(&[]) }, "bind, Running"),
            ("deleted before it ran", Pod { deleting: Some(30), ..on_node(pending(&[])) }, "remove"),
            (
                "deleted while it ran",
                Pod { deleting: Some(30), ..running(&[("duration", "1h")]) },
                "remove, Failed wait=143 main=143 sidecar=143",
            ),
            ("deleted after its end", Pod { deleting: Some(30), phase: Phase::Finished, ..running(&[]) }, "remove"),
            ("held by a finalizer", Pod { deleting: Some(0), phase: Phase::Finished, ..running(&[]) }, "rest"),
            (
                "no step of a Workflow",
                Pod { argo: None, containers: vec![container("c"), container("d")], ..running(&[("exit-code", "1")]) },
                "Failed c=1 d=0",
            ),
        ];
        for (name, pod, expected) in table {
            assert_eq!(step(&pod), expected, "{name}");
        }
    }

    #[test]
    fn outputs_are_what_the_annotation_says_and_the_defaults_of_the_rest() {
        let declared = |parameters: &[(&str, Option<&str>)], wants_result: bool, annotations: &[(&str, &str)]| {
            let mut pod = running(annotations);
            let step = pod.argo.as_mut().unwrap();
            step.parameters = parameters.iter().map(|(n, d)| ((*n).into(), d.map(Into::into))).collect();
            step.wants_result = wants_result;
            step_of(&pod)
        };
        fn step_of(pod: &Pod) -> String {
            step(pod)
        }
        let done = "Succeeded wait=0 main=0 sidecar=0";
        let given = r#"{"parameters":[{"name":"a","value":"1"}],"result":"r"}"#;
        assert_eq!(declared(&[], false, &[("outputs", given)]), format!("outputs {given}, {done}"));
        assert_eq!(declared(&[("a", Some("0"))], true, &[("outputs", given)]), format!("outputs {given}, {done}"));
        assert_eq!(
            declared(&[("a", None), ("b", Some("2"))], false, &[("outputs", given)]),
            format!(
                r#"outputs {{"parameters":[{{"name":"a","value":"1"}},{{"name":"b","value":"2"}}],"result":"r"}}, {done}"#
            )
        );
        assert_eq!(declared(&[], true, &[]), format!(r#"outputs {{"result":""}}, {done}"#));
        assert_eq!(declared(&[], false, &[("outputs", "{}")]), done);
        assert_eq!(
            declared(&[("b", None)], false, &[("outputs", given)]),
            "Failed wait=64 (output parameter \"b\" has no value: give it one in the annotation \
             player.argosy.dev/outputs of the template) main=0 sidecar=0"
        );
        assert_eq!(
            declared(&[("b", None)], false, &[("exit-code", "2")]),
            "Failed wait=0 main=2 sidecar=0",
            "what fails needs no outputs"
        );
        assert_eq!(
            declared(&[], false, &[("outputs", r#"{"parameters":{}}"#)]),
            "Failed wait=64 (annotation player.argosy.dev/outputs: parameters: expected a list) main=0 sidecar=0"
        );
    }

    #[test]
    fn annotations_are_read_or_refused_with_what_was_expected() {
        let good =
            script(&[("duration", " 2m30s "), ("exit-code", "255"), ("message", "m"), ("outputs", "{}")]).unwrap();
        assert_eq!(
            good,
            Script {
                duration: SignedDuration::from_secs(150),
                exit_code: 255,
                message: Some("m".into()),
                outputs: Some(Map::new()),
            }
        );
        assert_eq!(script(&[("duration", "1.5s")]).unwrap().duration, SignedDuration::from_millis(1500));
        assert_eq!(script(&[("duration", "500ms")]).unwrap(), script(&[]).unwrap());
        let table = [
            ("duration", "soon", "a duration such as 500ms, 30s or 2m30s"),
            ("duration", "-1s", "a duration such as 500ms, 30s or 2m30s"),
            ("exit-code", "256", "an exit code, 0 to 255"),
            ("outputs", "[]", "a JSON object such as {\"parameters\": [], \"result\": \"\"}"),
        ];
        for (name, value, expected) in table {
            let message = format!("annotation player.argosy.dev/{name}: {value:?}: expected {expected}");
            assert_eq!(script(&[(name, value)]).unwrap_err().to_string(), message);
            assert_eq!(step(&pending(&[(name, value)])), format!("Failed: {message}"));
            assert_eq!(step(&running(&[(name, value)])), format!("Failed wait=143 main=143 sidecar=143: {message}"));
        }
    }
}
