//! `kubectl argosy leave`: undoes `join`.

use anyhow::{Context, Result, bail};
use argosy_api::workflow::{SpecView, Workflow};
use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::within;
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::ask::{ask, cluster_uid, told};
use crate::connect::ControlArgs;
use crate::join::{account, register};
use crate::member::MemberArgs;
use crate::ownership::is_ours;
use crate::workflows::{Routed, routed};

/// How many workflows are named.
const NAMED: usize = 5;

/// Let no more workflows run in a cluster, and undo what `join` made for it
///
/// Refuses while workflows routed to the cluster are not completed. In the control cluster the WorkloadCluster goes, and
/// the Secret that `join` made. In the workload cluster, if the command line says where it is, the account and its rights
/// go, and finished copies are released from the finalizer that keeps them for their status; its namespace and the
/// copies themselves stay. May be run again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LeaveArgs {
    /// Name of the cluster
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    member: MemberArgs,
    /// Namespace of Argosy in the control cluster
    #[arg(short, long, default_value = "argosy", help_heading = "Control cluster")]
    namespace: String,
    /// Identity of the control cluster on the copies: the chart's controlId, if it was set [default: the UID of its
    /// kube-system namespace]
    #[arg(long, value_name = "ID", help_heading = "Control cluster")]
    control_id: Option<String>,
    /// Leave although workflows are not completed: they run on in the workload cluster, and their status stays there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  kubectl argosy leave paris --member-context paris

  # A cluster that is gone, with everything that ran there
  kubectl argosy leave lost --force";

/// Runs the verb.
pub async fn run(args: LeaveArgs, control: &ControlArgs) -> Result<()> {
    let name = args.name.as_str();
    let member = if args.member.is_given() { Some(args.member.connect(control).await?.1) } else { None };
    let control = control.client().await?;
    let cluster = register::find(&control, name).await?;
    if cluster.is_none() && member.is_none() {
        bail!("there is no WorkloadCluster {name}; say with --member-context where to undo what `join` made");
    }
    refuse_follower(&control, &args.namespace, name, cluster.as_ref()).await?;
    // Who the other side is has to be clear before anything goes.
    let member = match member {
        Some(client) => Some(Member::meet(client, &control, name, cluster.as_ref()).await?),
        None => None,
    };
    let running = routed(&control, Some(name)).await?;
    if !args.force
        && let Some(refusal) = refusal(name, &running)
    {
        bail!(refusal);
    }
    if let Some(cluster) = &cluster {
        delete_cluster(&control, name, cluster).await?;
    }
    delete_secret(&control, &args.namespace, name, cluster.as_ref()).await?;
    match member {
        Some(member) => {
            let control_id = args.control_id.as_deref().unwrap_or(&member.control_uid);
            member.release_copies(name, control_id).await?;
            member.delete_account(name, &args.member.member_namespace).await?;
        }
        None => eprintln!("the account in the workload cluster stays: leave again with --member-context to delete it"),
    }
    crate::print(&format!("workloadcluster.argosy.dev/{name} left\n"))
}

/// Fails while the syncer would make the WorkloadCluster again, after its ClusterProfile.
async fn refuse_follower(
    control: &Client,
    namespace: &str,
    name: &str,
    cluster: Option<&WorkloadCluster>,
) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(control.clone(), namespace);
    let secret = register::secret_of(name, cluster);
    let there = ask(&format!("read Secret {namespace}/{secret}"), api.get_opt(&secret)).await?;
    if there.is_some_and(|there| there.labels().contains_key(names::CLUSTER_PROFILE)) {
        let label = names::CLUSTER_PROFILE;
        bail!(
            "WorkloadCluster {name} follows a ClusterProfile and would come again: `kubectl label secret -n {namespace} \
             {secret} {label}-` first, which cordons it"
        );
    }
    Ok(())
}

/// Why the cluster cannot leave yet.
fn refusal(cluster: &str, running: &[Routed]) -> Option<String> {
    let names: Vec<&str> = running.iter().take(NAMED).map(|workflow| workflow.name.as_str()).collect();
    let more = if running.len() > NAMED { ", …" } else { "" };
    let count = match running.len() {
        0 => return None,
        1 => "1 workflow that is not completed is".to_owned(),
        count => format!("{count} workflows that are not completed are"),
    };
    Some(format!(
        "{count} routed to {cluster}: {}{more}; wait for them (`kubectl patch workloadcluster {cluster} --type merge -p \
         '{{\"spec\":{{\"cordoned\":true}}}}'` keeps new ones away), delete them, or leave with --force",
        names.join(", ")
    ))
}

