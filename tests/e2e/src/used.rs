//! Whether Argosy's accounts need their rights: what the API servers have logged of their requests, against what the charts
//! grant.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use testbed::cluster::audit;
use testbed::layout::CONTROL;

use crate::cases::rights::{Role, Rule, granted};
use crate::world::World;

/// A right that nothing in the tests makes use of.
pub(crate) struct Untried {
    pub(crate) account: &'static str,
    /// `VERB RESOURCE`
    pub(crate) right: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const UNTRIED: [Untried; 0] = [];

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
/// Which ones were not, or of those that are not expected to be, were.
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
    let expected: BTreeSet<String> =
        UNTRIED.iter().map(|Untried { account, right, .. }| format!("{account}: {right}")).collect();
    ensure!(
        unused == expected,
        "rights that nothing used: {:#?}; rights that were used after all: {:#?}",
        unused.difference(&expected).collect::<Vec<_>>(),
        expected.difference(&unused).collect::<Vec<_>>()
    );
    Ok(())
}

fn read(world: &World, cluster: &str) -> Result<BTreeSet<Used>> {
    let path = audit::log(&world.testbed.layout, cluster);
    let log = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut used = BTreeSet::new();
    for line in log.lines() {
        let event: Event = serde_json::from_str(line).with_context(|| format!("reading {}", path.display()))?;
        let account = event.user.username.rsplit(':').next().unwrap_or_default().to_owned();
        let Some(object) = event.object else { continue };
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
