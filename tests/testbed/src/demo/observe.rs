//! Seen on the original, from its creation to its end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use argosy_api::{Placement, names};
use futures::StreamExt;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::scenario::{Scenario, With};
use crate::Testbed;

/// How long a workflow may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// What was seen of a workflow.
#[derive(Debug)]
pub struct Observed {
    pub name: String,
    /// The webhook's decision, if there was one.
    pub placement: Option<Placement>,
    /// Phases of the original, each with the time since its creation at which it was first seen.
    pub phases: Vec<(String, Duration)>,
    /// Every phase that a node of it showed.
    pub node_phases: BTreeSet<String>,
    /// Where its pods ran, as the original's status says.
    pub hosts: BTreeSet<String>,
    /// Names of annotations, labels and the like of Argosy's that were seen on it at any time.
    pub marks: BTreeSet<String>,
    /// How often the object was seen changed.
    pub versions: usize,
    pub message: String,
    /// The object as the API server answered its creation, where that is known.
    pub created: Option<DynamicObject>,
    /// The object as it was seen last.
    pub last: DynamicObject,
}

/// Creates the workflow as its user would and follows it to its end.
///
/// # Errors
/// The creation is refused, or the workflow does not end.
pub async fn observe(testbed: &Testbed, scenario: &Scenario) -> Result<Observed> {
    let client = testbed.control().client().await?;
    let start = Instant::now();
    let created = create(testbed, scenario);
    match scenario.with {
        With::KubectlCreate => {
            let created: DynamicObject =
                serde_json::from_str(&created.await?).context("kubectl printed something else than the object")?;
            let mut observed = follow(&client, scenario.namespace, &created.name_any(), start).await?;
            observed.created = Some(created);
            Ok(observed)
        }
        With::ArgoSubmitWait => {
            // `argo submit --wait` ends with the workflow. Its name is known before that only to the watch.
            let before = present(&client, scenario.namespace).await?;
            let seen = async {
                let name = appeared(&client, scenario, &before).await?;
                follow(&client, scenario.namespace, &name, start).await
            };
            Ok(tokio::try_join!(created, seen)?.1)
        }
    }
}

/// Answers what the program printed: kubectl the object as it was created.
async fn create(testbed: &Testbed, scenario: &Scenario) -> Result<String> {
    let file = testbed.layout.cluster_dir("control").join(format!("demo-{}.yaml", file_name(scenario.name)));
    crate::layout::write_file(&file, scenario.manifest, 0o644)?;
    let (file, kubeconfig) = (file.display().to_string(), testbed.control().kubeconfig.display().to_string());
    let (program, args): (&str, &[&str]) = match scenario.with {
        With::KubectlCreate => ("kubectl", &["create", "-o", "json", "-f", &file]),
        With::ArgoSubmitWait => {
            ("argo", &["submit", "--wait", "-o", "name", "--labels", "testbed/submitted=true", &file])
        }
    };
    let program = testbed.programs.path(program)?.display().to_string();
    let args = [args, &["-n", scenario.namespace, "--kubeconfig", &kubeconfig]].concat();
    crate::process::run(&program, &args).await
}

/// kubectl reads a comma as the end of a path.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn workflows(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &argosy_api::workflow::api_resource())
}

async fn present(client: &Client, namespace: &str) -> Result<BTreeSet<String>> {
    let listed = workflows(client, namespace).list_metadata(&Default::default()).await?;
    Ok(listed.items.iter().map(ResourceExt::name_any).collect())
}