async fn delete_cluster(control: &Client, name: &str, cluster: &WorkloadCluster) -> Result<()> {
    let api: Api<WorkloadCluster> = Api::all(control.clone());
    let preconditions = Some(Preconditions { uid: cluster.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    ask(&format!("delete WorkloadCluster {name}"), api.delete(name, &params)).await?;
    eprintln!("deleted WorkloadCluster {name}");
    Ok(())
}

async fn delete_secret(control: &Client, namespace: &str, name: &str, cluster: Option<&WorkloadCluster>) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(control.clone(), namespace);
    let secret = register::secret_of(name, cluster);
    let title = format!("Secret {namespace}/{secret}");
    let there = ask(&format!("read {title}"), api.get_opt(&secret)).await?;
    match there {
        Some(there) if is_ours(Some(there.labels()), name) => {
            ask(&format!("delete {title}"), api.delete(&secret, &DeleteParams::default())).await?;
            eprintln!("deleted {title}");
        }
        Some(_) => eprintln!("{title} stays: `kubectl argosy join` did not make it"),
        None => {}
    }
    Ok(())
}

/// The workload cluster, as its administrator.
struct Member {
    client: Client,
    control_uid: String,
    /// Other WorkloadClusters that lead there too.
    others: Vec<String>,
}

impl Member {
    async fn meet(client: Client, control: &Client, name: &str, cluster: Option<&WorkloadCluster>) -> Result<Self> {
        let uid = cluster_uid(&client, "the workload cluster").await?;
        if let Some(known) = cluster.and_then(pinned).filter(|known| *known != uid) {
            bail!(
                "the workload cluster given is not {name}, but another one (kube-system UID {uid}, {name} has {known})"
            );
        }
        let control_uid = cluster_uid(control, "the control cluster").await?;
        let clusters = register::list(control, &ListParams::default()).await?;
        let leads_there = |other: &&WorkloadCluster| other.name_any() != name && pinned(other) == Some(uid.as_str());
        let others = clusters.iter().filter(leads_there).map(ResourceExt::name_any).collect();
        Ok(Self { client, control_uid, others })
    }

    /// Takes our finalizer off finished copies: no status of theirs will be asked for.
    async fn release_copies(&self, cluster: &str, control_id: &str) -> Result<()> {
        let all: Api<Workflow<SpecView, ()>> = Api::all(self.client.clone());
        let ours = format!("{}={control_id},{}={cluster}", names::CONTROL, names::CLUSTER);
        let copies = match within(all.list_metadata(&ListParams::default().labels(&ours))).await {
            Ok(copies) => copies.items,
            // No Argo Workflows there, so no copies.
            Err(error) if error.status() == Some(404) => return Ok(()),
            Err(error) => return Err(told("list the copies in the workload cluster", &error)),
        };
        let held = copies.iter().filter(|copy| copy.finalizers().iter().any(|name| name == names::STATUS_RETURN));
        let is_done = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(names::ARGO_COMPLETED).is_some_and(|completed| completed == "true")
        };
        let (done, running): (Vec<_>, Vec<_>) = held.partition(|copy| is_done(copy.labels()));
        for copy in &done {
            let (namespace, name) = (copy.namespace().unwrap_or_default(), copy.name_any());
            let kept: Vec<&String> = copy.finalizers().iter().filter(|name| *name != names::STATUS_RETURN).collect();
            let patch = Patch::Merge(json!({"metadata": {
                "uid": copy.uid(), "resourceVersion": copy.resource_version(), "finalizers": kept,
            }}));
            let api: Api<Workflow<SpecView, ()>> = Api::namespaced(self.client.clone(), &namespace);
            match within(api.patch_metadata(&name, &PatchParams::default(), &patch)).await {
                Ok(_) => {}
                // Gone meanwhile.
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(told(&format!("release the copy {namespace}/{name}"), &error)),
            }
        }
        if !done.is_empty() {
            eprintln!("finished copies released in the workload cluster: {}", done.len());
        }
        if !running.is_empty() {
            eprintln!(
                "copies in the workload cluster that are not finished and keep the finalizer {}: {}; leave again when they are",
                names::STATUS_RETURN,
                running.len()
            );
        }
        Ok(())
    }

    async fn delete_account(&self, name: &str, namespace: &str) -> Result<()> {
        if let Some(other) = self.others.first() {
            eprintln!(
                "the account in the workload cluster stays: WorkloadCluster {other} leads there as well as {name}"
            );
            return Ok(());
        }
        let objects = account::objects(namespace, &self.control_uid, &account::Grants::NONE)?;
        let deleted = account::delete(&self.client, &objects, &self.control_uid).await;
        if deleted.context("the account in the workload cluster is left")? > 0 {
            eprintln!("namespace {namespace} in the workload cluster stays, for it may hold other things");
        }
        Ok(())
    }
}

fn pinned(cluster: &WorkloadCluster) -> Option<&str> {
    cluster.status.as_ref()?.cluster_uid.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, None)]
    #[case(1, Some("1 workflow that is not completed is routed to c: ns/w0; wait"))]
    #[case(5, Some("5 workflows that are not completed are routed to c: ns/w0, ns/w1, ns/w2, ns/w3, ns/w4; wait"))]
    #[case(7, Some("7 workflows that are not completed are routed to c: ns/w0, ns/w1, ns/w2, ns/w3, ns/w4, …; wait"))]
    fn running_workflows_are_counted_and_the_first_named(#[case] count: usize, #[case] expected: Option<&str>) {
        let running: Vec<Routed> =
            (0..count).map(|i| Routed { name: format!("ns/w{i}"), cluster: "c".into(), is_running: true }).collect();
        let refusal = refusal("c", &running);
        assert_eq!(refusal.is_some(), expected.is_some());
        assert!(refusal.unwrap_or_default().starts_with(expected.unwrap_or_default()));
    }
}
