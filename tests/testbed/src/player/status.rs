//! The statuses that a kubelet would write, in the stages of a pod's life.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pod::{Container, Phase, Pod, WAIT};

/// 128 + SIGTERM.
const TERMINATED: i32 = 143;
/// What Argo's executor exits with when it fails itself.
const EXECUTOR_ERROR: i32 = 64;

/// How a pod's containers end.
#[derive(Default)]
pub(super) struct Ends {
    /// Exit code of the main container.
    pub(super) main: i32,
    /// Its termination message.
    pub(super) message: Option<String>,
    /// Why the container `wait` fails, if it does.
    pub(super) wait: Option<String>,
}

/// Init containers are done, all others run.
pub(super) fn running(pod: &Pod, now: Timestamp) -> Box<PodStatus> {
    let done = |container| terminated(container, now, now, 0, None);
    let runs = |container: &Container| {
        let running = ContainerStateRunning { started_at: Some(Time(now)) };
        let state = ContainerState { running: Some(running), ..Default::default() };
        container_status(container, state, true)
    };
    Box::new(PodStatus {
        phase: Some("Running".into()),
        start_time: Some(Time(now)),
        // Without nodes nobody can reach a pod; the address is there for whoever demands one.
        host_ip: Some("127.0.0.1".into()),
        pod_ip: Some("127.0.0.1".into()),
        conditions: Some(conditions(now, now, None)),
        init_container_statuses: Some(pod.init_containers.iter().map(done).collect()),
        container_statuses: Some(pod.containers.iter().map(runs).collect()),
        ..Default::default()
    })
}

/// All containers have ended, as `ends` says.
pub(super) fn finished(pod: &Pod, ends: Ends, now: Timestamp) -> Box<PodStatus> {
    let main = pod.main().map(|container| container.name.as_str());
    let end = |container: &Container| {
        if main == Some(container.name.as_str()) {
            (ends.main, ends.message.clone())
        } else if container.name == WAIT
            && let Some(why) = &ends.wait
        {
            (EXECUTOR_ERROR, Some(why.clone()))
        } else {
            (0, None)
        }
    };
    ended(pod, now, end)
}

/// All containers were stopped because the pod was deleted.
pub(super) fn killed(pod: &Pod, now: Timestamp) -> Box<PodStatus> {
    ended(pod, now, |_| (TERMINATED, None))
}

/// All containers were stopped by a signal, save Argo's `wait`, which catches it and ends in peace.
pub(super) fn stopped(pod: &Pod, signal: u8, now: Timestamp) -> Box<PodStatus> {
    ended(pod, now, |container| (if container.name == WAIT { 0 } else { 128 + i32::from(signal) }, None))
}

/// All containers were stopped because of `activeDeadlineSeconds`.
pub(super) fn deadline_exceeded(pod: &Pod, now: Timestamp) -> Box<PodStatus> {
    let mut status = ended(pod, now, |_| (TERMINATED, None));
    status.reason = Some("DeadlineExceeded".into());
    status.message = Some("Pod was active on the node longer than the specified deadline".into());
    status
}

/// Nothing was started, or all containers were stopped, because of what the pod's annotations say.
pub(super) fn refused(pod: &Pod, message: &str, now: Timestamp) -> Box<PodStatus> {
    let mut status = match pod.phase {
        Phase::Running => ended(pod, now, |_| (TERMINATED, None)),
        _ => Box::new(PodStatus { phase: Some("Failed".into()), start_time: Some(Time(now)), ..Default::default() }),
    };
    status.reason = Some("InvalidAnnotation".into());
    status.message = Some(message.into());
    status
}

fn ended(pod: &Pod, now: Timestamp, end: impl Fn(&Container) -> (i32, Option<String>)) -> Box<PodStatus> {
    let started = pod.started.unwrap_or(now);
    let ends: Vec<_> = pod.containers.iter().map(|container| (container, end(container))).collect();
    let succeeded = ends.iter().all(|(_, (code, _))| *code == 0);
    let reason = if succeeded { "PodCompleted" } else { "PodFailed" };
    let statuses =
        ends.into_iter().map(|(container, (code, message))| terminated(container, started, now, code, message));
    Box::new(PodStatus {
        phase: Some(if succeeded { "Succeeded" } else { "Failed" }.into()),
        conditions: Some(conditions(started, now, Some(reason))),
        container_statuses: Some(statuses.collect()),
        ..Default::default()
    })
}

fn container_status(container: &Container, state: ContainerState, ready: bool) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        image_id: String::new(),
        ready,
        started: Some(ready),
        state: Some(state),
        ..Default::default()
    }
}

fn terminated(
    container: &Container,
    started: Timestamp,
    now: Timestamp,
    exit_code: i32,
    message: Option<String>,
) -> ContainerStatus {
    let state = ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code,
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.into()),
            message,
            started_at: Some(Time(started)),
            finished_at: Some(Time(now)),
            ..Default::default()
        }),
        ..Default::default()
    };
    container_status(container, state, false)
}

/// The conditions of a pod that was started at `started`; `over` is why it isn't ready any more.
fn conditions(started: Timestamp, now: Timestamp, over: Option<&str>) -> Vec<PodCondition> {
    let condition = |type_: &str, holds: bool, since: Timestamp| PodCondition {
        type_: type_.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: over.filter(|_| !holds).map(Into::into),
        last_transition_time: Some(Time(since)),
        ..Default::default()
    };
    vec![
        condition("PodScheduled", true, started),
        condition("Initialized", true, started),
        condition("ContainersReady", over.is_none(), now),
        condition("Ready", over.is_none(), now),
    ]
}
