//! Before a copy is delivered: what the workflow refers to has to be in the WEC. What may be copied there is; what is
//! missing, its user is told.
//!
//! `references` reads what there has to be from the workflow, `plan` decides about each object, `dependency` builds
//! copies; here it is asked and written. `upkeep` keeps the copies in step and removes them when nothing uses them.

mod dependency;
mod kind;
mod plan;
mod references;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use argosy_api::names;
use argosy_api::workload_cluster::Copy as Consent;
use argosy_runtime::client::{RequestError, within};
use futures::{StreamExt, TryStreamExt, stream};
use json_patch::Patch as JsonPatch;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep_until};

use self::kind::{Copying, Kind, Reference, to_text};
use self::plan::{Action, Origin, There, asks_for_origin, decide, sentence};
use self::references::{Call, Entry, References, made_from, merged, of_repository, references, repository};
pub use self::upkeep::run as upkeep;
use crate::deliver::is_missing_namespace;
use crate::work::{StepError, Work, locked};

/// How many objects are asked for at a time, for one workflow.
const AT_A_TIME: usize = 4;
/// Argo's controller reads templates and ConfigMaps from its watches, and ends a workflow with an error that names one
/// which these have not brought yet. So long after a write it has.
const SETTLED: Duration = Duration::from_secs(1);

/// One cluster's dependencies.
#[derive(Debug)]
pub struct Preflight {
    consent: Consent,
    /// The syncer's own namespace: its Secrets are the ways to other clusters.
    own_namespace: String,
    /// How long a copy stays that nothing uses.
    keep: Duration,
    /// Copies that were seen to be used, or written.
    seen: Mutex<HashMap<Dependency, Seen>>,
    /// Looking at copies keeps them from being deleted meanwhile: what was just seen there is relied upon.
    deleting: RwLock<()>,
}

/// An object by its namespace, which is empty where it has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Dependency {
    namespace: String,
    reference: Reference,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    used: Instant,
    written: Option<Instant>,
}

/// Whether an object is yet to be looked after. What was only missed for others' sake may be copied for ours.
fn is_new(of: &Reference, by: Named, looked: &BTreeMap<Reference, Looked>) -> bool {
    looked.get(of).is_none_or(|looked| by < looked.by && looked.missing.is_some())
}

/// One object that was looked after.
#[derive(Debug)]
struct Looked {
    /// For whose sake.
    by: Named,
    /// It is in the WEC, and can be read.
    is_there: bool,
    /// It is a copy of ours.
    ours: bool,
    /// What is missing, in words.
    missing: Option<String>,
    /// A template as it is in the WEC, for what it refers to.
    template: Option<DynamicObject>,
}

/// What names an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// The workflow, or what was copied for it.
    ByOurs,
    /// Something that somebody else has put into the WEC.
    ByOthers,
}

impl Named {
    /// Who names what this object, named so itself, refers to.
    fn through(self, object: &Looked) -> Self {
        if object.ours { self } else { Self::ByOthers }
    }
}

impl Preflight {
    pub fn new(consent: Consent, own_namespace: String, keep: Duration) -> Self {
        Self { consent, own_namespace, keep, seen: Mutex::default(), deleting: RwLock::default() }
    }

    fn copying(&self, namespace: &str, kind: Kind) -> Copying {
        match kind.copying(&self.consent) {
            Copying::Yes if kind == Kind::Secret && namespace == self.own_namespace => Copying::Never,
            copying => copying,
        }
    }

    /// Notes that a copy is used now, and whether it was written.
    fn note(&self, dependency: Dependency, used: Instant, was_written: bool) {
        let mut seen = locked(&self.seen);
        let known = seen.entry(dependency).or_insert(Seen { used, written: None });
        known.used = used;
        if was_written {
            known.written = Some(used);
        }
    }
}

