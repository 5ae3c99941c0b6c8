//! Whoever looks at argo-server's UI: what the UI asks for on their behalf, asked the same way.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use crate::Testbed;
use crate::cluster::token;
use crate::process::wait_until;

/// The account.
const USER: &str = "browser";
/// How long one answer, and rights until they are in force, may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// More than any answer here has.
const LARGEST: u64 = 256 << 20;

/// Signed in at the control cluster's argo-server, as one who may do in some namespaces what their owner may.
#[derive(Debug, Clone)]
pub struct Browser {
    url: String,
    cookie: String,
    agent: ureq::Agent,
}

/// What argo-server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Browser {
    /// Makes the account in the first namespace and signs in.
    ///
    /// # Errors
    /// The testbed has no argo-server, or it does not let the user in.
    pub async fn sign_in(testbed: &Testbed, namespaces: &[&str]) -> Result<Self> {
        let url = testbed.argo_server()?.context("the testbed has no argo-server")?;
        let client = testbed.control().client().await?;
        let home = namespaces.first().context("a user has a namespace")?;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": USER}});
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), home);
        accounts.patch(USER, &params, &Patch::Apply(&account)).await.context("making the account")?;
        for namespace in namespaces {
            // Its rights are those by which argo-server looks for workflows, and for the keys of what they have stored.
            let rights = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": USER},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
                "subjects": [{"kind": "ServiceAccount", "name": USER, "namespace": home}],
            });
            let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
            bindings.patch(USER, &params, &Patch::Apply(&rights)).await.context("giving it rights")?;
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build();
        let cookie = format!("authorization=Bearer {}", token(&client, home, USER).await?);
        let browser = Self { url, cookie, agent: config.new_agent() };
        for namespace in namespaces {
            wait_until("argo-server to let its user in", PATIENCE, None, || async {
                let answer = browser.get(&format!("api/v1/workflows/{namespace}?listOptions.limit=1")).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
        }
        Ok(browser)
    }

    /// The answer to a request, in whole.
    ///
    /// # Errors
    /// There is none.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let (browser, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut response = browser.ask(&path, "*/*")?;
            let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
            Ok(Answer {
                status: response.status().as_u16(),
                content_type: content_type.unwrap_or_default().to_owned(),
                body: response.body_mut().with_config().limit(LARGEST).read_to_vec().with_context(|| path.clone())?,
            })
        })
        .await?
    }

    /// The events of a stream, until there are `enough` of them.
    ///
    /// # Errors
    /// The stream cannot be had, or ends before that.
    pub async fn events(&self, path: &str, enough: impl Fn(&[Value]) -> bool + Send + 'static) -> Result<Vec<Value>> {
        let (browser, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let response = browser.ask(&path, "text/event-stream")?;
            ensure!(response.status() == 200, "{path}: {}", response.status());
            let mut events = Vec::new();
            for line in BufReader::new(response.into_body().into_reader()).lines() {
                if let Some(data) = line.with_context(|| format!("{path}: after {events:?}"))?.strip_prefix("data: ") {
                    let mut event: Value = serde_json::from_str(data).with_context(|| path.clone())?;
                    events.push(event["result"].take());
                    if enough(&events) {
                        return Ok(events);
                    }
                }
            }
            bail!("{path}: the stream ended after {events:?}")
        })
        .await?
    }

    fn ask(&self, path: &str, accept: &str) -> Result<ureq::http::Response<ureq::Body>> {
        let request = self.agent.get(format!("{}/{path}", self.url));
        request.header("Cookie", &self.cookie).header("Accept", accept).call().with_context(|| path.to_owned())
    }
}

impl Answer {
    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Where the UI gets an output artifact of a workflow's node, which is given by the name that it is shown with.
///
/// # Errors
/// There is no such node.
pub fn artifact_path(workflow: &DynamicObject, node: &str, artifact: &str) -> Result<String> {
    let nodes = workflow.data["status"]["nodes"].as_object();
    let found = nodes.into_iter().flatten().find(|(_, status)| status["displayName"] == node);
    let (id, _) = found.with_context(|| format!("it has no node {node:?}"))?;
    let (namespace, name) = (workflow.namespace().unwrap_or_default(), workflow.name_any());
    Ok(format!("artifact-files/{namespace}/workflows/{name}/{id}/outputs/{artifact}"))
}
