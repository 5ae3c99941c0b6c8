//! Debian's docker-registry on a testbed's bridge, and pushing images into it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::pack::{MANIFEST_TYPE, Packed, digest};
use crate::cluster::real::address::{bridge_address, data_dir};
use crate::layout::{Layout, create_private_dir, write_file};
use crate::prerequisites::require;
use crate::process::{Daemon, wait_until};

/// Not the registry's usual port: a service of the machine may have that on all addresses.
const PORT: u16 = 5001;

/// Under this word instead of a cluster's name the registry is started: it serves all of them.
const SHARED: &str = "shared";

/// The registry of one testbed.
#[derive(Debug, Clone)]
pub struct Registry {
    url: String,
    agent: ureq::Agent,
}

/// An image's name, without the registry in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: String,
}

impl Reference {
    /// Reads a name the way containerd does: `busybox`, `docker/whalesay:latest`, `quay.io/argoproj/argoexec:v3.7.4`.
    ///
    /// # Errors
    /// It is empty, or has a digest.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains('@') || name.contains(char::is_whitespace) {
            bail!("image name {name:?}: expected [REGISTRY/]REPOSITORY[:TAG]");
        }
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", name),
        };
        let (repository, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        let library = if registry == "docker.io" && !repository.contains('/') { "library/" } else { "" };
        Ok(Self { repository: format!("{library}{repository}"), tag: tag.to_owned() })
    }

    /// A file name that no other image has.
    pub(super) fn file_name(&self) -> String {
        format!("{}:{}", self.repository.replace('/', "+"), self.tag)
    }
}

/// containerd's settings that send it to the testbed's registry for images of every registry, and nowhere else: a name
/// that is not there fails at once, instead of after a long wait for a network that pods do not have.
pub(crate) fn hosts_toml(slot: u8) -> String {
    let url = url(slot);
    format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

fn address(slot: u8) -> SocketAddr {
    SocketAddr::from((bridge_address(slot), PORT))
}

fn url(slot: u8) -> String {
    format!("http://{}", address(slot))
}

/// Starts the registry and waits until it answers.
pub(super) async fn start(layout: &Layout, slot: u8) -> Result<()> {
    let data = data_dir(slot).join("registry");
    create_private_dir(&data)?;
    let settings = json!({
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": data}},
        "http": {"addr": address(slot).to_string()},
    });
    let file = layout.cluster_dir(SHARED).join("registry.yaml");
    write_file(&file, serde_saphyr::to_string(&settings)?, 0o644)?;
    let daemon = Daemon::new(layout, SHARED, "registry", &require("docker-registry")?)
        .args(["serve", &file.to_string_lossy()])
        .start()?;
    wait_until("registry", Duration::from_secs(60), Some(&daemon), || async {
        tokio::net::TcpStream::connect(address(slot)).await.map(drop).context("connecting to the registry")
    })
    .await
}

impl Registry {
    /// The registry of the testbed in `slot`.
    pub fn of_slot(slot: u8) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .proxy(None)
            .build();
        Self { url: url(slot), agent: config.new_agent() }
    }

    /// Whether an image is there.
    ///
    /// # Errors
    /// The registry does not answer.
    pub fn has(&self, reference: &Reference) -> Result<bool> {
        let url = self.v2(reference, "manifests", &reference.tag);
        let answer = self.agent.head(&url).header("Accept", MANIFEST_TYPE).call();
        Ok(answer.with_context(|| format!("HEAD {url}"))?.status().is_success())
    }

    /// Puts an image there; what is there already is not sent again.
    pub(super) fn push(&self, reference: &Reference, image: &Packed) -> Result<()> {
        self.push_blob(reference, &image.layer)?;
        self.push_blob(reference, &image.config)?;
        let url = self.v2(reference, "manifests", &reference.tag);
        let answer = self.agent.put(&url).header("Content-Type", MANIFEST_TYPE).send(image.manifest.as_slice());
        expect(201, "PUT", &url, answer).map(drop)
    }

    fn push_blob(&self, reference: &Reference, blob: &[u8]) -> Result<()> {
        let digest = digest(blob);
        let url = self.v2(reference, "blobs", &digest);
        let known = self.agent.head(&url).call().with_context(|| format!("HEAD {url}"))?;
        if known.status().is_success() {
            return Ok(());
        }
        let url = self.v2(reference, "blobs", "uploads/");
        let started = expect(202, "POST", &url, self.agent.post(&url).send_empty())?;
        let location = started.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.with_context(|| format!("POST {url}: the answer names no location"))?;
        let base = if location.starts_with('/') { self.url.as_str() } else { "" };
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{base}{location}{separator}digest={digest}");
        let answer = self.agent.put(&url).header("Content-Type", "application/octet-stream").send(blob);
        expect(201, "PUT", &url, answer).map(drop)
    }

    fn v2(&self, reference: &Reference, kind: &str, what: &str) -> String {
        format!("{}/v2/{}/{kind}/{what}", self.url, reference.repository)
    }
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn expect(status: u16, verb: &str, url: &str, answer: Answer) -> Result<ureq::http::Response<ureq::Body>> {
    let mut answer = answer.with_context(|| format!("{verb} {url}"))?;
    if answer.status().as_u16() != status {
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        bail!("{verb} {url}: the registry answered {} instead of {status}: {said}", answer.status());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_containerd_reads_them() {
        let cases = [
            ("busybox", "library/busybox", "latest"),
            ("docker.io/library/busybox:latest", "library/busybox", "latest"),
            ("docker/whalesay:latest", "docker/whalesay", "latest"),
            ("docker.io/docker/whalesay", "docker/whalesay", "latest"),
            ("registry.k8s.io/pause:3.10", "pause", "3.10"),
            ("quay.io/argoproj/argoexec:v3.7.4", "argoproj/argoexec", "v3.7.4"),
            ("localhost:5000/a/b:c", "a/b", "c"),
        ];
        for (name, repository, tag) in cases {
            let expected = Reference { repository: repository.into(), tag: tag.into() };
            assert_eq!(Reference::parse(name).unwrap(), expected, "{name}");
        }
        assert!(Reference::parse("a@sha256:00").is_err());
        assert!(Reference::parse("").is_err());
    }
}
