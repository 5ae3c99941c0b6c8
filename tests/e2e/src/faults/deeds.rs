//! What users do and what happens while something fails, and whether all of it is right afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use argosy_api::names;
use futures::future::{join_all, try_join_all};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kube::core::DynamicObject;
use serde_json::json;

use crate::same;
use crate::verbs::shapes::gated;
use crate::world::{PATIENCE, World, phase_in, put, sleeping, uid, wait_for, workflows};

pub const NAMESPACE: &str = "faults";
/// A workflow in the WEC that is nobody's business.
const STRANGER: &str = "stranger";

/// Something done to a workflow, or with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Create,
    Stop,
    Approve,
    Delete,
    /// Its pod ends.
    Finish,
}

pub const DEEDS: [Deed; 5] = [Deed::Create, Deed::Stop, Deed::Approve, Deed::Delete, Deed::Finish];

/// The workflows that it is done to, by deed. There is none to create yet.
pub struct Subjects {
    world: World,
    names: BTreeMap<Deed, String>,
    /// Their copies and pods, by UID, which stay the same ones.
    before: BTreeMap<Deed, BTreeSet<String>>,
    stranger: DynamicObject,
}

/// How a deed went.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// It was refused while the fault lasted, with this message, and done afterwards.
    pub refused: Option<String>,
    /// Seconds from the mend, or from when it could be done, until everything about it was right.
    pub seconds: f64,
    /// How often each of its pods ran, at most.
    pub runs: usize,
}

impl Subjects {
    /// Creates them, and waits until each is where something can be done to it.
    pub async fn new(world: &World) -> Result<Self> {
        world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
        let wec = &world.wecs[0];
        put(wec, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await?;
        let mut stranger = sleeping(STRANGER, 0);
        stranger["metadata"] = json!({"name": STRANGER});
        stranger["spec"]["suspend"] = json!(true);
        put(wec, NAMESPACE, stranger).await?;
        let mut names = BTreeMap::new();
        for deed in DEEDS.into_iter().filter(|deed| *deed != Deed::Create) {
            let workflow = if deed == Deed::Approve { gated() } else { sleeping("long", 600) };
            names.insert(deed, world.create(NAMESPACE, &workflow).await?);
        }
        // Once Argo has written all that it writes to a suspended workflow.
        let stranger = phase_in(&workflows(wec, NAMESPACE), STRANGER, "Running").await?;
        let mut subjects = Self { world: world.clone(), names, before: BTreeMap::new(), stranger };
        for (deed, name) in &subjects.names {
            let node = if *deed == Deed::Approve { "gate" } else { name };
            world.node(NAMESPACE, name, node, "Running").await?;
        }
        for deed in [Deed::Stop, Deed::Approve, Deed::Finish] {
            subjects.before.insert(deed, subjects.uids(deed).await?);
        }
        Ok(subjects)
    }

    /// Does all of it at once; answers what was refused, and why.
    pub async fn act(&mut self) -> Result<BTreeMap<Deed, String>> {
        let tried = join_all(DEEDS.map(|deed| self.perform(deed))).await;
        let mut refused = BTreeMap::new();
        for (deed, tried) in DEEDS.into_iter().zip(tried) {
            match tried {
                Ok(name) => drop(self.names.insert(deed, name)),
                Err(error) => {
                    let said = format!("{error:#}");
                    let is_clear =
                        ["argosy", "refused", "webhook", "reset", "EOF"].iter().any(|word| said.contains(word));
                    // That is the case's own doing, by an API server that may not be there.
                    ensure!(is_clear || deed == Deed::Finish, "{deed:?} was refused with {said:?}");
                    refused.insert(deed, said);
                }
            }
        }
        Ok(refused)
    }

    async fn perform(&self, deed: Deed) -> Result<String> {
        let world = &self.world;
        let argo = |verb: &'static str, name: String| async move {
            world.run("argo", &[verb, "-n", NAMESPACE, &name], "").await.map(|_| name)
        };
        let name = self.names.get(&deed).cloned().unwrap_or_default();
        match deed {
            Deed::Create => world.create(NAMESPACE, &sleeping("new", 0)).await,
            Deed::Stop => argo("stop", name).await,
            Deed::Approve => argo("resume", name).await,
            Deed::Delete => argo("delete", name).await,
            Deed::Finish => {
                world.finish(&world.wecs[0], NAMESPACE, &name).await?;
                Ok(name)
            }
        }
    }

