//! `docs/rbac.md`: what the charts let Argosy's accounts do, with all options on, and why, as the charts say it.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Case, case};
use crate::generated;
use crate::used;
use crate::world::{World, output};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("docs/rbac.md lists the rights that the charts give", rights)]
}

const HEAD: &str = "\
# Rights

What the charts let Argosy's accounts do, with all of their options on. The tests run with these rights. Written by
`cargo test --release -p e2e`; not by hand.

A whole run of the tests fails if the API servers' audit logs do not show that each of these rights was used, but for those
at the end.
";

/// The charts, what switches all of their rights on, and the account whose rights they are.
const CHARTS: [(&str, &str, &str); 2] = [
    ("argosy", "syncer.copySecrets=true", "In the control cluster"),
    (
        "argosy-member",
        "createNamespaces=true,copy.templates=true,copy.configMaps=true,copy.secrets=true,agent.cluster=oslo",
        "In a workload cluster (`kubectl argosy join` gives the same)",
    ),
];

/// A rule of a role, as the chart has it.
#[derive(Default)]
pub(crate) struct Rule {
    why: String,
    /// That without a name is `core`.
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) verbs: Vec<String>,
}

async fn rights(world: World) -> Result<()> {
    let workspace = world.testbed.layout.workspace();
    let mut table = HEAD.to_owned();
    for (title, roles) in granted(&world).await? {
        writeln!(table, "\n## {title}")?;
        for Role { account, reach, rules } in roles {
            writeln!(
                table,
                "\n`{account}`, {reach}:\n\n| API group | resources | names | verbs | what for |\n|---|---|---|---|---|"
            )?;
            for Rule { why, groups, resources, names, verbs } in rules {
                let lists = [groups, resources, names, verbs].map(|list| list.join(", "));
                writeln!(table, "| {} | {why} |", lists.join(" | "))?;
            }
        }
    }
    table.push_str("\n## Need not be used in the tests\n\n| account | right | what for |\n|---|---|---|\n");
    for used::Untried { account, right, why } in used::UNTRIED {
        writeln!(table, "| `{account}` | {right} | {why} |")?;
    }
    generated::check(workspace, "rbac.md", &table)
}

/// A role: whose, where, and what.
pub(crate) struct Role {
    pub(crate) account: String,
    pub(crate) reach: String,
    pub(crate) rules: Vec<Rule>,
}

/// The roles of each chart, by where it is installed.
pub(crate) async fn granted(world: &World) -> Result<Vec<(&'static str, Vec<Role>)>> {
    let mut all = Vec::new();
    for (chart, options, title) in CHARTS {
        let mut helm = world.program("helm");
        let path = world.testbed.layout.workspace().join("charts").join(chart).display().to_string();
        helm.args(["template", chart, &path, "--set", options]);
        helm.args(["--namespace", "argosy", "--kube-version", "1.34.0"]);
        all.push((title, roles(&output(helm, "").await?)?));
    }
    Ok(all)
}

/// Every role in what Helm has rendered, with its rules. Comments are no part of YAML's values, so lines are read.
fn roles(rendered: &str) -> Result<Vec<Role>> {
    let mut roles = Vec::new();
    for document in rendered.split("\n---") {
        let field = |name: &str| document.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let account = field("  name:").unwrap_or_default().rsplit(':').next().unwrap_or_default();
        let reach = match field("kind:") {
            Some("ClusterRole") => "in all namespaces".to_owned(),
            Some("Role") => match field("  namespace:") {
                Some("argosy") | None => "in Argosy's own namespace".to_owned(),
                Some(other) => format!("in namespace `{other}`"),
            },
            _ => continue,
        };
        let (_, rules) =
            document.split_once("\nrules:\n").with_context(|| format!("a role without rules: {document}"))?;
        roles.push(Role { account: account.to_owned(), reach, rules: read(rules) });
    }
    Ok(roles)
}

fn read(rules: &str) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    let mut comment = String::new();
    for line in rules.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("# ") {
            comment = format!("{comment} {words}").trim().to_owned();
            continue;
        }
        let Some((field, value)) = line.trim_start_matches("- ").split_once(':') else { continue };
        let value = value.trim().trim_matches(['[', ']']).replace("\"\"", "core").replace('"', "");
        let value = value.split(", ").filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if field == "apiGroups" {
            // One without a comment of its own belongs to the one before.
            let why = std::mem::take(&mut comment);
            let why = if why.is_empty() { "the same".to_owned() } else { why };
            all.push(Rule { why, groups: value, ..Rule::default() });
            continue;
        }
        let Some(rule) = all.last_mut() else { continue };
        match field {
            "resources" => rule.resources = value,
            "resourceNames" => rule.names = value,
            "verbs" => rule.verbs = value,
            _ => {}
        }
    }
    all
}
