//! `docs/verbs.md`: the commands and what was seen of them, as the cases saw it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::{Verb, archive_verbs, verbs};

/// What was seen of each command on a local workflow.
static SEEN: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

const HEAD: &str = "\
# Commands

What Argo's own commands do on a routed workflow. Each was tried on a workflow that runs in the control cluster and on one
that is routed to a workload cluster, on real Argo, and the same was seen of both. Written by `cargo test --release -p
e2e`; not by hand.

| command | local | routed |
|---|---|---|
";

pub(super) fn note(verb: &'static str, outcome: &str) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(verb, outcome.to_owned());
}

/// Compares the table with the file; writes it anew where it differs. Where not every command was tried, there is none.
///
/// # Errors
/// The file was out of date.
pub fn check(workspace: &Path) -> Result<()> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let verbs: Vec<Verb> = verbs().into_iter().chain(archive_verbs()).collect();
    if verbs.iter().any(|verb| !seen.contains_key(verb.name)) {
        return Ok(());
    }
    let mut table = HEAD.to_owned();
    for verb in verbs {
        let outcome = seen.get(verb.name).map(String::as_str).unwrap_or_default();
        let _ = writeln!(table, "| `{}` | {outcome} | the same |", verb.name);
    }
    let path = workspace.join("docs/verbs.md");
    let is_fresh = std::fs::read_to_string(&path).is_ok_and(|before| before == table);
    if !is_fresh {
        std::fs::write(&path, table).with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(is_fresh, "{} was out of date, and has been written anew: look at it and commit it", path.display());
    Ok(())
}