impl Dependency {
    fn new(namespace: &str, reference: &Reference) -> Self {
        let namespace = if reference.kind.is_namespaced() { namespace } else { "" };
        Self { namespace: namespace.to_owned(), reference: reference.clone() }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let resource = self.reference.kind.api_resource();
        if self.reference.kind.is_namespaced() {
            Api::namespaced_with(client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(client.clone(), &resource)
        }
    }
}

impl Work {
    /// Sees to it that what a workflow refers to is in the WEC, and notes on its copy which of it is ours. Answers with
    /// what is missing, if anything is.
    pub(crate) async fn preflight(&self, copy: &mut DynamicObject) -> Result<Result<(), String>, StepError> {
        let namespace = copy.metadata.namespace.clone().unwrap_or_default();
        let looked = self.look_after(&namespace, &copy.data["spec"]).await?;
        let missing: Vec<String> = looked.values().filter_map(|looked| looked.missing.clone()).collect();
        if !missing.is_empty() {
            return Ok(Err(sentence(&missing)));
        }
        let ours: Vec<&Reference> =
            looked.iter().filter(|(_, looked)| looked.ours).map(|(reference, _)| reference).collect();
        if !ours.is_empty() {
            copy.annotations_mut().insert(names::USES.to_owned(), to_text(ours.iter().copied()));
            self.settled(&namespace, &ours).await;
        }
        Ok(Ok(()))
    }

    /// Waits until Argo's controller there knows what was just written.
    async fn settled(&self, namespace: &str, ours: &[&Reference]) {
        let last = {
            let seen = locked(&self.preflight.seen);
            let of = |reference: &&Reference| seen.get(&Dependency::new(namespace, reference))?.written;
            ours.iter().filter_map(of).max()
        };
        if let Some(last) = last {
            sleep_until(last + SETTLED).await;
        }
    }

    /// Follows a spec from template to template, then looks after everything else that was found.
    ///
    /// What is in the WEC and is not ours is followed, too, for the workflow needs what it refers to; but nothing is brought
    /// over for its sake, or whoever writes templates there could have any object of the namespace.
    async fn look_after(&self, namespace: &str, spec: &Value) -> Result<BTreeMap<Reference, Looked>, StepError> {
        let mut looked = BTreeMap::new();
        let (mut whole, mut from) = (None, Named::ByOurs);
        if let Some(template) = made_from(spec) {
            let found = self.look_at(namespace, &template, false, from).await?;
            whole = found.template.as_ref().map(|object| merged(spec, &object.data["spec"]));
            from = from.through(&found);
            looked.insert(template, found);
        }
        // What the workflow itself refers to is its user's wish, whatever its template is.
        let mut found: BTreeMap<Named, References> = BTreeMap::new();
        let named = found.entry(Named::ByOurs).or_default().extend(references(spec, Entry::Workflow));
        let mut calls: BTreeSet<(Named, Call)> = named.into_iter().map(|call| (Named::ByOurs, call)).collect();
        if let Some(whole) = &whole {
            let more = found.entry(from).or_default().extend(references(whole, Entry::Workflow));
            calls.extend(more.into_iter().map(|call| (from, call)));
        }
        let mut called: BTreeSet<(Named, Call)> = BTreeSet::new();
        while !calls.is_empty() {
            // What ours name comes first, and is copied.
            for by in [Named::ByOurs, Named::ByOthers] {
                let of = calls.iter().filter(|(from, _)| *from == by).map(|(_, call)| &call.of);
                let new: BTreeSet<&Reference> = of.filter(|of| is_new(of, by, &looked)).collect();
                let new = new.into_iter().map(|of| (of.clone(), false)).collect();
                looked.extend(self.look_at_all(namespace, new, by).await?);
            }
            let mut next = BTreeSet::new();
            for (from, call) in calls {
                if !called.insert((from, call.clone())) {
                    continue;
                }
                let Some(of) = looked.get(&call.of) else { continue };
                let Some(template) = &of.template else { continue };
                let by = from.through(of);
                let more = references(&template.data["spec"], Entry::Template(&call.template));
                next.extend(found.entry(by).or_default().extend(more).into_iter().map(|call| (by, call)));
            }
            next.retain(|call| !called.contains(call));
            calls = next;
        }
        let stores = found.values().any(|found| found.stores);
        let new = |objects: BTreeMap<Reference, bool>, by: Named, looked: &BTreeMap<Reference, Looked>| {
            objects.into_iter().filter(|(reference, _)| is_new(reference, by, looked)).collect()
        };
        // Whoever names it, without it the workflow does not run.
        let needed: BTreeSet<Reference> = found
            .values()
            .flat_map(|found| found.objects.iter().filter(|(_, optional)| !**optional))
            .map(|(reference, _)| reference.clone())
            .collect();
        for (by, found) in found {
            let objects = found.objects.into_keys().map(|of| {
                let is_optional = !needed.contains(&of);
                (of, is_optional)
            });
            let rest = new(objects.collect(), by, &looked);
            looked.extend(self.look_at_all(namespace, rest, by).await?);
        }
        let spec = whole.as_ref().unwrap_or(spec);
        if let Some(of) = repository(spec)
            && let Some(by) = looked.get(&of).filter(|found| found.is_there).map(|found| Named::ByOurs.through(found))
            && let Some(config_map) = self.read_there(namespace, &of).await?
        {
            let rest = new(of_repository(spec, &config_map, stores), by, &looked);
            looked.extend(self.look_at_all(namespace, rest, by).await?);
        }
        Ok(looked)
    }