    /// Does what was refused, and waits until everything is right.
    pub async fn come_right(
        mut self,
        refused: BTreeMap<Deed, String>,
        mended: Instant,
    ) -> Result<BTreeMap<Deed, Done>> {
        let mut since = BTreeMap::from(DEEDS.map(|deed| (deed, mended)));
        for deed in refused.keys() {
            let name = wait_for(&format!("{deed:?} to be taken"), || async {
                Ok(self.perform(*deed).await.map_err(|error| format!("{error:#}")))
            })
            .await?;
            self.names.insert(*deed, name);
            since.insert(*deed, Instant::now());
        }
        let mut right: BTreeMap<Deed, f64> = BTreeMap::new();
        let start = Instant::now();
        while right.len() < DEEDS.len() {
            let mut wrong = Vec::new();
            for deed in DEEDS {
                match self.wrong(deed).await {
                    Ok(None) => drop(right.entry(deed).or_insert_with(|| since[&deed].elapsed().as_secs_f64())),
                    Ok(Some(why)) => wrong.push(format!("{deed:?} {}: {why}", self.names[&deed])),
                    Err(error) => wrong.push(format!("{deed:?} {}: {error:#}", self.names[&deed])),
                }
            }
            ensure!(start.elapsed() < PATIENCE, "{} s after the mend: {}", PATIENCE.as_secs(), wrong.join("; "));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Nothing that was right goes wrong again.
        for deed in DEEDS {
            if let Some(why) = self.wrong(deed).await? {
                bail!("{deed:?} {} was right, and is not any more: {why}", self.names[&deed]);
            }
        }
        for (deed, before) in &self.before {
            ensure!(self.uids(*deed).await?.is_superset(before), "{deed:?} {} was run anew", self.names[deed]);
        }
        let runs = try_join_all(DEEDS.map(|deed| self.runs(deed))).await?;
        self.nothing_else().await?;
        let done = DEEDS
            .into_iter()
            .zip(runs)
            .map(|(deed, runs)| (deed, Done { refused: refused.get(&deed).cloned(), seconds: right[&deed], runs }));
        let done = done.collect();
        self.clear().await?;
        Ok(done)
    }

    /// What is not right yet.
    async fn wrong(&self, deed: Deed) -> Result<Option<String>> {
        let name = &self.names[&deed];
        let original = self.world.originals(NAMESPACE).get_opt(name).await?;
        let copy = workflows(&self.world.wecs[0], NAMESPACE).get_opt(name).await?;
        let end = match deed {
            Deed::Delete => {
                let pods = self.world.pods(&self.world.wecs[0], NAMESPACE, name).await?.len();
                let left = (original.is_some(), copy.is_some(), pods);
                return Ok((left != (false, false, 0)).then(|| format!("original, copy, pods: {left:?}")));
            }
            Deed::Stop => "Failed",
            Deed::Create | Deed::Approve | Deed::Finish => "Succeeded",
        };
        let (Some(original), Some(copy)) = (original, copy) else { bail!("original or copy is not there") };
        let phase = &original.data["status"]["phase"];
        if phase != end {
            return Ok(Some(format!("it is {phase}: {}", original.data["status"]["message"])));
        }
        same::difference(&original, &copy)
    }

    /// The UIDs of its copy and, unless Argo ends them, of its pods.
    async fn uids(&self, deed: Deed) -> Result<BTreeSet<String>> {
        let (name, wec) = (&self.names[&deed], &self.world.wecs[0]);
        let mut uids = BTreeSet::from([uid(&workflows(wec, NAMESPACE).get(name).await?)]);
        if deed != Deed::Stop {
            uids.extend(self.world.pods(wec, NAMESPACE, name).await?.iter().filter_map(ResourceExt::uid));
        }
        Ok(uids)
    }

    /// How often its pods ran.
    async fn runs(&self, deed: Deed) -> Result<usize> {
        let name = &self.names[&deed];
        let here = self.world.pods(&self.world.control, NAMESPACE, name).await?;
        ensure!(here.is_empty(), "{name} has pods in the control cluster");
        let mut runs: BTreeMap<String, usize> = BTreeMap::new();
        for wec in &self.world.wecs {
            for pod in self.world.pods(wec, NAMESPACE, name).await? {
                let node = pod.annotations().get(names::ARGO_NODE_ID).cloned().unwrap_or_default();
                *runs.entry(node).or_default() += 1;
            }
        }
        Ok(runs.into_values().max().unwrap_or_default())
    }

    /// No copies without originals, and the stranger as it was.
    async fn nothing_else(&self) -> Result<()> {
        let originals = self.world.originals(NAMESPACE).list_metadata(&ListParams::default()).await?;
        for wec in &self.world.wecs {
            for copy in workflows(wec, NAMESPACE).list_metadata(&ListParams::default()).await?.items {
                let has_original = originals.items.iter().any(|original| original.name_any() == copy.name_any());
                ensure!(has_original || copy.name_any() == STRANGER, "{} is an orphan", copy.name_any());
            }
        }
        let stranger = workflows(&self.world.wecs[0], NAMESPACE).get(STRANGER).await?;
        ensure!(stranger.resource_version() == self.stranger.resource_version(), "the stranger was touched");
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        let all = self.world.originals(NAMESPACE);
        all.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        for name in self.names.values() {
            self.world.presence(&workflows(&self.world.wecs[0], NAMESPACE), name, false).await?;
        }
        Ok(())
    }
}
