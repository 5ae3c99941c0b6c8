//! Keeps Secret, served certificate and caBundle in order, for as long as the process runs.
//!
//! Level-triggered: every event, every answer to a write and every minute end in the same question (see `plan`), so
//! that nothing is lost when a watch is. Replicas need no leader: every write carries the version that it was decided
//! on, and whoever comes second reads what the first has written.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use argosy_api::names::MANAGER;
use argosy_runtime::client::{RequestError, within};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::kin::Kin;
use crate::material::{IssueError, Material, MaterialError};
use crate::plan::{Found, Plan, plan};
use crate::registration::correction;
use crate::resolver::Resolver;

/// Label that says who manages an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// How often Secret and configuration are read whatever the watches say.
const LOOK: Duration = Duration::from_secs(60);

/// Whether a valid certificate is served and the API server trusts it; if not, why.
pub type Readiness = Result<(), &'static str>;

/// Names the Secret in errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Debug, Error)]
pub enum KeeperError {
    #[error("Secret {secret} could not be read")]
    ReadSecret { secret: SecretRef, source: RequestError },
    #[error("Secret {secret} could not be written")]
    WriteSecret { secret: SecretRef, source: RequestError },
    #[error(
        "Secret {secret} cannot be used, and does not carry the label {MANAGED_BY}={MANAGER} that would let it be \
         replaced: delete it, or label it"
    )]
    ForeignSecret { secret: SecretRef, source: MaterialError },
    #[error("no certificate for Secret {secret}")]
    Issue { secret: SecretRef, source: IssueError },
    #[error("MutatingWebhookConfiguration {name} could not be read")]
    ReadConfiguration { name: String, source: RequestError },
    #[error("caBundle of MutatingWebhookConfiguration {name} could not be written")]
    WriteBundle { name: String, source: RequestError },
}

/// The task behind [`Keeper::start`].
pub struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    secret: SecretRef,
    configuration: Option<String>,
    names: BTreeSet<String>,
    lifetimes: crate::Lifetimes,
    resolver: Arc<Resolver>,
    readiness: watch::Sender<Readiness>,
    kin: watch::Sender<Option<Kin>>,
    /// What the resolver serves.
    served: Option<Material>,
}

/// What a running keeper provides.
pub struct Kept {
    /// Serves the certificate.
    pub resolver: Arc<Resolver>,
    pub ready: watch::Receiver<Readiness>,
    /// How other replicas are known; `None` until there is a certificate.
    pub kin: watch::Receiver<Option<Kin>>,
}

/// What was last seen; the outer `None`: nothing yet.
#[derive(Default)]
struct Seen {
    secret: Option<Option<Secret>>,
    configuration: Option<Option<MutatingWebhookConfiguration>>,
}

/// How a look at everything ended.
enum Outcome {
    /// Look again at this time, or when something happens.
    Wait(Timestamp),
    /// Something was written or read anew: look again at once.
    Again,
}

