//! The syncer's writes to a workflow, as the control cluster's API server has logged them.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;
use testbed::cluster::audit;
use testbed::layout::CONTROL;

use crate::world::World;

/// A patch that the API server took.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// When it came.
    pub(super) at: Timestamp,
    /// The resourceVersion that it was to be applied to.
    pub(super) version: String,
    /// The operations, of which the first two are about `metadata.resourceVersion` and `managedFields`.
    pub(super) operations: Vec<Value>,
}

impl Written {
    /// Its length in bytes.
    pub(super) fn length(&self) -> usize {
        Value::from(self.operations.clone()).to_string().len()
    }

    /// Whether it writes at this place, or below.
    pub(super) fn is_about(&self, path: &str) -> bool {
        self.value(path).is_some()
    }

    /// What it writes there.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        let at = |operation: &&Value| operation["path"].as_str().is_some_and(|it| it.starts_with(path));
        self.operations.iter().find(at).map(|operation| &operation["value"])
    }
}

/// All of them, in turn.
pub(super) fn to(world: &World, namespace: &str, name: &str) -> Result<Vec<Written>> {
    let path = audit::log(&world.testbed.layout, CONTROL);
    let log = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    // Large, and mostly about others.
    let mark = format!("\"name\":\"{name}\"");
    let lines = log.lines().filter(|line| line.get(..2_000).unwrap_or(line).contains(&mark));
    let mut written = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).with_context(|| format!("reading {}", path.display()))?;
        let object = &event["objectRef"];
        let is_patch = event["verb"] == "patch" && object["resource"] == "workflows";
        if !is_patch
            || object["name"] != name
            || object["namespace"] != namespace
            || event["responseStatus"]["code"] != 200
        {
            continue;
        }
        let operations = event["requestObject"].as_array().context("a patch that is no list")?.clone();
        let version = operations.iter().find(|operation| operation["path"] == "/metadata/resourceVersion");
        let version = version.and_then(|operation| operation["value"].as_str()).context("a patch without a version")?;
        let at = event["requestReceivedTimestamp"].as_str().context("a patch without a time")?.parse()?;
        written.push(Written { at, version: version.to_owned(), operations });
    }
    written.sort_by_key(|write| write.at);
    Ok(written)
}
