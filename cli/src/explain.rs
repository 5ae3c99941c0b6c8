//! `explain`: where a workflow is or would be placed, and why. The decision is made here by the webhook's own code, from
//! what the control cluster shows; no workload cluster is asked, and nothing is written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use argosy_api::workflow::Workflow;
use argosy_api::{Placement, intents, names};
use argosy_placement::demand::{Demand, Spec};
use argosy_placement::{Decision, Fleet, Found, Namespace, Surveyed, decide, open_to, own_cluster, read_stamp, survey};
use argosy_runtime::known::{Asked, Known};
use clap::Args;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::ask::ask;
use crate::connect::ControlArgs;

/// How long the control cluster may take to show its rules and clusters.
const PATIENCE: Duration = Duration::from_secs(30);

/// Say where a workflow runs or would run, and why
///
/// For a workflow that exists: where it was placed and why, and what would be decided now. For a file: what would be
/// decided if it were created now. The first line is the answer; the rest is what it was made from.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Name of a workflow
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    workflow: Option<String>,
    /// File with a workflow, YAML or JSON; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Namespace of the workflow [default: the file's, else the context's]
    #[arg(short, long)]
    namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

type View = Workflow<Box<RawValue>, Status>;

/// Runs the verb.
pub async fn run(args: ExplainArgs, control: &ControlArgs) -> Result<()> {
    let ExplainArgs { workflow, file, namespace } = args;
    let client = control.client().await?;
    let from_file = file.as_deref().map(read).transpose()?;
    let namespace = namespace
        .or_else(|| from_file.as_ref().and_then(|view| view.metadata.namespace.clone()))
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let view = match (from_file, workflow) {
        (Some(view), _) => view,
        (None, Some(name)) => {
            let api: Api<View> = Api::namespaced(client.clone(), &namespace);
            ask(&format!("read workflow {namespace}/{name}"), api.get(&name)).await?
        }
        (None, None) => bail!("expected the name of a workflow, or -f FILE"),
    };
    let api: Api<PartialObjectMeta<v1::Namespace>> = Api::all(client.clone());
    let object = ask(&format!("read namespace {namespace}"), api.get_metadata(&namespace)).await?;
    let rules = Namespace::new(&namespace, object.labels(), object.annotations());

    let stop = CancellationToken::new();
    let (known, watches) = Known::watch(client, stop.clone());
    let watching = tokio::spawn(watches);
    let synced = tokio::time::timeout(PATIENCE, known.all_synced()).await;
    synced.context("the control cluster did not show its rules and clusters in time: is Argosy installed there, and may you list namespaces, PlacementPolicies, WorkloadClusters and WorkflowTemplates?")?;
    let told = explained(&known, &namespace, &rules, &view);
    stop.cancel();
    watching.await?;
    crate::print(&told)
}

fn read(file: &Path) -> Result<View> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    let value: serde_json::Value = serde_saphyr::from_str(&text)
        .with_context(|| format!("{}: expected one workflow as YAML or JSON", file.display()))?;
    let kind = value["kind"].as_str().unwrap_or_default();
    ensure!(kind == "Workflow", "{}: expected kind Workflow, found {kind:?}", file.display());
    serde_json::from_str(&value.to_string()).with_context(|| format!("{}: not a workflow", file.display()))
}

/// The whole answer.
fn explained(known: &Known, namespace: &str, rules: &Namespace, view: &View) -> String {
    let stamp = view.annotations().get(names::PLACEMENT);
    let stamp = stamp.and_then(|stamp| read_stamp(stamp));
    let none = BTreeMap::new();
    let labels = view.metadata.labels.as_ref().unwrap_or(&none);
    let own = own_cluster(labels.get(names::CLUSTER).map(String::as_str), stamp.as_ref());
    let asked = Asked { namespace, labels, own_cluster: own.as_deref(), chosen: None };
    let spec = || view.spec.as_ref().and_then(|spec| serde_json::from_str::<Spec>(spec.get()).ok()).unwrap_or_default();
    let now = known.explain(asked, rules, spec, Timestamp::now(), |request, found, fleet| {
        let clusters = open_to(&format!("{namespace}/{}", view.name_any()), fleet.clusters);
        let fleet = Fleet { clusters: &clusters, ..*fleet };
        Answer {
            decision: decide(request, found, &fleet),
            rule: rule(found),
            demand: request.demand.clone(),
            clusters: match found {
                Found::Rule(rule) => survey(request, rule, &fleet).into_iter().map(row).collect(),
                _ => Vec::new(),
            },
        }
    });
    let exists = view.metadata.uid.is_some();
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = if exists { recorded(&mut text, namespace, view, stamp.as_ref()) } else { Ok(()) };
    let _ = now.write(&mut text, if exists { "now it would be: " } else { "" });
    text
}

