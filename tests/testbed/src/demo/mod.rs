//! The demonstration: workflows of many kinds, created in the control cluster as users create them, each followed on
//! the original and compared with what must come of it.
#![allow(clippy::print_stdout, reason = "the report is for the person at the terminal")]

mod observe;
mod report;
mod scenario;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use argosy_api::names;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::json;

pub use observe::{Observed, observe};
pub use scenario::{ARTICLE, PLAIN, RULED, Scenario, With, scenarios};

use crate::argo::browser::{Browser, artifact_path};
use crate::process::wait_until;
use crate::{Nodes, Options, Testbed, artifacts};

/// How many workflows run at a time: two cores carry no more real pods than these make.
const AT_A_TIME: usize = 4;

/// How long what has ended may take to be shown.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a workflow.
#[derive(Debug)]
pub enum Outcome {
    Ran(Box<Ran>),
    Failed(String),
}

/// A workflow that came to its end.
#[derive(Debug)]
pub struct Ran {
    pub observed: Observed,
    /// How many pods it had where it was to run.
    pub pods: usize,
    /// A line of a pod's log, read in the control cluster, if it ran elsewhere.
    pub log: Option<String>,
    /// How large the artifact is that was served of it.
    pub served: Option<usize>,
    /// The first difference from what was expected, if there is one.
    pub difference: Option<String>,
}

/// The same testbed with what the demonstration of artifacts takes. Played nodes run nothing that could store any.
///
/// # Errors
/// What is remembered of the testbed cannot be read.
pub fn with_artifacts(options: Options) -> Result<Options> {
    let is_real = Testbed::nodes(&options)? == Nodes::Real;
    let (artifacts, argo_server) = (options.artifacts || is_real, options.argo_server || is_real);
    Ok(Options { artifacts, argo_server, ..options })
}

/// Runs the demonstration workflows and prints the report.
///
/// # Errors
/// A workflow did not do what it must.
pub async fn run(testbed: &Testbed) -> Result<()> {
    prepare(testbed).await?;
    let step = testbed.progress.step("running workflows");
    let all = scenarios(testbed.has_artifacts());
    let count = all.len();
    let mut done = 0;
    let mut outcomes = Vec::new();
    // The longest first, so that the others run beside it; shown in their own order.
    let mut order: Vec<(usize, Scenario)> = all.into_iter().enumerate().collect();
    order.sort_by_key(|(_, scenario)| !scenario.manifest.contains("30s"));
    let mut running = futures::stream::iter(order)
        .map(|(place, scenario)| async move {
            let outcome = match try_out(testbed, &scenario).await {
                Ok(ran) => Outcome::Ran(Box::new(ran)),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            (place, scenario, outcome)
        })
        .buffer_unordered(AT_A_TIME);
    while let Some(outcome) = running.next().await {
        done += 1;
        step.detail(format!("{done} of {count}"));
        outcomes.push(outcome);
    }
    step.done(format!("{count}"));
    outcomes.sort_by_key(|(place, ..)| *place);
    let outcomes: Vec<(Scenario, Outcome)> = outcomes.into_iter().map(|(_, s, o)| (s, o)).collect();
    println!("\n{}\n", report::render(&outcomes));
    let bad = outcomes.iter().filter(|(_, outcome)| !outcome.is_good()).count();
    ensure!(
        bad == 0,
        "{bad} of {count} workflows did not do what they must; logs are in {}",
        testbed.layout.logs().display()
    );
    let name = testbed.layout.name();
    let named = if name == crate::layout::DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    println!(
        "Look around:  eval \"$(cargo run -q --release -p testbed -- env control{named})\"; kubectl get wec,ns,wf -A"
    );
    println!("End it:       cargo run --release -p testbed -- down{named}");
    Ok(())
}

impl Outcome {
    fn is_good(&self) -> bool {
        matches!(self, Self::Ran(ran) if ran.difference.is_none())
    }
}

/// Makes the namespaces: one with a rule, one without; the article's is Argo's own.
///
/// # Errors
/// The API server refuses.
pub async fn prepare(testbed: &Testbed) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(testbed.control().client().await?);
    for (name, annotations) in
        [(RULED, json!({"argosy.dev/clusters": "*", "argosy.dev/strategy": "Ordered"})), (PLAIN, json!({}))]
    {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}
        });
        let params = PatchParams::apply("testbed").force();
        namespaces.patch(name, &params, &Patch::Apply(&namespace)).await.context("making the namespaces")?;
    }
    if testbed.has_artifacts() {
        artifacts::admit(testbed, RULED).await?;
    }
    Ok(())
}

