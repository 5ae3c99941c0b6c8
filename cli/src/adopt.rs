//! `kubectl argosy adopt`: what a control cluster of before left running in a workload cluster is bound to originals here.

use anyhow::{Result, bail};
use argosy_api::{Delivery, Workflow, names, workflow};
use argosy_runtime::client::within;
use clap::{ArgGroup, Args};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use crate::ask::{ask, cluster_uid, told};
use crate::connect::ControlArgs;
use crate::join::register;
use crate::member::MemberArgs;

/// Copies per answer; each has its whole status.
const PAGE: u32 = 50;

/// Bind workflows that a control cluster of before left in a cluster to this one
///
/// For a control cluster that was rebuilt: its objects have other UIDs than before, so the copies in the workload clusters
/// are nobody's. The syncer leaves such copies alone and says so (condition Adopted of the WorkloadCluster). Install Argosy,
/// join the clusters, restore namespaces with their rules, but no routed workflows: this makes them again from their copies,
/// and what runs goes on. May be run again. Needs an administrator's rights in both clusters.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("member").required(true).multiple(true).args(["member_context", "member_kubeconfig"]))]
pub struct AdoptArgs {
    /// Name of the cluster
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    member: MemberArgs,
    /// Identity of this control cluster on its copies: the chart's controlId, if it was set [default: the UID of its
    /// kube-system namespace]
    #[arg(long, value_name = "ID", help_heading = "Control cluster")]
    control_id: Option<String>,
    /// Identity of the control cluster of before, if it was another one
    #[arg(long, value_name = "ID", help_heading = "Control cluster")]
    from: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  # Both control clusters had the same controlId
  kubectl argosy adopt paris --member-context paris --control-id fleet

  # The one before had none: label argosy.dev/control on the copies says who it was
  kubectl argosy adopt paris --member-context paris --from 5f0c7e3a-6d0e-4a53-9d3a-0a3e0f5c9a11";

type Whole = Workflow<Map<String, Value>, Value>;
type Known = PartialObjectMeta<Workflow<(), ()>>;

/// What becomes of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// There is no original: one is made from it.
    Make,
    /// An original waits for it.
    Bind,
    /// It is this control cluster's own, or none of Argosy's.
    Pass,
    /// Why it stays as it is.
    Leave(&'static str),
}

/// The control cluster and who it is, and the workload cluster.
struct Here<'a> {
    cluster: &'a str,
    control: Client,
    member: Client,
    id: String,
    uid: String,
}

/// Runs the verb.
pub async fn run(args: AdoptArgs, control: &ControlArgs) -> Result<()> {
    let name = args.name.as_str();
    let member = args.member.client(args.member.kubeconfig(control)?).await?;
    let control = control.client().await?;
    let Some(cluster) = register::find(&control, name).await? else {
        bail!("there is no WorkloadCluster {name}: join it first");
    };
    let member_uid = cluster_uid(&member, "the workload cluster").await?;
    match cluster.status.as_ref().and_then(|status| status.cluster_uid.as_ref()) {
        Some(known) if *known != member_uid => bail!(
            "the workload cluster given is not {name}, but another one (kube-system UID {member_uid}, {name} has {known})"
        ),
        _ => {}
    }
    let uid = cluster_uid(&control, "the control cluster").await?;
    let id = args.control_id.clone().unwrap_or_else(|| uid.clone());
    let here = Here { cluster: name, control, member, id, uid };
    let (mut adopted, mut left) = (0, 0);
    let from = args.from.as_deref().unwrap_or(&here.id);
    let api: Api<Whole> = Api::all(here.member.clone());
    let mut params = ListParams::default()
        .labels(&format!("{} in ({from},{}),{}={name}", names::CONTROL, here.id, names::CLUSTER))
        .limit(PAGE);
    loop {
        let page = ask("list the copies in the workload cluster", api.list(&params)).await?;
        for copy in &page.items {
            let key = format!("{}/{}", copy.namespace().unwrap_or_default(), copy.name_any());
            let done = match here.verdict(copy).await? {
                Verdict::Pass => continue,
                Verdict::Leave(why) => Err(why.to_owned()),
                _ if args.dry_run => Ok(()),
                Verdict::Make => here.make(copy, from).await,
                Verdict::Bind => here.bind(copy).await,
            };
            match done {
                Ok(()) => {
                    adopted += 1;
                    crate::print(&format!("workflow.argoproj.io {key} adopted\n"))?;
                }
                Err(why) => {
                    left += 1;
                    eprintln!("workflow.argoproj.io {key} left alone: {why}");
                }
            }
        }
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => break,
        }
    }
    let summary = format!("adopted {adopted}, left alone {left}{}", if args.dry_run { " (dry run)" } else { "" });
    if left > 0 { bail!(summary) } else { crate::print(&format!("{summary}\n")) }
}