impl Keeper {
    /// Starts: what it provides, and the future that keeps it in order until `shutdown`.
    pub fn start(
        client: Client,
        namespace: &str,
        args: Args,
        shutdown: CancellationToken,
    ) -> (Kept, impl Future<Output = ()> + Send + use<>) {
        let Args { tls_secret, tls_san, webhook_configuration, lifetimes } = args;
        let resolver = Arc::new(Resolver::default());
        let (readiness, ready) = watch::channel(Err("no certificate yet"));
        let (kin, known) = watch::channel(None);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), namespace),
            configurations: Api::all(client),
            secret: SecretRef { namespace: namespace.to_owned(), name: tls_secret },
            configuration: webhook_configuration,
            names: tls_san.into_iter().collect(),
            lifetimes,
            resolver: Arc::clone(&resolver),
            readiness,
            kin,
            served: None,
        };
        let task = async move {
            tokio::select! {
                () = keeper.run() => {}
                () = shutdown.cancelled() => {}
            }
        };
        (Kept { resolver, ready, kin: known }, task)
    }

    async fn run(mut self) {
        let mut secrets = observe(self.secrets.clone(), Some(self.secret.name.clone()));
        let mut configurations = observe(self.configurations.clone(), self.configuration.clone());
        let mut seen = Seen::default();
        let mut failures = 0;
        loop {
            let wait = match self.look(&mut seen).await {
                Ok(Outcome::Again) => continue,
                Ok(Outcome::Wait(until)) => {
                    failures = 0;
                    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default().min(LOOK)
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "certificates need attention");
                    failures += 1;
                    Duration::from_secs(1 << failures.min(5))
                }
            };
            // A time that has just come may still round down to now.
            let wait = wait.max(Duration::from_millis(100));
            tokio::select! {
                Some(event) = secrets.next() => note("Secret", event, &mut seen.secret),
                Some(event) = configurations.next() => {
                    note("MutatingWebhookConfiguration", event, &mut seen.configuration);
                }
                () = tokio::time::sleep(wait) => {
                    if let Err(error) = self.read(&mut seen).await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "certificates could not be checked");
                    }
                }
            }
        }
    }

    /// Reads both objects from the API server itself.
    async fn read(&self, seen: &mut Seen) -> Result<(), KeeperError> {
        seen.secret = Some(self.read_secret().await?);
        if let Some(name) = &self.configuration {
            let read = within(self.configurations.get_opt(name)).await;
            let failed = |source| KeeperError::ReadConfiguration { name: name.clone(), source };
            seen.configuration = Some(read.map_err(failed)?);
        }
        Ok(())
    }

    async fn read_secret(&self) -> Result<Option<Secret>, KeeperError> {
        within(self.secrets.get_opt(&self.secret.name))
            .await
            .map_err(|source| KeeperError::ReadSecret { secret: self.secret.clone(), source })
    }

    /// Looks at everything once and does the first thing that is to be done.
    async fn look(&mut self, seen: &mut Seen) -> Result<Outcome, KeeperError> {
        let Some(secret) = &seen.secret else { return Ok(Outcome::Wait(Timestamp::MAX)) };
        let now = Timestamp::now();
        let (found, material) = examine(secret.as_ref());
        let published = match (&self.configuration, &seen.configuration, &material) {
            (None, ..) => true,
            (_, Some(Some(configuration)), Ok(Some(material))) => {
                correction(configuration, &material.bundle()).is_none()
            }
            _ => false,
        };
        let issued = |issued: Result<Material, IssueError>| {
            issued.map_err(|source| KeeperError::Issue { secret: self.secret.clone(), source })
        };
        let (next, why) = match (plan(&found, &self.names, published, now), material) {
            (Plan::Keep { until }, Ok(Some(material))) => return self.keep(material, until, seen, now).await,
            (Plan::Stuck, Err(source)) => {
                // What was loaded before goes on being served.
                if self.served.is_none() {
                    self.report(Err("the Secret holds something else"));
                }
                return Err(KeeperError::ForeignSecret { secret: self.secret.clone(), source });
            }
            (Plan::AddAuthority { why }, Ok(Some(material))) => {
                (issued(material.with_new_authority(self.lifetimes, now))?, why)
            }
            (Plan::Renew { names, why }, Ok(Some(material))) => {
                (issued(material.with_new_certificate(&names, self.lifetimes, now))?, why)
            }
            (Plan::Begin { why }, contents) => {
                if let Err(error) = contents {
                    tracing::warn!(secret = %self.secret, %error, "replacing what cannot be used");
                }
                (issued(Material::begin(&self.names, self.lifetimes, now))?, why)
            }
            // A plan about material comes with material.
            (_, _) => return Ok(Outcome::Wait(Timestamp::MAX)),
        };
        let written = self.write(secret.as_ref(), &next).await?;
        if written.is_some() {
            tracing::info!(secret = %self.secret, why, until = %next.serving().until, "certificates written");
        }
        seen.secret = Some(match written {
            Some(written) => Some(written),
            None => self.read_secret().await?,
        });
        Ok(Outcome::Again)
    }

    /// Serves what is in order, and tells the API server whom to trust.
    async fn keep(
        &mut self,
        material: Material,
        until: Timestamp,
        seen: &mut Seen,
        now: Timestamp,
    ) -> Result<Outcome, KeeperError> {
        let bundle = material.bundle();
        let valid = now < material.serving().until;
        let kin = material.kin(self.names.first().cloned().unwrap_or_default());
        self.kin.send_if_modified(|known| known.replace(kin.clone()).as_ref() != Some(&kin));
        self.serve(material);
        if let (Some(name), Some(configuration)) = (&self.configuration, &seen.configuration) {
            let Some(configuration) = configuration else {
                self.report(Err("there is no MutatingWebhookConfiguration of the given name"));
                return Ok(Outcome::Wait(until));
            };
            if let Some(patch) = correction(configuration, &bundle) {
                self.report(Err("the caBundle is not in place"));
                // A view that is behind must not put back a bundle that another replica has just replaced.
                let current = self.read_secret().await?;
                let is_current = version(current.as_ref()) == version(seen.secret.as_ref().and_then(Option::as_ref));
                seen.secret = Some(current);
                if is_current {
                    seen.configuration = Some(self.publish(name, &patch).await?);
                }
                return Ok(Outcome::Again);
            }
        }
        let known = self.configuration.is_none() || seen.configuration.is_some();
        self.report(match (valid, known) {
            (false, _) => Err("the certificate has expired"),
            (true, false) => Err("the caBundle is not known yet"),
            (true, true) => Ok(()),
        });
        Ok(Outcome::Wait(until))
    }

    fn report(&self, readiness: Readiness) {
        self.readiness.send_if_modified(|known| std::mem::replace(known, readiness) != readiness);
    }

    fn serve(&mut self, material: Material) {
        if self.served.as_ref().is_some_and(|served| served.serves_the_same_as(&material)) {
            return;
        }
        match material.certified_key() {
            Ok(key) => {
                self.resolver.exchange(key);
                tracing::info!(secret = %self.secret, until = %material.serving().until, "serving a new certificate");
                self.served = Some(material);
            }
            Err(error) => tracing::error!(secret = %self.secret, %error, "certificate cannot be served"),
        }
    }

    /// Writes the Secret unless it has changed since it was read; `None`: it has.
    async fn write(&self, secret: Option<&Secret>, material: &Material) -> Result<Option<Secret>, KeeperError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut next = secret.cloned().unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.name.clone()),
                labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        });
        next.data.get_or_insert_default().extend(material.data());
        let written = match secret {
            None => within(self.secrets.create(&params, &next)).await,
            Some(_) => within(self.secrets.replace(&self.secret.name, &params, &next)).await,
        };
        // A create that finds nothing lacks its namespace, and would for ever.
        let is_lost = |status| is_race(status) && (secret.is_some() || status != 404);
        match written {
            Ok(written) => Ok(Some(written)),
            Err(error) if error.status().is_some_and(is_lost) => Ok(None),
            Err(source) => Err(KeeperError::WriteSecret { secret: self.secret.clone(), source }),
        }
    }

    /// Writes the bundle unless the configuration has changed since it was read; the configuration as it is now.
    async fn publish(
        &self,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<Option<MutatingWebhookConfiguration>, KeeperError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match within(self.configurations.patch(name, &params, &Patch::Strategic(patch))).await {
            Ok(patched) => {
                tracing::info!(configuration = name, "caBundle written");
                Ok(Some(patched))
            }
            Err(error) if error.status().is_some_and(is_race) => {
                let failed = |source| KeeperError::ReadConfiguration { name: name.to_owned(), source };
                within(self.configurations.get_opt(name)).await.map_err(failed)
            }
            Err(source) => Err(KeeperError::WriteBundle { name: name.to_owned(), source }),
        }
    }
}

