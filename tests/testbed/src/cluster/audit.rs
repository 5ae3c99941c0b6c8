//! What API servers write down of Argosy's requests: an account of them that is not Argosy's own.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::argosy;
use crate::layout::{CONTROL, Layout, create_private_dir, write_file};

/// Namespaces of accounts of Argosy's whose requests are logged: its own, and those of clusters that join in cases about
/// their credentials.
const ACCOUNTS: [&str; 3] = [argosy::NAMESPACE, "argosy-lima", "argosy-oslo"];

/// A cluster's log: a JSON object a line, `audit.k8s.io/v1` Events; those of the syncer's patches to Workflows in the control
/// cluster are whole. Of played clusters only.
pub fn log(layout: &Layout, cluster: &str) -> PathBuf {
    layout.logs().join(cluster).join("audit.log")
}

/// What makes the API server write it.
///
/// # Errors
/// The testbed's folder cannot be written.
pub(super) fn args(layout: &Layout, cluster: &str) -> Result<Vec<String>> {
    let whole = json!({
        "level": "Request", "verbs": ["patch"],
        "users": [format!("system:serviceaccount:{}:{}", argosy::NAMESPACE, argosy::SYNCER)],
        "resources": [{"group": "argoproj.io", "resources": ["workflows"]}],
    });
    let groups = ACCOUNTS.map(|namespace| format!("system:serviceaccounts:{namespace}"));
    let named = json!({"level": "Metadata", "userGroups": groups});
    let mut rules = vec![named, json!({"level": "None"})];
    if cluster == CONTROL {
        rules.insert(0, whole);
    }
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules,
    });
    let (folder, log) = (layout.cluster_dir(cluster), log(layout, cluster));
    let file = folder.join("audit-policy.json");
    create_private_dir(&folder)?;
    write_file(&file, policy.to_string(), 0o600)?;
    Ok(vec![
        format!("--audit-policy-file={}", file.display()),
        format!("--audit-log-path={}", log.display()),
        // One file: it goes with the testbed.
        "--audit-log-maxsize=4096".to_owned(),
    ])
}