    async fn read_there(&self, namespace: &str, reference: &Reference) -> Result<Option<DynamicObject>, StepError> {
        match within(Dependency::new(namespace, reference).api(&self.wec).get_opt(&reference.name)).await {
            Ok(found) => Ok(found),
            // Somebody else's, and nothing that we may read.
            Err(error) if error.status() == Some(403) => Ok(None),
            Err(source) => Err(StepError::ReadCopy { source }),
        }
    }

    async fn look_at_all(
        &self,
        namespace: &str,
        wanted: Vec<(Reference, bool)>,
        by: Named,
    ) -> Result<Vec<(Reference, Looked)>, StepError> {
        let one = |(reference, optional)| self.look_at_one(namespace, reference, optional, by);
        let each: Vec<_> = wanted.into_iter().map(one).collect();
        stream::iter(each).buffered(AT_A_TIME).try_collect().await
    }

    async fn look_at_one(
        &self,
        namespace: &str,
        reference: Reference,
        optional: bool,
        by: Named,
    ) -> Result<(Reference, Looked), StepError> {
        let looked = self.look_at(namespace, &reference, optional, by).await?;
        Ok((reference, looked))
    }

    /// Looks at one object on both sides, and copies it if that is what is to be done.
    async fn look_at(
        &self,
        namespace: &str,
        reference: &Reference,
        optional: bool,
        by: Named,
    ) -> Result<Looked, StepError> {
        let kind = reference.kind;
        let dependency = Dependency::new(namespace, reference);
        let _stays = self.preflight.deleting.read().await;
        let copying = match by {
            Named::ByOurs => self.preflight.copying(namespace, kind),
            Named::ByOthers => Copying::Never,
        };
        let api = dependency.api(&self.wec);
        let (there, metadata, mut template) = self.there(&api, reference).await?;
        let (origin, from) =
            if asks_for_origin(&there, copying) { self.origin(&dependency).await? } else { (Origin::Absent, None) };
        let ours = matches!(there, There::Ours { .. });
        let is_there = ours || there == There::Foreign;
        let mut looked = Looked { by, ours, is_there, missing: None, template: None };
        let action = decide(reference, optional, &there, &origin, copying);
        let written = match (&action, &from) {
            (Action::Create, Some(from)) => {
                self.check_lease()?;
                let copy = dependency::copy_of(kind, from, &self.shared.control_id);
                Some(self.create_there(&dependency, &copy).await)
            }
            (Action::Update, Some(from)) => {
                self.check_lease()?;
                let copy = dependency::copy_of(kind, from, &self.shared.control_id);
                let version = metadata.resource_version.unwrap_or_default();
                let patch: Patch<()> = Patch::Json(JsonPatch(dependency::update(kind, &copy, &version)));
                Some(within(api.patch(&reference.name, &PatchParams::default(), &patch)).await)
            }
            _ => None,
        };
        match (written, action) {
            (Some(Ok(_)), action) => {
                tracing::info!(cluster = self.here.cluster, namespace, object = %reference, ?action, "copied what workflows use");
                self.metrics.copy_writes.inc();
                self.preflight.note(dependency, Instant::now(), true);
                (looked.ours, looked.is_there) = (true, true);
            }
            (Some(Err(error)), _) => {
                let why = self.not_written(&dependency, error)?;
                looked.missing = (!optional).then_some(why);
            }
            (None, Action::Wait(why)) => looked.missing = Some(why),
            (None, _) if looked.ours => self.preflight.note(dependency, Instant::now(), false),
            (None, _) => {}
        }
        if looked.ours && from.is_some() {
            template = from;
        }
        looked.template = template.filter(|_| kind.is_template());
        Ok(looked)
    }

