//! `docs/faults.md`: how long it took until everything was right again, as it was measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::deeds::{DEEDS, Deed, Done};
use super::{Cell, cells, syncers};
use crate::generated;

static SEEN: Mutex<BTreeMap<Cell, BTreeMap<Deed, Done>>> = Mutex::new(BTreeMap::new());
/// What else was measured, a sentence each.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

const HEAD: &str = "\
# Faults

What fails, what happens meanwhile, and how many seconds after the mend everything about it was right: the original shows
what the copy shows, a deleted workflow is gone with its copy and its pods, nothing is left over, no stranger was touched.
Where a workload cluster's API server was killed, Argo's controller there had to find it again, too.
*Refused* is what was refused with a clear message while the fault lasted; its seconds count from when it was done again.
The last column is how often a pod ran, at most. Measured on two cores with played nodes, by `cargo test --release -p e2e
--test e2e -- --include-ignored faults:`; not by hand.

| what fails | created | stopped | approved | deleted | ended | runs |
|---|---|---|---|---|---|---|
";

pub(super) fn note(cell: Cell, done: BTreeMap<Deed, Done>) {
    let words: Vec<String> = done.iter().map(|(deed, done)| format!("{deed:?} {}", describe(done))).collect();
    eprintln!("e2e: {} {}: {}", cell.what, cell.how, words.join(", "));
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(cell, done);
}

pub(super) fn tell(what: String) {
    eprintln!("e2e: {what}");
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

fn describe(done: &Done) -> String {
    let refused = if done.refused.is_some() { "refused, " } else { "" };
    format!("{refused}{:.1}", done.seconds)
}

/// Writes the table, if everything was tried.
///
/// # Errors
/// The file cannot be written.
pub fn write(workspace: &Path) -> Result<()> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let lines: Option<Vec<String>> = cells()
        .into_iter()
        .map(|cell| {
            let done = seen.get(&cell)?;
            let columns: Vec<String> = DEEDS.iter().map(|deed| describe(&done[deed])).collect();
            let runs = done.values().map(|done| done.runs).max().unwrap_or_default();
            Some(format!("| {} {} | {} | {runs} |\n", cell.what, cell.how, columns.join(" | ")))
        })
        .collect();
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let measured = syncers::cases().len() + syncers::soaks().len();
    let Some(lines) = lines.filter(|_| told.len() == measured) else { return Ok(()) };
    let told: String = told.iter().map(|what| format!("- {what}\n")).collect();
    generated::write(workspace, "faults.md", &[HEAD, &lines.concat(), "\n## Several syncers\n\n", &told].concat())
}
