//! What is known of one cluster's workflows: the originals that are routed to it, and their copies there.
//!
//! Fed by two watches and by the answers to our own writes; whichever is newer by resourceVersion counts, so that a
//! late event never undoes what we know already.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argosy_api::workflow::SyncView;
use argosy_api::{Delivery, Intent, Intents, Placement, intents, names};
use argosy_placement::read_stamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde_json::value::RawValue;

use crate::status::Digest;

/// Namespace and name, the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An original, as far as the syncer looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Original {
    pub uid: String,
    pub resource_version: String,
    pub deleting: bool,
    pub completed: bool,
    /// Argo's labels `phase` and `completed`.
    pub argo_labels: [Option<String>; 2],
    /// The record of its delivery, or what makes it unreadable.
    pub delivery: Option<Result<Delivery, String>>,
    /// `spec.shutdown`, which `argo stop` and `argo terminate` set.
    pub shutdown: Option<String>,
    /// Whether its user wishes the copy to be suspended.
    pub suspend: bool,
    /// What its users did to it that is to happen to the copy, in turn, and the number of the last one that is known to
    /// have happened.
    pub intents: Arc<Intents>,
    pub intents_done: u64,
    /// Argo's label about its archive.
    pub archiving: bool,
    /// What is kept of the locks in its stored spec.
    pub locks: Option<String>,
    /// `None` where it has no status at all.
    pub status: Option<Digest>,
}

/// A copy, as far as the syncer looks at it.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub uid: String,
    pub resource_version: String,
    pub deleting: bool,
    pub completed: bool,
    pub argo_labels: [Option<String>; 2],
    /// UID of the original that it is a copy of.
    pub origin: String,
    pub attempt: u32,
    /// Whether our finalizer is on it.
    pub held: bool,
    /// The control cluster that made it, as far as that is known.
    pub control_cluster: Option<String>,
    /// Whether it was made from another workflow in the WEC, and only inherited that it is a copy.
    pub inherited: bool,
    pub shutdown: Option<String>,
    pub suspended: bool,
    /// The number of the last intent that was carried out on it.
    pub intents_done: u64,
    /// Whether it is to be archived when it has ended, or has been.
    pub archiving: bool,
    pub status: CopyStatus,
}

/// What is kept of a copy's status.
#[derive(Clone, Debug, Default)]
pub enum CopyStatus {
    /// It has none.
    #[default]
    None,
    /// All of it, until it has been returned.
    Whole(Arc<RawValue>),
    /// It stands on the original, whose status then had this [`Digest::sum`].
    Returned(Option<u64>),
}

const ARGO_LABELS: [&str; 2] = [names::ARGO_PHASE, names::ARGO_COMPLETED];

impl Key {
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl Original {
    pub fn new(object: SyncView) -> Self {
        let delivery = object.annotations().get(names::DELIVERY);
        let status = object.status.as_deref().filter(|status| status.get() != "null");
        Self {
            delivery: delivery.map(|text| serde_json::from_str(text).map_err(|error| error.to_string())),
            // A status that is no object is replaced as a whole, like one that is not there.
            status: status.and_then(|status| Digest::of(status).ok()),
            completed: is_completed(&object),
            argo_labels: argo_labels(&object),
            deleting: object.metadata.deletion_timestamp.is_some(),
            shutdown: shutdown(&object),
            suspend: object.annotations().get(names::SUSPEND).is_some_and(|wish| wish == "true"),
            intents: object
                .annotations()
                .get(names::INTENTS)
                .map(|text| intents::read(text))
                .unwrap_or_default()
                .into(),
            intents_done: intents_done(&object),
            archiving: object.labels().contains_key(names::ARGO_ARCHIVING),
            locks: object.annotations().get(names::STORED_SYNCHRONIZATION).cloned(),
            uid: object.metadata.uid.unwrap_or_default(),
            resource_version: object.metadata.resource_version.unwrap_or_default(),
        }
    }

    /// The sum of its status, if it has one.
    pub fn sum(&self) -> Option<u64> {
        self.status.as_ref().map(Digest::sum)
    }

    /// What is yet to happen to a copy on which everything up to `done` has.
    pub fn pending(&self, done: u64) -> &[Intent] {
        intents::pending(&self.intents, done.max(self.intents_done))
    }
}

/// The stamp of an original, if it can be read.
pub fn stamp_of(object: &impl ResourceExt) -> Option<Placement> {
    object.annotations().get(names::PLACEMENT).and_then(|stamp| read_stamp(stamp))
}

/// Whether it was made from another workflow in the WEC, and has only its labels.
pub fn is_inherited(object: &SyncView) -> bool {
    object.annotations().get(names::COPY).is_none_or(|copy| *copy != object.name_any())
}

impl Copy {
    pub fn new(object: SyncView) -> Self {
        let inherited = is_inherited(&object);
        Self {
            origin: object.labels().get(names::ORIGIN).cloned().unwrap_or_default(),
            attempt: object.annotations().get(names::ATTEMPT).and_then(|n| n.parse().ok()).unwrap_or_default(),
            control_cluster: object.annotations().get(names::CONTROL_CLUSTER).cloned(),
            held: object.finalizers().iter().any(|finalizer| finalizer == names::STATUS_RETURN),
            inherited,
            completed: is_completed(&object),
            argo_labels: argo_labels(&object),
            deleting: object.metadata.deletion_timestamp.is_some(),
            shutdown: shutdown(&object),
            suspended: object.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)),
            intents_done: intents_done(&object),
            archiving: object.labels().contains_key(names::ARGO_ARCHIVING),
            // Whatever is not ours is not kept: whoever may label workflows there could fill the memory with it.
            status: match object.status {
                Some(status) if status.get() != "null" && !inherited => CopyStatus::Whole(status.into()),
                _ => CopyStatus::None,
            },
            uid: object.metadata.uid.unwrap_or_default(),
            resource_version: object.metadata.resource_version.unwrap_or_default(),
        }
    }

    /// How long its status is, in bytes of JSON, as far as it is kept.
    pub fn length(&self) -> usize {
        if let CopyStatus::Whole(status) = &self.status { status.get().len() } else { 0 }
    }
}