impl Here<'_> {
    async fn original(&self, copy: &Whole) -> Result<Option<Known>> {
        let (namespace, name) = (copy.namespace().unwrap_or_default(), copy.name_any());
        let api: Api<Workflow<(), ()>> = Api::namespaced(self.control.clone(), &namespace);
        ask(&format!("read Workflow {namespace}/{name}"), api.get_metadata_opt(&name)).await
    }

    async fn verdict(&self, copy: &Whole) -> Result<Verdict> {
        if !is_of_before(copy, &self.id, &self.uid) {
            return Ok(Verdict::Pass);
        }
        Ok(verdict(self.original(copy).await?.as_ref(), self.cluster))
    }

    /// Creates the original, and binds the copy to it. The syncer has to know the copy before, and whose it is yet: or it
    /// would find the name taken by a stranger, and end the original.
    async fn make(&self, copy: &Whole, from: &str) -> Result<(), String> {
        let made_by = copy.annotations().get(names::CONTROL_CLUSTER).map_or(from, String::as_str);
        if made_by == self.uid {
            return Err("this very control cluster made it, under another identity".to_owned());
        }
        self.write(copy, json!({names::CONTROL: self.id}), json!({names::CONTROL_CLUSTER: made_by})).await?;
        let namespace = copy.namespace().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.control.clone(), &namespace, &workflow::api_resource());
        let made = within(api.create(&PostParams::default(), &original_of(copy, self.cluster))).await;
        made.map_err(|error| format!("its original cannot be created: {}", error.message()))?;
        self.bind(copy).await
    }

    /// Lets the copy be that of the original which is there.
    async fn bind(&self, copy: &Whole) -> Result<(), String> {
        let original = self.original(copy).await.map_err(|error| error.to_string())?;
        let Some(original) = original.filter(|original| verdict(Some(original), self.cluster) == Verdict::Bind) else {
            return Err("its original is not what it was a moment ago".to_owned());
        };
        let labels = json!({names::CONTROL: self.id, names::ORIGIN: original.uid()});
        let attempt = attempt(&original).to_string();
        let annotations = json!({names::CONTROL_CLUSTER: self.uid, names::ATTEMPT: attempt});
        self.write(copy, labels, annotations).await
    }

    /// Writes to the copy, if it is still there.
    async fn write(&self, copy: &Whole, labels: Value, annotations: Value) -> Result<(), String> {
        let (namespace, name) = (copy.namespace().unwrap_or_default(), copy.name_any());
        let api: Api<Whole> = Api::namespaced(self.member.clone(), &namespace);
        // No resourceVersion: Argo writes to it, too, and to none of these.
        let patch = Patch::Merge(json!({"metadata": {
            "uid": copy.uid(), "labels": labels, "annotations": annotations,
        }}));
        let written = within(api.patch_metadata(&name, &PatchParams::default(), &patch)).await;
        written.map(drop).map_err(|error| told(&format!("write to the copy {namespace}/{name}"), &error).to_string())
    }
}

/// Which attempt at delivering the original is under way: the first, unless something else is written down.
fn attempt(original: &Known) -> u32 {
    delivery(original).map_or(1, |delivery| delivery.attempt)
}

fn delivery(original: &Known) -> Option<Delivery> {
    original.annotations().get(names::DELIVERY).and_then(|text| serde_json::from_str(text).ok())
}

/// Whether another control cluster than this one, which has this identity and UID, made the copy.
fn is_of_before(copy: &Whole, id: &str, uid: &str) -> bool {
    let annotation = |name: &str| copy.annotations().get(name);
    let is_copy = annotation(names::COPY).is_some_and(|name| *name == copy.name_any());
    let is_ours = copy.labels().get(names::CONTROL).is_some_and(|control| control == id)
        && annotation(names::CONTROL_CLUSTER).is_none_or(|made_by| made_by == uid);
    is_copy && !is_ours
}

fn verdict(original: Option<&Known>, cluster: &str) -> Verdict {
    let Some(original) = original else { return Verdict::Make };
    let label = |name: &str| original.labels().get(name).map(String::as_str);
    match label(names::CLUSTER) {
        _ if original.metadata.deletion_timestamp.is_some() => {
            Verdict::Leave("a workflow of this name is being deleted")
        }
        _ if label(names::ARGO_COMPLETED) == Some("true") => Verdict::Leave("a workflow of this name has ended here"),
        Some(routed) if routed == cluster => match delivery(original).and_then(|delivery| delivery.copy) {
            None => Verdict::Bind,
            Some(_) => Verdict::Leave("a workflow of this name has its copy already"),
        },
        Some("") => Verdict::Leave("a workflow of this name waits for a cluster: delete it, and adopt again"),
        _ => Verdict::Leave("a workflow of this name runs elsewhere"),
    }
}

