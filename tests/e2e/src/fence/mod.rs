//! The admission policies of charts/argosy, case by case, against a real API server: the fence around routed workflows,
//! and the policy that fails closed where the webhook is silent.
//!
//! The API server needs Argo's CRDs (every case runs with the minimal and with the full ones) and the chart with the
//! release name and namespace `argosy`, `webhook.enabled=false` and `syncer.enabled=false`: the policies and rights are
//! under test, and neither program may help. No Argo controller is needed, nor does one do harm.

mod agents;
mod create;
mod large;
mod original;
mod retry;
mod update;

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use argosy_api::names;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Request};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::world::wait_for;

/// The namespace of the chart's release.
const RELEASE: &str = "argosy";

/// The field manager of server-side applies.
const MANAGER: &str = "fence-test";

/// How long one request may take. Large statuses under the full CRDs take seconds on a busy machine, fence or not.
const DEADLINE: Duration = Duration::from_secs(60);

/// One write, and whether the API server is to let it through.
pub struct FenceCase {
    /// What it shows, in words; unique.
    pub name: &'static str,
    write: Write,
    expect: Expect,
}

enum Write {
    /// A Workflow is created.
    Create { namespace: Place, object: Value, stamp: Stamp, how: Creation },
    /// A Workflow exists, and is changed.
    Change {
        /// JSON Patch that makes [`original::routed`] what the case begins with.
        given: Value,
        by: Author,
        change: Change,
    },
}

