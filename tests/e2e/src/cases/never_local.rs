//! Whatever users write to routed workflows, in whatever order, with and without the webhook: nothing of it runs in the
//! control cluster, and no workflow runs twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use argosy_api::names;
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::dice::Dice;
use crate::verbs::shapes::{failing, gated, one, pair, two_gates};
use crate::world::{Program, World, uid, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("no order of writes and outages runs a routed workflow here, or twice at once", never_local)]
}

const NAMESPACE: &str = "never-local";
const CLUSTER: &str = "kubestellar.io/cluster";
const COMPLETED: &str = "workflows.argoproj.io/completed";
/// How many writes; the webhook is down for the second third of them, the syncer for the middle of that.
const WRITES: usize = 60;
/// So many workflows have their copies before the first write; the others are on their way.
const DELIVERED: usize = 3;

async fn never_local(world: World) -> Result<()> {
    let mut dice = Dice::new()?;
    let mut done = Vec::new();
    let checked = check(&world, &mut dice, &mut done).await;
    for program in [Program::Webhook, Program::Syncer] {
        world.up(program).await?;
    }
    checked.with_context(|| format!("E2E_SEED={} does the same again; what was done:\n{}", dice.seed, done.join("\n")))
}

/// One write of a user's.
#[derive(Clone, Debug)]
enum Write {
    Merge(Value),
    /// A program of these words; WORKFLOW stands for the workflow's name.
    Run(&'static str),
    /// What a resume of the whole workflow looks like, without any program's help.
    PutResumed,
    /// The workflow as it was when it was created.
    PutOld,
}

fn writes() -> Vec<Write> {
    let label = |key: &str, value: Value| Write::Merge(json!({"metadata": {"labels": {key: value}}}));
    let note = |key: &str, value: Value| Write::Merge(json!({"metadata": {"annotations": {key: value}}}));
    let again =
        json!({"metadata": {"labels": {COMPLETED: "false"}}, "status": {"phase": "Running", "finishedAt": null}});
    vec![
        Write::Merge(json!({"spec": {"suspend": false}})),
        Write::Merge(json!({"spec": {"suspend": null}})),
        Write::Merge(json!({"spec": {"suspend": null, "shutdown": null}})),
        Write::Merge(json!({"spec": {"entrypoint": "work", "suspend": false}})),
        Write::Merge(json!({"spec": {"suspend": null}, "metadata": {"labels": {CLUSTER: null}}})),
        Write::Merge(json!({"spec": {"suspend": null}, "status": null})),
        Write::Merge(json!({"spec": {"shutdown": "Stop"}})),
        Write::Merge(json!({"status": {"phase": "Pending", "nodes": null}})),
        Write::Merge(again),
        label(CLUSTER, json!(null)),
        label(CLUSTER, json!("local")),
        label(CLUSTER, json!("cluster1")),
        label(CLUSTER, json!("cluster2")),
        label(COMPLETED, json!(null)),
        label(COMPLETED, json!("true")),
        label("note", json!("some")),
        note("note", json!("some")),
        note("argosy.dev/suspend", json!("true")),
        note("argosy.dev/suspend", json!(null)),
        note("argosy.dev/intents", json!(null)),
        note("argosy.dev/placement", json!(null)),
        note("argosy.dev/delivery", json!(null)),
        Write::PutResumed,
        Write::PutResumed,
        Write::PutOld,
        Write::Run("argo resume WORKFLOW"),
        Write::Run("argo resume WORKFLOW --node-field-selector displayName=left"),
        Write::Run("argo stop WORKFLOW --node-field-selector displayName=right"),
        Write::Run("argo node set WORKFLOW --phase Succeeded --node-field-selector displayName=gate"),
        Write::Run("argo retry WORKFLOW"),
        Write::Run("argo retry WORKFLOW -p code=0"),
        Write::Run("argo suspend WORKFLOW"),
        Write::Run("argo terminate WORKFLOW"),
        Write::Run("kubectl-argosy suspend WORKFLOW"),
        Write::Run("kubectl-argosy resume WORKFLOW"),
    ]
}

async fn check(world: &World, dice: &mut Dice, done: &mut Vec<String>) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    let watch = Watch::begin(world);
    let originals = world.originals(NAMESPACE);
    let mut created = Vec::new();
    for workflow in [gated(), two_gates(), failing(), failing(), one("300s"), pair("1s")] {
        created.push(originals.create(&PostParams::default(), &serde_json::from_value(workflow)?).await?);
        if created.len() == DELIVERED {
            wait_for("copies", || async {
                let saw = watch.saw();
                Ok(if saw == DELIVERED { Ok(()) } else { Err(format!("there are {saw}")) })
            })
            .await?;
        }
    }
    let writes = writes();
    for turn in 0..WRITES {
        match turn * 6 / WRITES {
            2 if turn % (WRITES / 6) == 0 => world.down(Program::Webhook).await?,
            3 if turn % (WRITES / 6) == 0 => world.down(Program::Syncer).await?,
            4 if turn % (WRITES / 6) == 0 => {
                world.up(Program::Webhook).await?;
                world.up(Program::Syncer).await?;
            }
            _ => {}
        }
        let (old, write) = (dice.one_of(&created), dice.one_of(&writes));
        let answer = carry_out(world, &old, &write).await.map_or_else(|error| format!("{error:#}"), |()| "done".into());
        done.push(format!("{} {write:?}: {}", old.name_any(), answer.lines().next().unwrap_or_default()));
        watch.ensure_fine()?;
    }
    // It goes on with all of them: each comes to an end when it is told to.
    join_all(created.iter().map(|old| end(world, old))).await.into_iter().collect::<Result<()>>()?;
    let pods: Api<Pod> = Api::namespaced(world.control.clone(), NAMESPACE);
    let own = format!("!{}", names::SHADOW);
    let here = pods.list_metadata(&ListParams::default().labels(&own)).await?;
    ensure!(here.items.is_empty(), "{} pods are in the control cluster", here.items.len());
    watch.ensure_fine()?;
    for old in &created {
        originals.delete(&old.name_any(), &DeleteParams::background()).await?;
        for wec in &world.wecs {
            world.presence(&workflows(wec, NAMESPACE), &old.name_any(), false).await?;
        }
    }
    Ok(())
}