fn recorded(text: &mut String, namespace: &str, view: &View, stamp: Option<&Placement>) -> std::fmt::Result {
    let name = format!("{namespace}/{}", view.name_any());
    let status = view.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_else(|| "not begun".to_owned());
    let message = status.message.map(|message| format!(" ({message})")).unwrap_or_default();
    match stamp {
        None if view.labels().contains_key(names::CLUSTER) => {
            writeln!(text, "{name} has a label {} that Argosy has not seen; {phase}{message}", names::CLUSTER)
        }
        None => writeln!(text, "{name} runs here, for no rule was about it; {phase}{message}"),
        Some(stamp) => {
            let place = match stamp.cluster.as_str() {
                "" => "waits for a cluster".to_owned(),
                names::LOCAL => "runs here".to_owned(),
                cluster => format!("runs in {cluster}"),
            };
            writeln!(text, "{name} {place}: {} (by {}, at {}); {phase}{message}", stamp.reason, stamp.rule, stamp.time)
        }
    }?;
    let annotation = |name| view.annotations().get(name).map(String::as_str).unwrap_or_default();
    let intents = intents::read(annotation(names::INTENTS));
    for intent in intents::pending(&intents, annotation(names::INTENTS_DONE).parse().unwrap_or_default()) {
        writeln!(text, "on its way there: {}", intent.wish)?;
    }
    Ok(())
}

/// What would be decided, and what from.
struct Answer {
    decision: Decision,
    rule: String,
    demand: Demand,
    clusters: Vec<Row>,
}

/// What the rule makes of one cluster.
struct Row {
    name: String,
    verdict: String,
}

fn row(surveyed: Surveyed) -> Row {
    let verdict = match surveyed.verdict {
        Ok(score) => {
            let age = surveyed.cluster.capacity.as_ref().map(|capacity| Timestamp::now().as_second() - capacity.time);
            let age =
                age.map_or("its figures are not known".to_owned(), |age| format!("figures of {} s ago", age.max(0)));
            format!("can take it, score {score}; {age}")
        }
        Err(rejection) => rejection.why,
    };
    Row { name: surveyed.cluster.name.clone(), verdict }
}

fn rule(found: &Found) -> String {
    match found {
        Found::Unruled => "none is about its namespace".to_owned(),
        Found::NotSelected(_) => "none of those about its namespace is about it".to_owned(),
        Found::Broken(error) => error.to_string(),
        Found::Rule(rule) => format!(
            "{}: clusters {:?}, strategy {}, no-cluster {}",
            rule.source,
            rule.clusters.to_string(),
            rule.strategy,
            rule.no_cluster
        ),
    }
}

impl Answer {
    fn write(&self, text: &mut String, before: &str) -> std::fmt::Result {
        match &self.decision {
            Decision::NoRule => writeln!(text, "{before}here, for no rule is about it")?,
            Decision::Local(why) => writeln!(text, "{before}here: {}", why.reason)?,
            Decision::Place { cluster, why } => writeln!(text, "{before}{cluster}: {}", why.reason)?,
            Decision::Wait(why) => writeln!(text, "{before}it waits: {}", why.reason)?,
            Decision::Refuse { reason } => writeln!(text, "{before}refused: {reason}")?,
        }
        writeln!(text, "  rule      {}", self.rule)?;
        if !self.demand.peak.is_empty() {
            writeln!(text, "  asks for  {} at one time, at most", self.demand.peak)?;
        }
        for unknown in &self.demand.unknown {
            writeln!(text, "  not known {unknown}")?;
        }
        let width = self.clusters.iter().map(|row| row.name.len()).max().unwrap_or_default();
        for Row { name, verdict } in &self.clusters {
            writeln!(text, "  {name:width$}  {verdict}")?;
        }
        Ok(())
    }
}