enum Expect {
    Allowed,
    /// Refused by one of the two policies with a message that contains this.
    Denied(&'static str),
    /// As `Denied`, or the CRD's schema does not even let the case begin (the full CRDs know the types of fields).
    DeniedIfPossible,
    /// As `Allowed`, with the same proviso.
    AllowedIfPossible,
}

/// The namespaces that cases create workflows in.
#[derive(Clone, Copy)]
enum Place {
    /// Without any annotation.
    Plain,
    /// With `argosy.dev/clusters`.
    Ruled,
    /// By a rule about some of its workflows.
    RuledInPart,
    /// By a rule that lets them run here in the end.
    RuledOrHere,
    /// With `argosy.dev/ruled: "true"`.
    RuledByPolicy,
    /// With `argosy.dev/ruled: "false"`.
    NoLongerRuled,
}

/// The annotation `argosy.dev/placement` of a new Workflow.
enum Stamp {
    Absent,
    /// As the webhook writes it: so many seconds from now, for this cluster.
    At(i64, &'static str),
    /// Anything else.
    Text(&'static str),
}

enum Creation {
    Post,
    DryRun,
    /// Server-side apply of what is not there yet.
    Apply,
    /// By Argo's controller, with its own rights and no others.
    ByController,
}

enum Author {
    /// Somebody with every right there is.
    User,
    /// Argo's controller, with every right there is.
    Controller,
    /// The same with its own rights.
    OwnController,
    /// The syncer, with the rights that the chart gives it.
    Syncer,
    /// The syncer inside of this cluster, with every right there is.
    Agent(&'static str),
    /// The syncer's name in another namespace, with every right there is.
    Namesake,
}

enum Change {
    Json(Value),
    Merge(Value),
    /// Read, change, write the whole object, as Argo's controller and CLI do.
    Put(fn(&mut Value)),
    Apply(Value),
    Delete,
}

/// Every case, in the order in which they are best read.
pub fn cases() -> Vec<FenceCase> {
    [
        agents::cases(),
        update::refused(),
        update::allowed(),
        update::odd(),
        retry::cases(),
        create::cases(),
        large::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Waits until the API server enforces both policies, which is a moment after they are installed: it compiles them first.
pub async fn wait_until_in_force(admin: &Client) -> anyhow::Result<()> {
    let refused =
        || [update::refused(), create::unstamped()].map(|cases| cases.into_iter().find(FenceCase::is_refused));
    wait_for("the policies", || async {
        for case in refused().into_iter().flatten() {
            run(case, admin.clone()).await?;
        }
        Ok(Ok(()))
    })
    .await
}

/// Runs one case; `admin` must be allowed to impersonate. Cases may run at the same time: each has its own Workflow.
pub async fn run(case: FenceCase, admin: Client) -> anyhow::Result<()> {
    let name = case.name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let server = Server { client: admin, name };
    let outcome = match case.write {
        Write::Create { namespace, object, stamp, how } => server.create(namespace, object, stamp, how).await?,
        Write::Change { given, by, change } => match server.prepare(given).await? {
            Outcome::Done => server.change(by, change).await?,
            Outcome::Refused { message } if case.expect.may_be_impossible() && !by_policy(&message) => return Ok(()),
            Outcome::Refused { message } => bail!("cannot make the case's original: {message}"),
        },
    };
    server.clean_up().await?;
    case.expect.check(outcome)
}

impl FenceCase {
    fn is_refused(&self) -> bool {
        matches!(self.expect, Expect::Denied(_))
    }
}

impl Expect {
    /// Whether the CRD's schema may make the case moot.
    fn may_be_impossible(&self) -> bool {
        matches!(self, Self::DeniedIfPossible | Self::AllowedIfPossible)
    }

    fn check(&self, outcome: Outcome) -> anyhow::Result<()> {
        match (self, outcome) {
            (Self::Allowed | Self::AllowedIfPossible, Outcome::Done) => Ok(()),
            (Self::Denied(_) | Self::DeniedIfPossible, Outcome::Done) => bail!("should be refused, but was allowed"),
            (Self::DeniedIfPossible, Outcome::Refused { .. }) => Ok(()),
            (Self::AllowedIfPossible, Outcome::Refused { message }) if !by_policy(&message) => Ok(()),
            (Self::Allowed | Self::AllowedIfPossible, Outcome::Refused { message }) => {
                bail!("should be allowed, but was refused: {message}")
            }
            (Self::Denied(part), Outcome::Refused { message }) => {
                ensure!(by_policy(&message), "refused, but not by a policy of ours: {message}");
                // A failed expression denies too, but tells nobody what to do.
                ensure!(!message.contains("resulted in error"), "refused by a failed expression: {message}");
                ensure!(message.contains(part), "refused, but the message lacks `{part}`: {message}");
                Ok(())
            }
        }
    }
}

fn by_policy(message: &str) -> bool {
    ["fence", "fail-closed", "agents"].iter().any(|policy| message.contains(&format!("'argosy-{policy}'")))
}

enum Outcome {
    Done,
    Refused { message: String },
}

/// The API server as one case uses it.
struct Server {
    client: Client,
    /// Of the case's Workflow.
    name: String,
}

enum Call {
    Create { object: Value, dry_run: bool },
    Get,
    Replace(Value),
    Patch(PatchParams, Patch<Value>),
    Delete,
}

impl Server {
    async fn create(&self, place: Place, mut object: Value, stamp: Stamp, how: Creation) -> anyhow::Result<Outcome> {
        self.namespace(place).await?;
        self.clean_up().await?;
        if object["metadata"].get("generateName").is_none() {
            object["metadata"]["name"] = json!(self.name);
        }
        if let Some(stamp) = stamp.text() {
            object["metadata"]["annotations"]["argosy.dev/placement"] = json!(stamp);
        }
        let object = with_kind(object);
        let author = if let Creation::ByController = how { Author::OwnController } else { Author::User };
        let call = match how {
            Creation::Post | Creation::ByController => Call::Create { object, dry_run: false },
            Creation::DryRun => Call::Create { object, dry_run: true },
            Creation::Apply => Call::Patch(PatchParams::apply(MANAGER), Patch::Apply(object)),
        };
        Ok(self.send(&author, place, call).await?.0)
    }

    /// Makes the case's original: created unrouted, and put behind the fence by the only one who may.
    async fn prepare(&self, given: Value) -> anyhow::Result<Outcome> {
        let plain = json!({"metadata": {}, "spec": {"suspend": true}});
        for outcome in [
            self.create(Place::Plain, plain, Stamp::Absent, Creation::Post).await?,
            self.change(Author::Syncer, Change::Json(original::routed())).await?,
        ] {
            if let Outcome::Refused { message } = outcome {
                bail!("cannot make the case's original: {message}");
            }
        }
        self.change(Author::Syncer, Change::Json(given)).await
    }

    async fn change(&self, by: Author, change: Change) -> anyhow::Result<Outcome> {
        let call = match change {
            Change::Json(patch) => Call::Patch(PatchParams::default(), Patch::Json(serde_json::from_value(patch)?)),
            Change::Merge(patch) => Call::Patch(PatchParams::default(), Patch::Merge(patch)),
            Change::Apply(object) => Call::Patch(PatchParams::apply(MANAGER).force(), Patch::Apply(with_kind(object))),
            Change::Put(edit) => {
                let (_, mut object) = self.send(&Author::User, Place::Plain, Call::Get).await?;
                edit(&mut object);
                Call::Replace(object)
            }
            Change::Delete => Call::Delete,
        };
        Ok(self.send(&by, Place::Plain, call).await?.0)
    }

    /// Sends it as `author`. A refusal is an outcome; everything else that goes wrong is an error.
    async fn send(&self, author: &Author, place: Place, call: Call) -> anyhow::Result<(Outcome, Value)> {
        let requests = Request::new(workflows(place));
        let mut request = match call {
            Call::Create { object, dry_run } => {
                requests.create(&PostParams { dry_run, ..PostParams::default() }, serde_json::to_vec(&object)?)?
            }
            Call::Get => requests.get(&self.name, &GetParams::default())?,
            Call::Replace(object) => {
                requests.replace(&self.name, &PostParams::default(), serde_json::to_vec(&object)?)?
            }
            Call::Patch(params, patch) => requests.patch(&self.name, &params, &patch)?,
            Call::Delete => requests.delete(&self.name, &DeleteParams::default())?,
        };
        let (user, groups) = author.identity();
        request.headers_mut().insert("impersonate-user", user.parse()?);
        for group in groups {
            request.headers_mut().append("impersonate-group", group.parse()?);
        }
        let what = format!("{} {} as {user}", request.method(), request.uri());
        let answer = tokio::time::timeout(DEADLINE, self.client.request::<Value>(request)).await;
        match answer.with_context(|| format!("{what}: no answer within {DEADLINE:?}"))? {
            Ok(object) => Ok((Outcome::Done, object)),
            Err(kube::Error::Api(status)) if by_policy(&status.message) || status.code == 422 => {
                Ok((Outcome::Refused { message: status.message.clone() }, Value::Null))
            }
            Err(error) => Err(anyhow!(error).context(what)),
        }
    }

    async fn namespace(&self, place: Place) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let (name, annotations) = place.namespace();
        let namespace = serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations}}))?;
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(|_| ()).with_context(|| format!("cannot create namespace {name}")),
        }
    }