fn intents_done(object: &SyncView) -> u64 {
    object.annotations().get(names::INTENTS_DONE).and_then(|done| done.parse().ok()).unwrap_or_default()
}

/// `spec.shutdown`, where somebody has set it.
pub fn shutdown(object: &SyncView) -> Option<String> {
    object.spec.as_ref().and_then(|spec| spec.shutdown.clone()).filter(|shutdown| !shutdown.is_empty())
}

/// Whether Argo's label says that it is done.
pub fn is_completed(object: &impl ResourceExt) -> bool {
    object.labels().get(names::ARGO_COMPLETED).is_some_and(|completed| completed == "true")
}

fn argo_labels(object: &SyncView) -> [Option<String>; 2] {
    ARGO_LABELS.map(|label| object.labels().get(label).cloned())
}

/// Versions of one API server compare as numbers; what cannot be read is taken as new.
fn version(object: &impl ResourceExt) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
}

/// So many deleted objects are remembered; the answer to a write is late by moments only.
const REMEMBERED: usize = 4096;

/// One side of the desk: what is kept of a watch's objects, by key.
#[derive(Debug)]
pub struct Side<T, O = SyncView> {
    state: Mutex<State<T>>,
    new: fn(O) -> T,
}

#[derive(Debug)]
struct State<T> {
    items: HashMap<Key, (u64, T)>,
    /// Versions at which objects went, until the answers to writes from before have come in.
    gone: HashMap<Key, u64>,
    /// Keys seen in the list that is under way.
    listed: HashSet<Key>,
    synced: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { items: HashMap::new(), gone: HashMap::new(), listed: HashSet::new(), synced: false }
    }
}

impl<T: Clone, O: ResourceExt> Side<T, O> {
    pub fn new(new: fn(O) -> T) -> Self {
        Self { state: Mutex::new(State::default()), new }
    }

