//! Every label, annotation and finalizer that Argosy reads or writes, in one place.

/// Label of a *routed* Workflow: the name of its `WorkloadCluster`; empty while it waits for one.
/// Taken over from KubeStellar's multi-cluster Argo set-up, whose users already set it by hand.
pub const CLUSTER: &str = "kubestellar.io/cluster";

/// Value of [`CLUSTER`] that asks for the control cluster itself. No `WorkloadCluster` may have this name.
pub const LOCAL: &str = "local";

/// Everything of Argosy's own on an object starts with this.
pub const PREFIX: &str = "argosy.dev/";

/// Namespace annotation: label selector over WorkloadClusters; its presence makes a rule.
pub const CLUSTERS: &str = "argosy.dev/clusters";

/// Namespace annotation: label selector over the namespace's Workflows; absent selects all.
pub const WORKFLOWS: &str = "argosy.dev/workflows";

/// Namespace annotation: how one is chosen among the clusters, a [`crate::Strategy`].
pub const STRATEGY: &str = "argosy.dev/strategy";

/// Namespace annotation: what becomes of a workflow that no cluster has room for, a [`crate::NoCluster`].
pub const NO_CLUSTER: &str = "argosy.dev/no-cluster";

/// Namespace annotation: what becomes of a workflow whose cluster is lost, a [`crate::LostCluster`].
pub const LOST_CLUSTER: &str = "argosy.dev/lost-cluster";

/// Namespace annotation: how long a cluster has not answered when it counts as lost, such as `10m`.
pub const LOST_AFTER: &str = "argosy.dev/lost-after";

/// Namespace annotation: what `spec.archiveLogs` of routed workflows becomes where they leave it unset. Annotation on an
/// original: what it became so, and is not its user's word; a resubmit inherits both.
pub const ARCHIVE_LOGS: &str = "argosy.dev/archive-logs";

/// Namespace annotation, written by the syncer: `true` where a policy selects the namespace, so that it fails closed
/// as one with a rule of its own does.
pub const RULED: &str = "argosy.dev/ruled";

/// Annotation on an original: the decision of the webhook, a [`crate::Placement`].
pub const PLACEMENT: &str = "argosy.dev/placement";

/// Annotation on an original: what the syncer did about it, a [`crate::Delivery`].
pub const DELIVERY: &str = "argosy.dev/delivery";

/// Annotation on an original: `true` is the user's wish that the copy be suspended.
pub const SUSPEND: &str = "argosy.dev/suspend";

/// Annotation on an original: its `spec.synchronization`, as JSON. The copy has it in its spec again; on the original the
/// control cluster's controller would take the locks, too, and hold them while the copy waits for the same ones where
/// clusters share them in a database.
pub const SYNCHRONIZATION: &str = "argosy.dev/synchronization";

/// Annotation on an original: the same of the spec that its cluster has stored for it, its template's locks among them,
/// while that stands in the status without. Written by the syncer.
pub const STORED_SYNCHRONIZATION: &str = "argosy.dev/stored-synchronization";

/// Annotation on an original: `true` is its user's word that it may run again elsewhere while a cluster that nobody hears
/// of may still be running it.
pub const RERUNNABLE: &str = "argosy.dev/rerunnable";

/// What of ours a user may write on a workflow.
pub const USERS: [&str; 2] = [SUSPEND, RERUNNABLE];

/// Annotation on an original: what its users did that is to happen to the copy, [`crate::intents::Intents`]. Written by
/// the guard alone.
pub const INTENTS: &str = "argosy.dev/intents";

/// Annotation on a copy: the number of the last intent that was carried out on it. On the original: the same, as brought
/// back with the status.
pub const INTENTS_DONE: &str = "argosy.dev/intents-done";

/// Label on a copy: the identity of the control cluster that it came from.
pub const CONTROL: &str = "argosy.dev/control";

/// Annotation on a copy: the UID of the kube-system namespace of the control cluster that made it. One that was rebuilt may
/// have the same identity, and none of the originals: nothing is done about such a copy until it is adopted.
pub const CONTROL_CLUSTER: &str = "argosy.dev/control-cluster";

/// Label on a copy: the UID of its original.
pub const ORIGIN: &str = "argosy.dev/origin";

/// Annotation on a copy: which attempt at delivering the original it belongs to.
pub const ATTEMPT: &str = "argosy.dev/attempt";

/// Annotation on a copy: its own name. What `argo resubmit` makes of a copy in the WEC inherits it, and is none of ours.
pub const COPY: &str = "argosy.dev/copy";