    /// Removes what the case, or an earlier run of it, left.
    async fn clean_up(&self) -> anyhow::Result<()> {
        use Place::{NoLongerRuled, Plain, Ruled, RuledByPolicy, RuledInPart, RuledOrHere};
        for place in [Plain, Ruled, RuledInPart, RuledOrHere, RuledByPolicy, NoLongerRuled] {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            for call in [Call::Patch(PatchParams::default(), free), Call::Delete] {
                match self.send(&Author::User, place, call).await {
                    Err(error) if is_not_found(&error) => break,
                    done => drop(done.with_context(|| format!("cannot remove Workflow {}", self.name))?),
                }
            }
        }
        Ok(())
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}

fn with_kind(mut object: Value) -> Value {
    object["apiVersion"] = json!("argoproj.io/v1alpha1");
    object["kind"] = json!("Workflow");
    object
}

fn workflows(place: Place) -> String {
    format!("/apis/argoproj.io/v1alpha1/namespaces/{}/workflows", place.namespace().0)
}

impl Place {
    fn namespace(self) -> (&'static str, Value) {
        match self {
            Self::Plain => ("fence-plain", json!({})),
            Self::Ruled => ("fence-ruled", json!({"argosy.dev/clusters": "*"})),
            Self::RuledInPart => {
                ("fence-ruled-in-part", json!({"argosy.dev/clusters": "*", "argosy.dev/workflows": "tier=gold"}))
            }
            Self::RuledOrHere => {
                ("fence-ruled-or-here", json!({"argosy.dev/clusters": "*", "argosy.dev/no-cluster": "Local"}))
            }
            Self::RuledByPolicy => ("fence-ruled-by-policy", json!({"argosy.dev/ruled": "true"})),
            Self::NoLongerRuled => ("fence-no-longer-ruled", json!({"argosy.dev/ruled": "false"})),
        }
    }
}

impl Stamp {
    fn text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Text(text) => Some(text.to_owned()),
            Self::At(seconds, cluster) => {
                let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
                let time = time.strftime("%Y-%m-%dT%H:%M:%SZ");
                Some(format!(r#"{{"time":"{time}","cluster":"{cluster}","rule":"namespace","reason":"a test"}}"#))
            }
        }
    }
}

impl Author {
    /// User name and groups.
    fn identity(&self) -> (String, Vec<String>) {
        let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
        let almighty = || vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let in_groups = |namespace: &str| {
            vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]
        };
        match self {
            Self::User => ("tenant".to_owned(), almighty()),
            Self::Controller => (account("argo", "argo"), almighty()),
            Self::Namesake => (account("elsewhere", "argosy-syncer"), almighty()),
            Self::OwnController => (account("argo", "argo"), in_groups("argo")),
            Self::Agent(cluster) => (account(RELEASE, &names::agent(cluster)), almighty()),
            Self::Syncer => (account(RELEASE, "argosy-syncer"), in_groups(RELEASE)),
        }
    }
}
