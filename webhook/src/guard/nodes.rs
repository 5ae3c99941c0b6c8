//! What a write did to the nodes of a status, in whatever form these are.

use argosy_api::packed::unpack;
use argosy_runtime::patch::add;
use json_patch::PatchOperation;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::equal::{Care, equal, field, is_empty, names};
use super::fields::{self, Difference, Fields, differences};

pub(super) const NODES: &str = "nodes";
pub(super) const PACKED: &str = "compressedNodes";

/// What a node is; nothing that a user does to it changes that.
const IDENTITY: [&str; 8] =
    ["id", "name", "displayName", "type", "templateName", "templateRef", "templateScope", "boundaryID"];

/// The longest text of a node that is looked into.
const LONGEST: usize = 512 << 10;
/// The most text, of all nodes that changed, that is kept; it is more than the list of intents has room for.
const MOST: usize = 2 << 20;

/// Outputs, of a node and of the status, are what users set, to something empty as well.
pub(super) const OUTPUTS: &str = "outputs";

/// What became of the nodes. Fields that changed are there by node, as they are now (null: removed).
#[derive(Default)]
pub(super) struct Nodes {
    /// Of Suspend nodes that were waiting.
    pub(super) approved: Map<String, Value>,
    /// Of any others, in a retry.
    pub(super) reset: Map<String, Value>,
    /// Gone, in a retry.
    pub(super) removed: Vec<String>,
    /// Gives every node but the approved ones its old value back, and all of them their old form.
    pub(super) restore: Vec<PatchOperation>,
    /// How much text of `approved` and `reset` there is.
    text: usize,
    /// Whether what was approved stays on the original. What is packed would have to be packed anew, and the fence cannot
    /// look into it.
    pub(super) stands: bool,
}

/// The forms that nodes come in.
enum Form<'a> {
    Absent,
    Plain(&'a RawValue),
    /// Unpacked.
    Packed(String),
}

/// Reads the difference between two statuses. `None`: it is not what Argo's commands do.
pub(super) fn read(old: &Fields, new: &Fields, is_retry: bool) -> Option<Nodes> {
    let forms: Vec<Difference> = differences(old, new).filter(|field| [NODES, PACKED].contains(&field.name)).collect();
    if forms.is_empty() {
        return Some(Nodes::default());
    }
    let (old, new) = (Form::of(old)?, Form::of(new)?);
    let is_in_place = matches!((&old, &new), (Form::Plain(_), Form::Plain(_)));
    let mut nodes = Nodes { stands: matches!(old, Form::Plain(_)), ..Nodes::default() };
    for form in forms.iter().filter(|form| !(is_in_place && form.name == NODES)) {
        nodes.restore.push(form.restore(&["status"])?);
    }
    for node in differences(&old.nodes()?, &new.nodes()?) {
        let is_kept = nodes.take(&node, is_retry)?;
        match (is_in_place, is_kept && nodes.stands) {
            (true, false) => nodes.restore.push(node.restore(&["status", NODES])?),
            // On top of the nodes that are given back whole.
            (false, true) => nodes.restore.push(add(&["status", NODES, node.name], node.after()?)),
            (true, true) | (false, false) => {}
        }
    }
    Some(nodes)
}

impl Nodes {
    /// Takes in one node; whether it was approved.
    fn take(&mut self, node: &Difference, is_retry: bool) -> Option<bool> {
        if !node.is_there() {
            self.removed.push(node.name.to_owned());
            return is_retry.then_some(false);
        }
        let (before, after) = node.lengths();
        if before.max(after) > LONGEST {
            return None;
        }
        let (old, new) = (node.before()?, node.after()?);
        let (old, new) = (old.as_object()?, new.as_object()?);
        let is_approvable = !is_retry && is_active_suspend(old);
        let changed = changes(old, new, if is_approvable || is_retry { Care::Exact } else { Care::Loose })?;
        if changed.is_empty() {
            return Some(false);
        }
        self.text += after;
        if self.text > MOST {
            return None;
        }
        let place = match (is_retry, is_approvable) {
            (true, _) => &mut self.reset,
            (false, true) => &mut self.approved,
            (false, false) => return None,
        };
        place.insert(node.name.to_owned(), Value::Object(changed));
        Some(is_approvable)
    }
}

impl<'a> Form<'a> {
    fn of(status: &Fields<'a>) -> Option<Self> {
        let plain = status.get(NODES).filter(|nodes| !["null", "{}"].contains(&nodes.get()));
        let packed = fields::parse(status.get(PACKED).copied())?;
        match (plain, packed) {
            (Some(nodes), packed) if is_empty(&packed) => Some(Self::Plain(nodes)),
            (None, Value::String(packed)) if !packed.is_empty() => unpack(&packed).map(Self::Packed),
            (None, packed) if is_empty(&packed) => Some(Self::Absent),
            _ => None,
        }
    }

    fn nodes(&self) -> Option<Fields<'_>> {
        match self {
            Self::Absent => Some(Fields::new()),
            Self::Plain(nodes) => fields::read(Some(nodes)),
            Self::Packed(nodes) => fields::read_text(nodes),
        }
    }
}

/// As Argo decides it, which looks for `Running` alone, and as the fence does.
fn is_active_suspend(node: &Map<String, Value>) -> bool {
    node.get("type").is_some_and(|kind| kind == "Suspend")
        && node.get("phase").is_some_and(|phase| phase == "Running" || phase == "Pending")
}

/// The fields that changed. `None`: it became another node.
fn changes(old: &Map<String, Value>, new: &Map<String, Value>, outputs: Care) -> Option<Map<String, Value>> {
    let mut changed = Map::new();
    for name in names(old, new) {
        let (old, new) = (field(old, name), field(new, name));
        let care = if name == OUTPUTS { outputs } else { Care::Loose };
        if is_same(old, new, care) {
            continue;
        }
        if IDENTITY.contains(&name) {
            return None;
        }
        changed.insert(name.to_owned(), new.clone());
    }
    Some(changed)
}

/// Whether a field is as it was; one with nothing in it at all may be there or not.
pub(super) fn is_same(old: &Value, new: &Value, care: Care) -> bool {
    equal(old, new, care) || (is_empty(old) && is_empty(new))
}