/// The original that the copy may have been made of. What Argosy and Argo themselves noted on it is left out.
fn original_of(copy: &Whole, cluster: &str) -> DynamicObject {
    const NOTED: [&str; 5] =
        [names::CONTROL, names::ORIGIN, names::ARGO_COMPLETED, names::ARGO_PHASE, names::ARGO_ARCHIVING];
    let mut labels = copy.labels().clone();
    labels.retain(|key, _| !NOTED.contains(&key.as_str()));
    labels.insert(names::CLUSTER.to_owned(), cluster.to_owned());
    let mut annotations = copy.annotations().clone();
    annotations.retain(|key, _| !key.starts_with(names::PREFIX));
    let mut spec = copy.spec.clone().unwrap_or_default();
    // How it stands with the copy the returned status says, and what its user did to it is done.
    spec.remove("shutdown");
    if spec.insert("suspend".to_owned(), Value::Bool(true)) == Some(Value::Bool(true)) {
        annotations.insert(names::SUSPEND.to_owned(), "true".to_owned());
    }
    let name = copy.name_any();
    let mut original = DynamicObject::new(&name, &workflow::api_resource()).data(json!({"spec": spec}));
    original.metadata.namespace = copy.namespace();
    original.metadata.labels = Some(labels);
    original.metadata.annotations = Some(annotations);
    original
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn copy(metadata: Value) -> Whole {
        serde_json::from_value(json!({"metadata": metadata, "spec": {"entrypoint": "e", "shutdown": "Stop"}})).unwrap()
    }

    #[rstest]
    #[case::of_the_one_before("fleet", Some("old"), "w", true)]
    #[case::ours("fleet", Some("new"), "w", false)]
    #[case::ours_from_an_older_version("fleet", None, "w", false)]
    #[case::of_another_identity("other", Some("old"), "w", true)]
    #[case::of_another_identity_and_older_version("other", None, "w", true)]
    #[case::made_from_a_copy("fleet", Some("old"), "another", false)]
    fn whose_a_copy_is(#[case] id: &str, #[case] made_by: Option<&str>, #[case] of: &str, #[case] expected: bool) {
        let copy = copy(
            json!({
                "name": "w", "labels": {names::CONTROL: id},
                "annotations": {names::COPY: of, names::CONTROL_CLUSTER: made_by},
            })
            .as_object()
            .map(|all| {
                let mut all = all.clone();
                if made_by.is_none() {
                    all["annotations"].as_object_mut().unwrap().remove(names::CONTROL_CLUSTER);
                }
                Value::Object(all)
            })
            .unwrap(),
        );
        assert_eq!(is_of_before(&copy, "fleet", "new"), expected);
    }

    fn known(labels: Value, delivery: Option<&str>) -> Known {
        let annotations: Map<String, Value> =
            delivery.map(|text| (names::DELIVERY.to_owned(), json!(text))).into_iter().collect();
        serde_json::from_value(json!({"metadata": {"name": "w", "labels": labels, "annotations": annotations}}))
            .unwrap()
    }

    #[rstest]
    #[case::restored(json!({names::CLUSTER: "c"}), None, "Bind")]
    #[case::restored_and_recorded(json!({names::CLUSTER: "c"}), Some(r#"{"attempt":3,"cluster":"c","clusterUid":"k"}"#), "Bind")]
    #[case::runs(json!({names::CLUSTER: "c"}), Some(r#"{"attempt":1,"cluster":"c","clusterUid":"k","copy":"x"}"#), "Leave")]
    #[case::elsewhere(json!({names::CLUSTER: "d"}), None, "Leave")]
    #[case::waits(json!({names::CLUSTER: ""}), None, "Leave")]
    #[case::local(json!({}), None, "Leave")]
    #[case::ended(json!({names::CLUSTER: "c", names::ARGO_COMPLETED: "true"}), None, "Leave")]
    fn what_becomes_of_a_copy_whose_name_is_taken(
        #[case] labels: Value,
        #[case] delivery: Option<&str>,
        #[case] expected: &str,
    ) {
        let verdict = format!("{:?}", verdict(Some(&known(labels, delivery)), "c"));
        assert!(verdict.starts_with(expected), "{verdict}");
    }

    #[test]
    fn an_original_is_what_its_user_wrote() {
        let copy = copy(json!({
            "name": "w", "namespace": "n", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
            "labels": {"team": "a", names::CONTROL: "x", names::ORIGIN: "y", names::ARGO_PHASE: "Running", names::CLUSTER: "c"},
            "annotations": {"note": "n", names::COPY: "w", names::ATTEMPT: "1"},
        }));
        let made = serde_json::to_value(original_of(&copy, "c")).unwrap();
        let expected = json!({
            "name": "w", "namespace": "n", "labels": {"team": "a", names::CLUSTER: "c"}, "annotations": {"note": "n"},
        });
        assert_eq!(made["metadata"], expected);
        assert_eq!(made["spec"], json!({"entrypoint": "e", "suspend": true}));
        let suspended = Whole {
            spec: copy.spec.clone().map(|mut spec| {
                spec.insert("suspend".into(), json!(true));
                spec
            }),
            ..copy
        };
        assert_eq!(original_of(&suspended, "c").annotations()[names::SUSPEND], "true");
    }
}
