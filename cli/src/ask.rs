//! Requests to API servers, with errors for the person at the terminal: what was asked, of which cluster, and what it
//! said.

use std::future::Future;

use anyhow::{Context, Result, anyhow};
use argosy_runtime::client::{RequestError, kube_system_uid, within};
use kube::Client;

/// Waits for an answer, with the deadline that all requests have. `what` completes "cannot …".
pub async fn ask<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    within(request).await.map_err(|error| told(what, &error))
}

/// The error of a request for the person who made it.
pub fn told(what: &str, error: &RequestError) -> anyhow::Error {
    anyhow!("cannot {what}: {}", error.message())
}

/// What tells a cluster from any other: the UID of its kube-system namespace.
pub async fn cluster_uid(client: &Client, whose: &str) -> Result<String> {
    let uid = kube_system_uid(client).await;
    let uid = uid.map_err(|error| told(&format!("read namespace kube-system of {whose}"), &error))?;
    uid.with_context(|| format!("namespace kube-system of {whose} has no UID"))
}