/// Runs one workflow and compares.
///
/// # Errors
/// It could not be created, or did not end.
pub async fn try_out(testbed: &Testbed, scenario: &Scenario) -> Result<Ran> {
    let observed = observe(testbed, scenario).await?;
    let control = testbed.control().client().await?;
    let mut pods = count_pods(&control, scenario.namespace, &observed.name).await?;
    let mut difference = observed.check(scenario).err().map(|error| format!("{error:#}"));
    let mut log = None;
    if let Some(cluster) = scenario.cluster {
        match log_line(&control, scenario.namespace, &observed.name).await {
            Ok(line) => log = Some(line),
            Err(error) => drop(difference.get_or_insert(format!("{error:#}"))),
        }
        let here = pods;
        let wec = testbed.cluster(cluster)?.client().await?;
        pods = count_pods(&wec, scenario.namespace, &observed.name).await?;
        if here != 0 {
            difference.get_or_insert(format!("it made {here} pods in the control cluster"));
        }
    }
    if pods != scenario.pods {
        difference.get_or_insert(format!("it made {pods} pods, not {}", scenario.pods));
    }
    let mut served = None;
    if let Some((node, name, content)) = scenario.artifact {
        let wrong = match artifact(testbed, &observed.last, node, name).await {
            Ok(found) => {
                served = Some(found.len());
                let is_right = String::from_utf8_lossy(&found).contains(content);
                (!is_right).then(|| format!("its artifact {name} does not contain {content:?}"))
            }
            Err(error) => Some(format!("its artifact {name} is not served: {error:#}")),
        };
        difference = difference.or(wrong);
    }
    Ok(Ran { observed, pods, log, served, difference })
}

/// Reads a line of a log as `kubectl logs` does, where the workflow was created.
async fn log_line(control: &Client, namespace: &str, workflow: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(control.clone(), namespace);
    let selector = format!("{}={workflow},{}", names::ARGO_WORKFLOW, names::SHADOW);
    let end = LogParams { container: Some("main".to_owned()), tail_lines: Some(20), ..LogParams::default() };
    wait_until("a log in the control cluster", PATIENCE, None, || async {
        let shadows = pods.list(&ListParams::default().labels(&selector)).await?;
        let shadow = shadows.items.first().and_then(|pod| pod.metadata.name.clone());
        let log = pods.logs(&shadow.context("no pod is shown there")?, &end).await?;
        Ok(first_of_program(&log).unwrap_or("(nothing)").to_owned())
    })
    .await
}

/// The first line with words that is not Argo's executor's, which has its own to say in each container; `argo logs` leaves
/// those out as well.
fn first_of_program(log: &str) -> Option<&str> {
    let is_executors = |line: &str| line.starts_with("time=\"") || line.starts_with("Error: exit status ");
    log.lines().find(|line| line.contains(char::is_alphanumeric) && !is_executors(line)).map(str::trim)
}

/// An artifact as the UI in the control cluster shows it.
async fn artifact(testbed: &Testbed, workflow: &DynamicObject, node: &str, name: &str) -> Result<Vec<u8>> {
    let browser = Browser::sign_in(testbed, &[RULED]).await?;
    let answer = browser.get(&artifact_path(workflow, node, name)?).await?;
    ensure!(answer.status == 200, "argo-server answers {}: {}", answer.status, answer.text());
    Ok(answer.body)
}

async fn count_pods(client: &Client, namespace: &str, workflow: &str) -> Result<usize> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{}={workflow},!{}", names::ARGO_WORKFLOW, names::SHADOW);
    let listed = pods.list_metadata(&ListParams::default().labels(&selector)).await.context("counting pods")?;
    Ok(listed.items.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executors_lines_are_not_the_programs() {
        let log = "\
 _______\n< hello >\n -------\n  ||----w |\n\
time=\"2026-01-01T00:00:00Z\" level=info msg=\"sub-process exited\" argo=true error=\"<nil>\"\nError: exit status 3\n";
        assert_eq!(first_of_program(log), Some("< hello >"));
        assert_eq!(first_of_program(""), None);
    }
}