    async fn create_there(&self, dependency: &Dependency, copy: &DynamicObject) -> Result<DynamicObject, RequestError> {
        let (api, params) = (dependency.api(&self.wec), PostParams::default());
        let mut created = within(api.create(&params, copy)).await;
        if let Err(error) = &created
            && self.has_made_namespace(&dependency.namespace, error).await?
        {
            created = within(api.create(&params, copy)).await;
        }
        created
    }

    /// Looks in the WEC; of anything but a template its metadata is enough.
    async fn there(
        &self,
        api: &Api<DynamicObject>,
        reference: &Reference,
    ) -> Result<(There, ObjectMeta, Option<DynamicObject>), StepError> {
        let name = &reference.name;
        let object = if reference.kind.is_template() {
            within(api.get_opt(name)).await.map(|found| found.map(|object| (object.metadata.clone(), Some(object))))
        } else {
            within(api.get_metadata_opt(name)).await.map(|found| found.map(|object| (object.metadata, None)))
        };
        match object {
            Ok(Some((metadata, object))) => {
                Ok((dependency::ownership(&metadata, &self.shared.control_id), metadata, object))
            }
            Ok(None) => Ok((There::Absent, ObjectMeta::default(), None)),
            // What cannot be checked holds nothing up.
            Err(error) if error.status() == Some(403) => Ok((There::Unknown, ObjectMeta::default(), None)),
            Err(source) => Err(StepError::ReadCopy { source }),
        }
    }

    async fn origin(&self, dependency: &Dependency) -> Result<(Origin, Option<DynamicObject>), StepError> {
        let Dependency { reference, .. } = dependency;
        match within(dependency.api(&self.shared.control).get_opt(&reference.name)).await {
            Ok(Some(object)) => Ok(match dependency::barred(reference.kind, &object) {
                Some(why) => (Origin::Barred { why: why.to_owned() }, None),
                None => (Origin::Present { source: dependency::source(&object) }, Some(object)),
            }),
            Ok(None) => Ok((Origin::Absent, None)),
            Err(error) if error.status() == Some(403) => Ok((Origin::Barred { why: error.message() }, None)),
            Err(source) => Err(StepError::ReadOriginal { source }),
        }
    }

    /// What a refused write means for the workflow.
    fn not_written(&self, dependency: &Dependency, error: RequestError) -> Result<String, StepError> {
        let Dependency { namespace, reference } = dependency;
        match error.status() {
            // Another workflow's step was faster.
            Some(409) => Err(StepError::Outdated),
            Some(404) if is_missing_namespace(&error) => Ok(crate::deliver::no_namespace(namespace)),
            Some(_) => Ok(format!("{reference} cannot be copied there: {}", error.message())),
            None => Err(StepError::WriteCopy { source: error }),
        }
    }
}
