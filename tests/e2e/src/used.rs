//! Whether Argosy's accounts need their rights: what the API servers have logged of their requests, against what the charts
//! grant.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
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

pub(crate) const UNTRIED: [Untried; 24] = [
    untried("argosy-agent", "list bindingpolicies", KUBESTELLAR),
    untried("argosy-agent", "watch bindingpolicies", KUBESTELLAR),
    untried("argosy-agent", "list customtransforms", KUBESTELLAR),
    untried("argosy-agent", "watch customtransforms", KUBESTELLAR),
    untried("argosy-agent", "get workflowtemplates", TEMPLATES),
    untried("argosy-agent", "get clusterworkflowtemplates", TEMPLATES),
    untried("argosy-agent", "patch events", "the same Event again"),
    untried("argosy-syncer", "patch events", "the same Event again"),
    untried("argosy-syncer", "create nodes", "goes with patch: what is applied may not be there yet"),
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
        let event: Value = serde_json::from_str(line).with_context(|| format!("reading {}", path.display()))?;
        let object = &event["objectRef"];
        let is_refused = [401, 403].iter().any(|code| event["responseStatus"]["code"] == *code);
        if object.is_null() || is_refused {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parts = ["resource", "subresource"].map(|part| text(&object[part]));
        used.insert(Used {
            account: text(&event["user"]["username"]).rsplit(':').next().unwrap_or_default().to_owned(),
            verb: text(&event["verb"]),
            resource: parts.join("/").trim_end_matches('/').to_owned(),
            group: text(&object["apiGroup"]),
            name: text(&object["name"]),
        });
    }
    Ok(used)
}

/// What of a rule nothing used.
fn missing(account: &str, rule: &Rule, used: &BTreeSet<Used>) -> Vec<String> {
    let is_account = |used: &Used| match account.strip_prefix("argosy-agent") {
        // One for each cluster.
        Some(_) => used.account.starts_with("argosy-agent-"),
        None => used.account == account,
    };
    let is_group = |used: &Used| {
        rule.groups.iter().any(|group| *group == used.group || (group == "core" && used.group.is_empty()))
    };
    let is_name = |used: &Used| rule.names.is_empty() || rule.names.contains(&used.name);
    let of_rule: Vec<&Used> = used.iter().filter(|used| is_account(used) && is_group(used) && is_name(used)).collect();
    let mut missing = Vec::new();
    for resource in &rule.resources {
        for verb in &rule.verbs {
            if !of_rule.iter().any(|used| used.verb == *verb && used.resource == *resource) {
                missing.push(format!("{account}: {verb} {resource}"));
            }
        }
    }
    missing
}
