//! What CronWorkflows do with workflows that they have created.

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::shapes::{cron, one};
use super::side::{ITSELF, Side, phase_of};
use super::{Verb, verb};
use crate::world::{put, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Field, "concurrencyPolicy: Forbid of a CronWorkflow", forbid),
        verb!(Field, "concurrencyPolicy: Replace of a CronWorkflow", replace),
        verb!(Field, "successfulJobsHistoryLimit and failedJobsHistoryLimit of a CronWorkflow", history),
        verb!(Argo, "argo cron suspend, then argo cron resume", suspend),
    ]
}

/// A CronWorkflow of this side.
struct Cron {
    side: Side,
    name: String,
}

impl Cron {
    /// Creates one that begins a workflow so often. Cron's own notation knows no seconds; `@every` does.
    async fn begin(side: Side, name: &str, every: &str, workflow: &Value, spec: Value) -> Result<Self> {
        let name = side.own(name);
        let mut object = cron(&name, &format!("@every {every}"), workflow);
        object["spec"].as_object_mut().context("a spec")?.extend(spec.as_object().cloned().unwrap_or_default());
        put(&side.world.control, side.namespace, object).await?;
        Ok(Self { side, name })
    }

    /// Its workflows, the oldest first.
    async fn children(&self) -> Result<Vec<String>> {
        self.named(&[self.side.world.originals(self.side.namespace)]).await
    }

    /// The same where they run.
    async fn copies(&self) -> Result<Vec<String>> {
        self.named(&self.side.runs()).await
    }

    async fn named(&self, places: &[Api<DynamicObject>]) -> Result<Vec<String>> {
        let of_it = ListParams::default().labels(&format!("workflows.argoproj.io/cron-workflow={}", self.name));
        let mut names = Vec::new();
        for place in places {
            names.extend(place.list_metadata(&of_it).await?.items.iter().map(ResourceExt::name_any));
        }
        // Each is named after the second that it was due at.
        names.sort();
        Ok(names)
    }

    /// Waits until it has so many workflows, and answers them.
    async fn has(&self, count: usize) -> Result<Vec<String>> {
        wait_for(&format!("{} workflows of {}", count, self.name), || async {
            let children = self.children().await?;
            Ok(if children.len() >= count { Ok(children) } else { Err(format!("it has {children:?}")) })
        })
        .await
    }

    /// Waits until its turn has come and passed twice, by what Argo's controller logs then. Once might have been before
    /// what is looked for.
    async fn passed_over(&self, why: &str) -> Result<()> {
        let log = self.side.world.testbed.layout.logs().join("control/workflow-controller.log");
        let (namespace, name) = (format!("namespace={}", self.side.namespace), format!("workflow={}", self.name));
        let count = || -> Result<usize> {
            let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
            let has = |line: &str, word: &str| line.split_whitespace().any(|one| one == word);
            let is_it = |line: &&str| line.contains(why) && has(line, &namespace) && has(line, &name);
            Ok(text.lines().filter(is_it).count())
        };
        let before = count()?;
        wait_for(&format!("{} to be passed over", self.name), || async {
            Ok(if count()? >= before + 2 { Ok(()) } else { Err("not yet".to_owned()) })
        })
        .await
    }

    /// Deletes it and all that came of it, whatever was seen: it would go on for ever.
    async fn end(self, seen: Result<String>) -> Result<String> {
        let children = self.children().await;
        self.side.kubectl(&["delete", "cronworkflow", &self.name]).await?;
        let seen = seen?;
        for child in children? {
            self.side.gone(&child).await?;
        }
        Ok(seen)
    }
}

async fn forbid(side: Side) -> Result<String> {
    let cron = Cron::begin(side, "forbid", "2s", &one("300s"), json!({"concurrencyPolicy": "Forbid"})).await?;
    let seen = one_at_a_time(&cron).await;
    cron.end(seen).await
}