    /// Takes in an event of the watch. Returns the keys that may need work.
    pub fn apply(&self, event: Event<O>) -> Vec<Key> {
        let mut state = self.state();
        match event {
            Event::Init => {
                state.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                state.listed.insert(Key::of(&object));
                vec![self.seen(&mut state, object)]
            }
            Event::InitDone => {
                state.synced = true;
                let listed = std::mem::take(&mut state.listed);
                let gone: Vec<Key> = state.items.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| drop(state.items.remove(key)));
                gone
            }
            Event::Apply(object) => vec![self.seen(&mut state, object)],
            Event::Delete(object) => {
                let key = Key::of(&object);
                state.items.remove(&key);
                if state.gone.len() >= REMEMBERED {
                    state.gone.clear();
                }
                state.gone.insert(key.clone(), version(&object));
                vec![key]
            }
        }
    }

    /// Takes in the answer to a write of ours.
    pub fn written(&self, object: O) {
        self.put(&mut self.state(), object);
    }

    /// Changes what is kept of an object, if it is still this version of it.
    pub fn amend(&self, key: &Key, version: &str, change: impl FnOnce(&mut T)) {
        if let Some((known, item)) = self.state().items.get_mut(key)
            && version.parse() == Ok(*known)
        {
            change(item);
        }
    }

    /// The API server itself says that it is gone, which was known at this version. What is known by now may be another
    /// one of the same name.
    pub fn forget(&self, key: &Key, version: &str) {
        let mut state = self.state();
        if state.items.get(key).is_some_and(|(known, _)| version.parse() == Ok(*known)) {
            state.items.remove(key);
        }
    }

    /// A list brings again what has not changed: what has been made of that meanwhile stays.
    fn seen(&self, state: &mut State<T>, object: O) -> Key {
        let key = Key::of(&object);
        let version = Some(version(&object)).filter(|version| *version != u64::MAX);
        let is_known = state.items.get(&key).is_some_and(|(known, _)| Some(*known) == version);
        if is_known { key } else { self.put(state, object) }
    }

    fn put(&self, state: &mut State<T>, object: O) -> Key {
        let key = Key::of(&object);
        let version = version(&object);
        let went_later = state.gone.get(&key).is_some_and(|gone| *gone >= version);
        if !went_later && state.items.get(&key).is_none_or(|(known, _)| *known <= version) {
            state.items.insert(key.clone(), (version, (self.new)(object)));
        }
        key
    }

    /// What is looked for in an object that is large.
    pub fn read<R>(&self, key: &Key, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.state().items.get(key).map(|(_, item)| look(item))
    }

    pub fn get(&self, key: &Key) -> Option<T> {
        self.state().items.get(key).map(|(_, item)| item.clone())
    }

    pub fn keys(&self) -> Vec<Key> {
        self.state().items.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.state().items.len()
    }

    /// How many there are of which this holds.
    pub fn count(&self, holds: impl Fn(&T) -> bool) -> usize {
        self.state().items.values().filter(|(_, item)| holds(item)).count()
    }

    /// Whether the first list has been read.
    pub fn is_synced(&self) -> bool {
        self.state().synced
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, version: &str) -> SyncView {
        let text = format!(
            r#"{{"metadata":{{"namespace":"n","name":"{name}","resourceVersion":"{version}",
                "annotations":{{"argosy.dev/copy":"{name}"}}}},"status":{{"phase":"{version}"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn shown(side: &Side<Original>, name: &str) -> Option<String> {
        side.get(&Key { namespace: "n".into(), name: name.into() }).map(|original| original.resource_version)
    }

    #[test]
    fn a_late_event_does_not_undo_the_answer_to_a_write() {
        let side = Side::new(Original::new);
        side.apply(Event::Apply(object("a", "9")));
        side.written(object("a", "11"));
        side.apply(Event::Apply(object("a", "10")));
        assert_eq!(shown(&side, "a").as_deref(), Some("11"));
        side.apply(Event::Apply(object("a", "100")));
        assert_eq!(shown(&side, "a").as_deref(), Some("100"));
    }

    #[test]
    fn what_only_inherited_its_labels_keeps_no_status() {
        let mut resubmitted = object("b", "9");
        resubmitted.metadata.annotations = Some([(names::COPY.to_owned(), "a".to_owned())].into());
        let copy = Copy::new(resubmitted);
        assert!(copy.inherited && matches!(copy.status, CopyStatus::None));
        assert!(matches!(Copy::new(object("a", "9")).status, CopyStatus::Whole(_)));
    }

    #[test]
    fn a_list_leaves_what_has_not_changed_as_it_is() {
        let key = Key { namespace: "n".into(), name: "a".into() };
        let side = Side::new(Copy::new);
        side.apply(Event::Apply(object("a", "9")));
        side.amend(&key, "9", |copy| copy.status = CopyStatus::Returned(None));
        let is_returned = || matches!(side.get(&key).unwrap().status, CopyStatus::Returned(_));
        for event in [Event::Init, Event::InitApply(object("a", "9")), Event::InitDone] {
            side.apply(event);
        }
        assert!(is_returned());
        // Read from the API server itself.
        side.written(object("a", "9"));
        assert!(!is_returned());
    }

    #[test]
    fn what_is_known_of_one_version_is_not_said_of_another() {
        let key = Key { namespace: "n".into(), name: "a".into() };
        let side = Side::new(Copy::new);
        side.apply(Event::Apply(object("a", "9")));
        let status = |side: &Side<Copy>| side.get(&key).map(|copy| copy.status);
        side.amend(&key, "8", |copy| copy.status = CopyStatus::Returned(None));
        assert!(matches!(status(&side), Some(CopyStatus::Whole(_))));
        side.amend(&key, "9", |copy| copy.status = CopyStatus::Returned(None));
        assert!(matches!(status(&side), Some(CopyStatus::Returned(None))));
    }

    #[test]
    fn the_answer_to_a_write_does_not_bring_back_what_is_gone() {
        let side = Side::new(Original::new);
        side.apply(Event::Apply(object("a", "9")));
        side.apply(Event::Delete(object("a", "12")));
        side.written(object("a", "11"));
        assert_eq!(shown(&side, "a"), None);
        side.apply(Event::Apply(object("a", "13")));
        assert_eq!(shown(&side, "a").as_deref(), Some("13"));
    }

    #[test]
    fn what_a_relist_no_longer_has_needs_work_and_is_gone() {
        let side = Side::new(Original::new);
        for event in [Event::Init, Event::InitApply(object("a", "1")), Event::InitApply(object("b", "2"))] {
            assert!(!side.is_synced());
            side.apply(event);
        }
        assert!(side.apply(Event::InitDone).is_empty() && side.is_synced());
        side.apply(Event::Init);
        side.apply(Event::InitApply(object("b", "2")));
        assert_eq!(side.apply(Event::InitDone), [Key { namespace: "n".into(), name: "a".into() }]);
        assert_eq!((shown(&side, "a"), shown(&side, "b").as_deref()), (None, Some("2")));
    }
}