async fn carry_out(world: &World, old: &DynamicObject, write: &Write) -> Result<()> {
    let (originals, name) = (world.originals(NAMESPACE), old.name_any());
    match write {
        Write::Merge(patch) => originals.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)?,
        Write::Run(words) => {
            let words: Vec<&str> = words.split(' ').map(|word| if word == "WORKFLOW" { &name } else { word }).collect();
            world.run(words[0], &[&words[1..], &["-n", NAMESPACE]].concat(), "").await.map(drop)?;
        }
        Write::PutResumed => {
            let mut now = originals.get(&name).await?;
            now.data["spec"].as_object_mut().context("a spec")?.remove("suspend");
            for node in now.data["status"]["nodes"].as_object_mut().into_iter().flat_map(|nodes| nodes.values_mut()) {
                if node["type"] == "Suspend" && node["phase"] == "Running" {
                    node["phase"] = json!("Succeeded");
                }
            }
            originals.replace(&name, &PostParams::default(), &now).await?;
        }
        Write::PutOld => {
            let mut old = old.clone();
            old.metadata.resource_version = originals.get(&name).await?.metadata.resource_version;
            old.data["spec"].as_object_mut().context("a spec")?.remove("suspend");
            originals.replace(&name, &PostParams::default(), &old).await?;
        }
    }
    Ok(())
}

/// Terminates a workflow, if that has not happened, and looks at what it has become.
async fn end(world: &World, old: &DynamicObject) -> Result<()> {
    let (originals, name) = (world.originals(NAMESPACE), old.name_any());
    let go_on = json!({"metadata": {"annotations": {"argosy.dev/suspend": null}}, "spec": {"shutdown": "Terminate"}});
    originals.patch(&name, &PatchParams::default(), &Patch::Merge(go_on)).await?;
    let ended = wait_for(&format!("{name} to end"), || async {
        let now = originals.get(&name).await?;
        let is_done = now.labels().get(COMPLETED).is_some_and(|done| done == "true");
        let is_whole = is_done && now.data["status"]["finishedAt"].is_string();
        Ok(if is_whole { Ok(now) } else { Err(json!([now.metadata, now.data]).to_string()) })
    })
    .await?;
    ensure!(ended.labels().get(CLUSTER) == old.labels().get(CLUSTER), "{name} is labelled {:?}", ended.labels());
    ensure!(ended.data["spec"]["suspend"] == true, "{name} is not suspended");
    Ok(())
}

/// Looks at every change while it lasts.
struct Watch {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// The copies that are there, by name: each one's cluster and UID.
    copies: BTreeMap<String, BTreeSet<(usize, String)>>,
    wrong: Vec<String>,
}

impl Watch {
    fn begin(world: &World) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let pods: Api<Pod> = Api::namespaced(world.control.clone(), NAMESPACE);
        let mut tasks = vec![tokio::spawn(follow(pods, Arc::clone(&seen), |seen, event| {
            if let Event::Apply(pod) | Event::InitApply(pod) = event
                && !pod.labels().contains_key(names::SHADOW)
            {
                seen.wrong.push(format!("pod {} is in the control cluster", pod.name_any()));
            }
        }))];
        for (number, wec) in world.wecs.iter().enumerate() {
            let take_in = move |seen: &mut Seen, event: Event<DynamicObject>| match event {
                Event::Apply(copy) | Event::InitApply(copy) => {
                    let there = seen.copies.entry(copy.name_any()).or_default();
                    there.insert((number, uid(&copy)));
                    if there.len() > 1 {
                        seen.wrong.push(format!("{} has the copies {there:?}", copy.name_any()));
                    }
                }
                Event::Delete(copy) => {
                    seen.copies.entry(copy.name_any()).or_default().remove(&(number, uid(&copy)));
                }
                Event::Init | Event::InitDone => {}
            };
            tasks.push(tokio::spawn(follow(workflows(wec, NAMESPACE), Arc::clone(&seen), take_in)));
        }
        Self { seen, tasks }
    }

    fn ensure_fine(&self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(seen.wrong.is_empty(), "{}", seen.wrong.join("\n"));
        Ok(())
    }

    /// How many workflows had a copy.
    fn saw(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).copies.len()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn follow<K>(api: Api<K>, seen: Arc<Mutex<Seen>>, take_in: impl Fn(&mut Seen, Event<K>))
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        if let Ok(event) = event {
            take_in(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), event);
        }
    }
}
