//! `kubectl argosy leave`: undoes `join`.

use anyhow::{Context, Result, bail};
use argosy_api::workflow::{SpecView, Workflow};
use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::within;
use clap::Args;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::ask::{ask, cluster_uid, told};
use crate::connect::ControlArgs;
use crate::join::{account, pull, register};
use crate::member::MemberArgs;
use crate::ownership::is_ours;
use crate::sharing::Account;
use crate::workflows::{listed, routed};

/// How often a copy is released that somebody writes to meanwhile.
const TRIES: u32 = 5;

/// Let no more workflows run in a cluster, and undo what `join` made for it
///
/// Refuses while workflows routed to the cluster are not completed. In the control cluster the WorkloadCluster goes, and
/// with it the Secret that `join` made and the syncer's Lease. In the workload cluster, if the command line says where it
/// is, the account and its rights go, unless another WorkloadCluster signs in with it, and finished copies are released
/// from the finalizer that keeps them for their status; its namespace and the copies themselves stay. May be run again.
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
    /// Leave although workflows are not completed: they run on in the workload cluster, released from the finalizer, and
    /// their status stays there
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
    let member = match args.member.is_given() {
        true => Some(args.member.client(args.member.kubeconfig(control)?).await?),
        false => None,
    };
    let control = control.client().await?;
    let cluster = register::find(&control, name).await?;
    if cluster.is_none() && member.is_none() {
        bail!("there is no WorkloadCluster {name}; say with --member-context where to undo what `join` made");
    }
    refuse_follower(&control, &args.namespace, name, cluster.as_ref()).await?;
    // Who the other side is has to be clear before anything goes.
    let member = match member {
        Some(client) => Some(Member::meet(client, &control, &args, cluster.as_ref()).await?),
        None => None,
    };
    if !args.force {
        refuse_while_live(&control, member.as_ref(), name).await?;
    }
    if let Some(cluster) = &cluster {
        delete_cluster(&control, name, cluster).await?;
    }
    delete_secret(&control, &args.namespace, name, cluster.as_ref()).await?;
    delete_lease(&control, &args.namespace, name).await?;
    let inside = member.as_ref().map(|member| (&member.client, args.member.member_namespace.as_str()));
    let control_uid = member.as_ref().map(|member| member.control_uid.as_str()).unwrap_or_default();
    pull::leave((&control, &args.namespace), name, inside, control_uid).await?;
    match member {
        Some(member) => {
            member.release_copies(name, args.force).await?;
            member.delete_account(&args.member.member_namespace).await?;
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

/// Fails while something of the cluster's is on its way: nobody would see to it afterwards.
async fn refuse_while_live(control: &Client, member: Option<&Member>, name: &str) -> Result<()> {
    let routed: Vec<String> = routed(control, Some(name)).await?.into_iter().map(|workflow| workflow.name).collect();
    let (one, many) = (
        format!("workflow routed to {name} is not completed"),
        format!("workflows routed to {name} are not completed"),
    );
    if let Some(listed) = listed(&routed, &one, &many) {
        bail!(
            "{listed}; wait for them (`kubectl patch workloadcluster {name} --type merge -p \
             '{{\"spec\":{{\"cordoned\":true}}}}'` keeps new ones away), delete them, or leave with --force"
        );
    }
    // Those have no original that is not completed.
    let Some(member) = member else { return Ok(()) };
    let copies = member.copies(name).await?.into_iter().filter(|copy| !is_done(copy));
    let copies: Vec<String> =
        copies.map(|copy| format!("{}/{}", copy.namespace().unwrap_or_default(), copy.name_any())).collect();
    let (one, many) = ("copy runs there without an original", "copies run there without their originals");
    match listed(&copies, one, many) {
        None => Ok(()),
        Some(listed) => {
            bail!("{listed}; leave again when the syncer has deleted what is left there, or leave with --force")
        }
    }
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
    let users = register::list(control, &ListParams::default()).await?;
    let others = users.iter().filter(|user| user.name_any() != name && uses(user, &secret));
    let others: Vec<String> = others.map(ResourceExt::name_any).collect();
    match there {
        Some(_) if !others.is_empty() => {
            eprintln!("{title} stays: WorkloadCluster {} uses it, too", others.join(", "));
        }
        Some(there) if is_ours(Some(there.labels()), name) => {
            ask(&format!("delete {title}"), api.delete(&secret, &DeleteParams::default())).await?;
            eprintln!("deleted {title}");
        }
        Some(_) => eprintln!("{title} stays: `kubectl argosy join` did not make it"),
        None => {}
    }
    Ok(())
}

fn uses(cluster: &WorkloadCluster, secret: &str) -> bool {
    cluster.spec.kubeconfig_secret.as_ref().is_some_and(|reference| reference.name == secret)
}

/// Nobody serves the cluster any more; who did lets go by itself.
async fn delete_lease(control: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<Lease> = Api::namespaced(control.clone(), namespace);
    let lease = names::lease(name);
    match within(api.delete(&lease, &DeleteParams::default())).await {
        Ok(_) => Ok(()),
        Err(error) if error.status() == Some(404) => Ok(()),
        Err(error) => Err(told(&format!("delete Lease {namespace}/{lease}"), &error)),
    }
}

/// The workload cluster, as its administrator.
struct Member {
    client: Client,
    control_uid: String,
    /// The control cluster's identity on its copies.
    control_id: String,
    /// Other WorkloadClusters that sign in with the account there.
    others: Vec<String>,
}

/// A copy's metadata.
type Copy = PartialObjectMeta<Workflow<SpecView, ()>>;

impl Member {
    async fn meet(client: Client, control: &Client, args: &LeaveArgs, left: Option<&WorkloadCluster>) -> Result<Self> {
        let name = &args.name;
        let uid = cluster_uid(&client, "the workload cluster").await?;
        let pinned = left.and_then(|cluster| cluster.status.as_ref()?.cluster_uid.as_ref());
        if let Some(known) = pinned.filter(|known| **known != uid) {
            bail!(
                "the workload cluster given is not {name}, but another one (kube-system UID {uid}, {name} has {known})"
            );
        }
        let control_uid = cluster_uid(control, "the control cluster").await?;
        let account = Account { member: &client, namespace: &args.member.member_namespace };
        let others = account.others(control, &args.namespace, name).await?;
        Ok(Self {
            others: others.iter().map(ResourceExt::name_any).collect(),
            control_id: args.control_id.clone().unwrap_or_else(|| control_uid.clone()),
            control_uid,
            client,
        })
    }

    /// Our copies of a cluster's workflows.
    async fn copies(&self, cluster: &str) -> Result<Vec<Copy>> {
        let all: Api<Workflow<SpecView, ()>> = Api::all(self.client.clone());
        let ours = format!("{}={},{}={cluster}", names::CONTROL, self.control_id, names::CLUSTER);
        match within(all.list_metadata(&ListParams::default().labels(&ours))).await {
            Ok(copies) => Ok(copies.items),
            // No Argo Workflows there, so no copies.
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(told("list the copies in the workload cluster", &error)),
        }
    }

    /// Takes our finalizer off finished copies, for no status of theirs will be asked for; with `force`, off all of them.
    async fn release_copies(&self, cluster: &str, force: bool) -> Result<()> {
        let copies = self.copies(cluster).await?;
        let held = copies.iter().filter(|copy| is_held(copy));
        let (done, running): (Vec<_>, Vec<_>) = held.partition(|copy| force || is_done(copy));
        for copy in &done {
            self.release(copy).await?;
        }
        if !done.is_empty() {
            let what = if force { "copies" } else { "finished copies" };
            eprintln!("{what} released in the workload cluster: {}", done.len());
        }
        if !running.is_empty() {
            eprintln!(
                "copies in the workload cluster that are not finished and keep the finalizer {}: {}; leave again when they \
                 are, or with --force",
                names::STATUS_RETURN,
                running.len()
            );
        }
        Ok(())
    }

    async fn release(&self, copy: &Copy) -> Result<()> {
        let (namespace, name) = (copy.namespace().unwrap_or_default(), copy.name_any());
        let api: Api<Workflow<SpecView, ()>> = Api::namespaced(self.client.clone(), &namespace);
        let mut copy = copy.clone();
        for _ in 0..TRIES {
            let kept: Vec<&String> = copy.finalizers().iter().filter(|name| *name != names::STATUS_RETURN).collect();
            let patch = Patch::Merge(json!({"metadata": {
                "uid": copy.uid(), "resourceVersion": copy.resource_version(), "finalizers": kept,
            }}));
            match within(api.patch_metadata(&name, &PatchParams::default(), &patch)).await {
                Ok(_) => return Ok(()),
                // Argo writes to it, too.
                Err(error) if error.status() == Some(409) => {}
                // Gone meanwhile.
                Err(error) if error.status() == Some(404) => return Ok(()),
                Err(error) => return Err(told(&format!("release the copy {namespace}/{name}"), &error)),
            }
            let live = ask(&format!("read the copy {namespace}/{name}"), api.get_metadata_opt(&name)).await?;
            match live.filter(|live| live.uid() == copy.uid() && is_held(live)) {
                Some(live) => copy = live,
                None => return Ok(()),
            }
        }
        bail!("cannot release the copy {namespace}/{name}: somebody writes to it all the time; leave again")
    }

    async fn delete_account(&self, namespace: &str) -> Result<()> {
        if !self.others.is_empty() {
            let others = self.others.join(", ");
            eprintln!("the account in the workload cluster stays: WorkloadCluster {others} signs in with it, too");
            return Ok(());
        }
        let objects = account::objects(namespace, &self.control_uid, &account::Grants::NONE, None)?;
        let deleted = account::delete(&self.client, &objects, &self.control_uid).await;
        if deleted.context("the account in the workload cluster is left")? > 0 {
            eprintln!("namespace {namespace} in the workload cluster stays, for it may hold other things");
        }
        Ok(())
    }
}

fn is_held(copy: &Copy) -> bool {
    copy.finalizers().iter().any(|name| name == names::STATUS_RETURN)
}

fn is_done(copy: &Copy) -> bool {
    copy.labels().get(names::ARGO_COMPLETED).is_some_and(|completed| completed == "true")
}
