//! `docs/verbs.md`: the commands and fields, and what was seen of them, as the cases saw it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::{Of, Verb, archive_verbs, verbs};
use crate::generated;

/// What was seen of each command on a local workflow.
static SEEN: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

const HEAD: &str = "\
# Commands

What Argo's own commands do on a routed workflow. Each was tried on a workflow that runs in the control cluster and on one
that is routed to a workload cluster, on real Argo, and the same was seen of both. Written by `cargo test --release -p
e2e`; not by hand.

The last column is for the same command through argo-server, again on both.

| command | local | routed | argo-server |
|---|---|---|---|
";

const FIELDS: &str = "
## What workflows ask for themselves

A routed workflow gets it in its cluster. The original ends with the copy and goes when a local workflow would.

| field | local | routed |
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
    let line = |verb: &Verb| {
        let outcome = seen.get(verb.name).map(String::as_str).unwrap_or_default();
        let served = match verb.of {
            Of::Argo => " the same |",
            Of::Served => " only so |",
            Of::Other => " |",
            Of::Field => "",
        };
        format!("| `{}` | {outcome} | the same |{served}\n", verb.name)
    };
    let (fields, commands): (Vec<_>, Vec<_>) = verbs.into_iter().partition(|verb| verb.of == Of::Field);
    let lines = |verbs: &[Verb]| verbs.iter().map(line).collect::<String>();
    let table = [HEAD, &lines(&commands), FIELDS, &lines(&fields)].concat();
    generated::check(workspace, "verbs.md", &table)
}