/// The name of the workflow of this scenario that was not there before.
async fn appeared(client: &Client, scenario: &Scenario, before: &BTreeSet<String>) -> Result<String> {
    let mut events =
        std::pin::pin!(watcher::watcher(workflows(client, scenario.namespace), watcher::Config::default()));
    let found = async {
        while let Some(event) = events.next().await {
            if let Event::Apply(object) | Event::InitApply(object) = event?
                && !before.contains(&object.name_any())
                && object.labels().contains_key(SUBMITTED)
            {
                return Ok(object.name_any());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, found).await.context("it did not appear")?
}

/// `argo submit` is told to set it, so that its workflow can be told from others that appear at the same time.
const SUBMITTED: &str = "testbed/submitted";

async fn follow(client: &Client, namespace: &str, name: &str, start: Instant) -> Result<Observed> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(workflows(client, namespace), config));
    let mut observed: Option<Observed> = None;
    let to_the_end = async {
        while let Some(event) = events.next().await {
            let object = match event? {
                Event::Apply(object) | Event::InitApply(object) => object,
                Event::Delete(_) => bail!("it was deleted"),
                Event::Init | Event::InitDone => continue,
            };
            let seen = observed.get_or_insert_with(|| Observed::new(&object));
            seen.take_in(object, start.elapsed());
            if seen.is_done() {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let ended = tokio::time::timeout(PATIENCE, to_the_end).await;
    let so_far = observed.as_ref().map_or_else(String::new, |seen| format!("; seen so far: {}", seen.story()));
    ended
        .with_context(|| format!("{namespace}/{name} did not end within {} s{so_far}", PATIENCE.as_secs()))?
        .with_context(|| format!("following {namespace}/{name}"))?;
    observed.context("it was never seen")
}

impl Observed {
    fn new(object: &DynamicObject) -> Self {
        Self {
            name: object.name_any(),
            placement: None,
            phases: Vec::new(),
            node_phases: BTreeSet::new(),
            hosts: BTreeSet::new(),
            marks: BTreeSet::new(),
            versions: 0,
            message: String::new(),
            created: None,
            last: object.clone(),
        }
    }

    fn take_in(&mut self, object: DynamicObject, after: Duration) {
        let status = &object.data["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let phase = text(&status["phase"]);
        if !phase.is_empty() && self.phases.last().is_none_or(|(last, _)| *last != phase) {
            self.phases.push((phase, after));
        }
        for node in status["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values()) {
            self.node_phases.insert(text(&node["phase"]));
            if node["type"] == "Pod" && node["hostNodeName"].is_string() {
                self.hosts.insert(text(&node["hostNodeName"]));
            }
        }
        let keys = object.labels().keys().chain(object.annotations().keys()).chain(object.finalizers());
        self.marks.extend(keys.filter(|key| key.starts_with(names::PREFIX) || *key == names::CLUSTER).cloned());
        let stamp = object.annotations().get(names::PLACEMENT);
        self.placement = stamp.and_then(|stamp| serde_json::from_str(stamp).ok());
        self.message = text(&status["message"]);
        self.versions += 1;
        self.last = object;
    }

    /// Done is when label, phase and end agree.
    fn is_done(&self) -> bool {
        let completed = self.last.labels().get(names::ARGO_COMPLETED).is_some_and(|value| value == "true");
        completed && self.last.data["status"]["finishedAt"].is_string()
    }

    /// `Pending 0.4 s → Running 1.0 s → Succeeded 5.2 s`
    pub fn story(&self) -> String {
        let phases = self.phases.iter().map(|(phase, after)| format!("{phase} {:.1} s", after.as_secs_f32()));
        phases.collect::<Vec<_>>().join(" → ")
    }

    /// Compares with what was expected.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, scenario: &Scenario) -> Result<()> {
        let phase = self.phases.last().map_or("none", |(phase, _)| phase);
        ensure!(phase == scenario.phase, "it ended {phase}, not {}: {}", scenario.phase, self.message);
        ensure!(self.message.contains(scenario.message), "its message is {:?}", self.message);
        for phase in &self.node_phases {
            ensure!(scenario.node_phases.contains(&phase.as_str()), "a node showed the phase {phase:?}");
        }
        match (scenario.cluster, &self.placement) {
            (Some(cluster), Some(placement)) => {
                ensure!(placement.cluster == cluster, "it was placed on {}, not on {cluster}", placement.cluster);
            }
            (Some(_), None) => bail!("it has no placement"),
            (None, _) => {
                ensure!(self.marks.is_empty(), "it runs here and carries {:?}", self.marks);
                self.check_untouched(scenario)?;
            }
        }
        if let Some((name, value)) = scenario.input {
            let nodes = self.last.data["status"]["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
            let mut inputs = nodes.filter_map(|node| node["inputs"]["parameters"].as_array()).flatten();
            ensure!(
                inputs.any(|input| input["name"] == name && input["value"] == value),
                "no node got the input {name}={value}"
            );
        }
        Ok(())
    }

    /// The spec as it was sent.
    fn check_untouched(&self, scenario: &Scenario) -> Result<()> {
        let sent: Value = serde_saphyr::from_str(scenario.manifest).context("the manifest is no YAML")?;
        let created = &self.created.as_ref().context("it is not known as it was created")?.data["spec"];
        ensure!(*created == sent["spec"], "its spec at creation was {created}, sent was {}", sent["spec"]);
        Ok(())
    }
}
