//! What the control cluster's API server writes down of the syncer's writes: an account of them that is not the syncer's own.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::argosy;
use crate::layout::{CONTROL, Layout, create_private_dir, write_file};

/// The log: a JSON object a line, `audit.k8s.io/v1` Events with each patch to a Workflow whole. Of played clusters only.
pub fn log(layout: &Layout) -> PathBuf {
    layout.logs().join(CONTROL).join("audit.log")
}

/// What makes the API server write it.
///
/// # Errors
/// The testbed's folder cannot be written.
pub(super) fn args(layout: &Layout) -> Result<Vec<String>> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Request", "verbs": ["patch"],
                "users": [format!("system:serviceaccount:{}:{}", argosy::NAMESPACE, argosy::SYNCER)],
                "resources": [{"group": "argoproj.io", "resources": ["workflows"]}],
            },
            {"level": "None"},
        ],
    });
    let (folder, log) = (layout.cluster_dir(CONTROL), log(layout));
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