/// Annotation on a copy: which objects that the syncer copied for it the workflow uses, `KIND/NAME,…`. They stay while it
/// is not done.
pub const USES: &str = "argosy.dev/uses";

/// Annotation on such an object: UID and resourceVersion of what it is a copy of.
pub const SOURCE: &str = "argosy.dev/source";

/// Finalizer on a copy, so that neither its TTL nor a delete in the WEC outruns the return of its final status.
pub const STATUS_RETURN: &str = "argosy.dev/status-return";

/// Label of what `kubectl argosy join` made, which it may change again and `leave` deletes. Its value is, in the control
/// cluster, the WorkloadCluster's name; in the WEC the UID of the control cluster's kube-system namespace. The syncer
/// renews the token in a Secret that has it.
pub const JOINED: &str = "argosy.dev/joined";

/// Label of a Secret `NAME-kubeconfig` in Argosy's namespace: that of which namespace the ClusterProfile NAME is the
/// cluster that it leads to. The syncer makes a WorkloadCluster of it and writes the same label there; a WorkloadCluster
/// without it is somebody else's.
pub const CLUSTER_PROFILE: &str = "argosy.dev/cluster-profile";

/// Annotation on such a Secret: the namespaces whose workflows the cluster takes, as `NAME,NAME` or `*`; none without it.
pub const NAMESPACES: &str = "argosy.dev/namespaces";

/// Annotation on a WorkloadCluster: why the syncer cordoned it. It goes with the cordon.
pub const CORDONED: &str = "argosy.dev/cordoned";

/// Label of a pod in the control cluster that stands for one in a workload cluster: the `WorkloadCluster`. The admission
/// policies let nobody but the syncer write it.
pub const SHADOW: &str = "argosy.dev/shadow";

/// Annotation on such a pod: the UID of the one that it stands for.
pub const SHADOW_OF: &str = "argosy.dev/shadow-of";

/// Label, and key of the taints, of a virtual node: its `WorkloadCluster`.
pub const NODE_CLUSTER: &str = "argosy.dev/cluster";

/// Name of the virtual node of a cluster. The admission policies know these nodes by the prefix.
pub fn virtual_node(cluster: &str) -> String {
    format!("argosy-{cluster}")
}

/// Name of the Lease of a cluster, in Argosy's namespace of the control cluster: its holder serves the cluster.
pub fn lease(cluster: &str) -> String {
    format!("argosy-cluster-{cluster}")
}

/// Name of the account in the control cluster, in Argosy's namespace, that the syncer inside of a cluster signs in as. The
/// admission policies know these accounts by the prefix.
pub fn agent(cluster: &str) -> String {
    format!("argosy-agent-{cluster}")
}

/// Name of the Secret in a cluster with the way to the control cluster, for the syncer inside; in the namespace of its
/// account there.
pub fn agent_secret(cluster: &str) -> String {
    format!("argosy-control-{cluster}")
}

/// Name of the Lease by which a syncer says that it is there, in the same namespace.
pub fn member(identity: &str) -> String {
    format!("argosy-syncer-{identity}")
}

/// Label of these Leases.
pub const MEMBER: &str = "argosy.dev/member";

/// Kubernetes' own label that names what manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Finalizer on a `WorkloadCluster` and label value of managed objects.
pub const MANAGER: &str = "argosy";

/// Argo's label with a Workflow's phase.
pub const ARGO_PHASE: &str = "workflows.argoproj.io/phase";

/// Argo's label that says a Workflow is done (`true`).
pub const ARGO_COMPLETED: &str = "workflows.argoproj.io/completed";

/// Argo's label on a pod: the name of its Workflow.
pub const ARGO_WORKFLOW: &str = "workflows.argoproj.io/workflow";

/// Argo's annotation on a pod: the ID of its node.
pub const ARGO_NODE_ID: &str = "workflows.argoproj.io/node-id";

/// Argo's label with the state of archiving.
pub const ARGO_ARCHIVING: &str = "workflows.argoproj.io/workflow-archiving-status";

/// Argo's finalizer on a Workflow whose artifacts are to be collected: while it is there, Argo's controller makes pods for
/// that, whatever else the workflow says.
pub const ARGO_ARTIFACT_GC: &str = "workflows.argoproj.io/artifact-gc";

/// Argo's label that gives a Workflow to one controller among several.
pub const ARGO_INSTANCE: &str = "workflows.argoproj.io/controller-instanceid";