async fn one_at_a_time(cron: &Cron) -> Result<String> {
    let first = cron.has(1).await?.remove(0);
    cron.side.seen(&first, |object| phase_of(object, ITSELF) == "Running").await?;
    cron.passed_over("it was not run").await?;
    ensure!(cron.children().await?.len() == 1, "another one began while the first one ran");
    cron.side.finish(&first).await?;
    let seen = cron.side.ended(&first).await?;
    cron.has(2).await?;
    Ok(format!("{seen}; the next begins after that, not before"))
}

async fn replace(side: Side) -> Result<String> {
    let policy = json!({"concurrencyPolicy": "Replace", "failedJobsHistoryLimit": 100});
    let cron = Cron::begin(side, "replace", "10s", &one("300s"), policy).await?;
    let seen = replaced(&cron).await;
    cron.end(seen).await
}

async fn replaced(cron: &Cron) -> Result<String> {
    let first = cron.has(1).await?.remove(0);
    let seen = cron.side.ended(&first).await?;
    let second = cron.has(2).await?.remove(1);
    cron.side.seen(&second, |object| !phase_of(object, ITSELF).is_empty()).await?;
    Ok(format!("{}; the next begins", seen.split(';').next().unwrap_or_default()))
}

async fn history(side: Side) -> Result<String> {
    let mut seen = Vec::new();
    for (name, exit_code, counter, limit) in [("successes", "0", "succeeded", 1), ("failures", "1", "failed", 2)] {
        let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 2});
        let mut workflow = one("100ms");
        workflow["spec"]["templates"][0]["metadata"]["annotations"]["player.argosy.dev/exit-code"] = json!(exit_code);
        let cron = Cron::begin(side.clone(), name, "2s", &workflow, limits).await?;
        let kept = kept(&cron, counter, limit).await;
        seen.push(cron.end(kept).await?);
    }
    Ok(seen.join(", "))
}

async fn kept(cron: &Cron, counter: &str, limit: usize) -> Result<String> {
    let (side, name) = (&cron.side, cron.name.as_str());
    wait_for(&format!("{name} to have had more than it keeps"), || async {
        let text = side.kubectl(&["get", "cronworkflow", name, "-o", "json"]).await?;
        let status = serde_json::from_str::<Value>(&text)?["status"].take();
        let is_enough = status[counter].as_u64().is_some_and(|count| count > limit as u64);
        Ok(if is_enough { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    let stop = ["--type=merge", "-p", r#"{"spec":{"suspend":true}}"#];
    side.kubectl(&["patch", "cronworkflow", name, stop[0], stop[1], stop[2]]).await?;
    wait_for(&format!("{limit} of {name} to be left, and their copies"), || async {
        let (left, copies) = (cron.children().await?, cron.copies().await?);
        let is_so = left.len() == limit && copies == left;
        Ok(if is_so { Ok(()) } else { Err(format!("there are {left:?}, and where they ran {copies:?}")) })
    })
    .await?;
    Ok(format!("of those that {counter} {limit} stay"))
}

async fn suspend(side: Side) -> Result<String> {
    let many = json!({"successfulJobsHistoryLimit": 100});
    let cron = Cron::begin(side, "paused", "2s", &one("100ms"), many).await?;
    let seen = paused(&cron).await;
    cron.end(seen).await
}

async fn paused(cron: &Cron) -> Result<String> {
    const PASSED_OVER: &str = "is suspended, skipping execution";
    let side = &cron.side;
    cron.has(1).await?;
    side.argo(&["cron", "suspend", &cron.name], "").await?;
    cron.passed_over(PASSED_OVER).await?;
    let before = cron.children().await?;
    cron.passed_over(PASSED_OVER).await?;
    ensure!(cron.children().await? == before, "one began while it was suspended");
    side.argo(&["cron", "resume", &cron.name], "").await?;
    let next = cron.has(before.len() + 1).await?.remove(before.len());
    Ok(format!("none begins, then the next does: {}", side.ended(&next).await?))
}