/// Answers that say: somebody else was faster. 404 at a replace: it was deleted meanwhile.
fn is_race(status: u16) -> bool {
    matches!(status, 404 | 409)
}

fn version(secret: Option<&Secret>) -> Option<&str> {
    secret.and_then(|secret| secret.metadata.resource_version.as_deref())
}

/// What a Secret holds, as `plan` wants to know it, and the contents themselves.
fn examine(secret: Option<&Secret>) -> (Found, Result<Option<Material>, MaterialError>) {
    let Some(secret) = secret else { return (Found::Absent, Ok(None)) };
    match Material::read(secret.data.as_ref().unwrap_or(&Default::default())) {
        Ok(material) => (Found::Usable(material.facts()), Ok(Some(material))),
        Err(error) => {
            let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
            (Found::Broken { ours: label.is_some_and(|manager| manager == MANAGER) }, Err(error))
        }
    }
}

type Observed<K> = BoxStream<'static, Result<Option<K>, watcher::Error>>;

/// Watches one object; without a name, nothing ever comes.
fn observe<K>(api: Api<K>, name: Option<String>) -> Observed<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + fmt::Debug + Send + 'static,
{
    match name {
        Some(name) => watch_object(api, &name).default_backoff().boxed(),
        None => futures::stream::pending().boxed(),
    }
}

fn note<K>(kind: &'static str, event: Result<Option<K>, watcher::Error>, seen: &mut Option<Option<K>>) {
    match event {
        Ok(object) => *seen = Some(object),
        Err(error) => tracing::warn!(kind, error = &error as &dyn std::error::Error, "watch failed"),
    }
}
