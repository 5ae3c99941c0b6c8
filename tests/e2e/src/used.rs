//! Whether Argosy's accounts need their rights: what the API servers have logged of their requests, against what the charts
//! grant.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use testbed::cluster::audit;
use testbed::layout::CONTROL;

use crate::cases::rights::{Role, Rule, granted};
use crate::world::World;

/// A right that the tests need not make use of.
pub(crate) struct Untried {
    pub(crate) account: &'static str,
    /// `VERB RESOURCE`
    pub(crate) right: &'static str,
    pub(crate) why: &'static str,
}

const KUBESTELLAR: &str = "where KubeStellar's CRDs are, as the syncer does";
const TEMPLATES: &str = "a workflow of its own cluster that refers to one, as the syncer does";
const CLUSTER_TEMPLATES: &str = "ClusterWorkflowTemplates are copied as WorkflowTemplates are";
const REFERENCES: &str = "no workflow of the tests refers to one";
const FOLLOWED: &str = "copies follow their originals, as those of ConfigMaps do";
const REPLICAS: &str = "a webhook that is a pod tells its replicas; on played nodes they are named to it";

const fn untried(account: &'static str, right: &'static str, why: &'static str) -> Untried {
    Untried { account, right, why }
}

pub(crate) const UNTRIED: [Untried; 23] = [
    untried("argosy-agent", "list bindingpolicies", KUBESTELLAR),
    untried("argosy-agent", "watch bindingpolicies", KUBESTELLAR),
    untried("argosy-agent", "list customtransforms", KUBESTELLAR),
    untried("argosy-agent", "watch customtransforms", KUBESTELLAR),
    untried("argosy-agent", "get workflowtemplates", TEMPLATES),
    untried("argosy-agent", "get clusterworkflowtemplates", TEMPLATES),
    untried("argosy-agent", "patch events", "the same Event again"),
    untried("argosy-syncer", "patch events", "the same Event again"),
    untried("argosy-syncer", "get clusterworkflowtemplates", CLUSTER_TEMPLATES),
    untried("argosy-syncer", "create clusterworkflowtemplates", CLUSTER_TEMPLATES),
    untried("argosy-syncer", "patch clusterworkflowtemplates", CLUSTER_TEMPLATES),
    untried("argosy-syncer", "delete clusterworkflowtemplates", CLUSTER_TEMPLATES),
    untried("argosy-syncer", "patch workflowtemplates", FOLLOWED),
    untried("argosy-syncer", "patch secrets", FOLLOWED),
    untried("argosy-syncer", "get persistentvolumeclaims", REFERENCES),
    untried("argosy-syncer", "get priorityclasses", REFERENCES),
    untried("argosy-syncer", "get storageclasses", REFERENCES),
    untried("argosy-syncer", "get services/proxy", "nodes in a database, which is another testbed's"),
    untried("argosy-webhook", "get namespaces", "a namespace that is newer than the watch"),
    untried("argosy-webhook", "create secrets", "the first start of all"),
    untried("argosy-webhook", "get endpointslices", REPLICAS),
    untried("argosy-webhook", "list endpointslices", REPLICAS),
    untried("argosy-webhook", "watch endpointslices", REPLICAS),
];

/// A request of an account's.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    account: String,
    verb: String,
    /// With the subresource.
    resource: String,
    group: String,
    name: String,
}

#[derive(Deserialize)]
struct Event {
    verb: String,
    user: User,
    #[serde(rename = "objectRef")]
    object: Option<Object>,
    #[serde(rename = "responseStatus", default)]
    answer: Answer,
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    code: u16,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Object {
    resource: String,
    subresource: String,
    api_group: String,
    name: String,
}

/// Fails if a right was not used since the testbed came up. Makes sense only after all cases.
///
/// # Errors
/// Which ones were not, and are not among those that need not be.
pub async fn check(world: &World) -> Result<()> {
    let mut unused = BTreeSet::new();
    let wecs: Vec<&str> = world.testbed.wecs().iter().map(|wec| wec.name.as_str()).collect();
    for ((_, roles), clusters) in granted(world).await?.into_iter().zip([vec![CONTROL], wecs]) {
        let mut used = BTreeSet::new();
        for cluster in clusters {
            used.extend(read(world, cluster)?);
        }
        for Role { account, rules, .. } in &roles {
            unused.extend(rules.iter().flat_map(|rule| missing(account, rule, &used)));
        }
    }
    unused.retain(|right| !UNTRIED.iter().any(|untried| *right == format!("{}: {}", untried.account, untried.right)));
    ensure!(unused.is_empty(), "nothing in the tests used these rights: {unused:#?}");
    Ok(())
}

fn read(world: &World, cluster: &str) -> Result<BTreeSet<Used>> {
    let path = audit::log(&world.testbed.layout, cluster);
    let log = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut used = BTreeSet::new();
    for line in log.lines() {
        let event: Event = serde_json::from_str(line).with_context(|| format!("reading {}", path.display()))?;
        let account = event.user.username.rsplit(':').next().unwrap_or_default().to_owned();
        let Some(object) = event.object.filter(|_| ![401, 403].contains(&event.answer.code)) else { continue };
        let sub = if object.subresource.is_empty() { String::new() } else { format!("/{}", object.subresource) };
        let resource = format!("{}{sub}", object.resource);
        used.insert(Used { account, verb: event.verb, resource, group: object.api_group, name: object.name });
    }
    Ok(used)
}

/// What of a rule nothing used.
fn missing(account: &str, rule: &Rule, used: &BTreeSet<Used>) -> Vec<String> {
    let list = |text: &str| text.split(", ").filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (groups, names) = (list(&rule.groups), list(&rule.names));
    let is_account = |used: &Used| match account.strip_prefix("argosy-agent") {
        // One for each cluster.
        Some(_) => used.account.starts_with("argosy-agent-"),
        None => used.account == account,
    };
    let is_group =
        |used: &Used| groups.iter().any(|group| *group == used.group || (group == "core" && used.group.is_empty()));
    // Names are given where the chart knows them: a placeholder stands for any.
    let is_name =
        |used: &Used| names.is_empty() || names.iter().any(|name| *name == used.name || name.contains("NAME"));
    let mut missing = Vec::new();
    for resource in list(&rule.resources) {
        for verb in list(&rule.verbs) {
            let is_used = used.iter().any(|used| {
                is_account(used) && used.verb == verb && used.resource == resource && is_group(used) && is_name(used)
            });
            if !is_used {
                missing.push(format!("{account}: {verb} {resource}"));
            }
        }
    }
    missing
}
