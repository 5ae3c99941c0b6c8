//! AdmissionReview v1: read narrowly, always answered with a review.

use argosy_api::{Workflow, workflow};
use argosy_placement::demand::Spec;
use json_patch::Patch;
use k8s_openapi::ByteString;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::guard;
use crate::view::View;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What the API server asks, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// What a review asks about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    user_info: User,
    /// Read only once the rest is known to be for us.
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Debug, Default, Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resource: String,
}

/// A question to one of the webhook's paths, or something that the path is not registered for; what that is, for the
/// warning.
#[derive(Debug)]
pub(crate) enum Question<T> {
    Asked(T),
    Other { what: String },
}

/// A Workflow that is to be created.
#[derive(Debug)]
pub(crate) struct Creation<'a> {
    pub(crate) namespace: String,
    pub(crate) view: View,
    /// Nothing will come of it.
    pub(crate) dry_run: bool,
    object: &'a RawValue,
}

impl Creation<'_> {
    /// What a placement has to know of its spec; empty where that cannot be read.
    pub(crate) fn spec(&self) -> Spec {
        let whole: Option<Workflow<Spec, IgnoredAny>> = serde_json::from_str(self.object.get()).ok();
        whole.and_then(|whole| whole.spec).unwrap_or_default()
    }
}

/// A Workflow that is to be changed.
#[derive(Debug)]
pub(crate) struct Update<'a> {
    pub(crate) namespace: String,
    /// By whom, for the log.
    pub(crate) user: String,
    pub(crate) old: guard::Object<'a>,
    pub(crate) new: guard::Object<'a>,
}

/// Why a review cannot be acted upon.
#[derive(Debug, Error)]
pub(crate) enum ReviewError {
    #[error("the request's body could not be read: {problem}")]
    ReadBody { problem: String },
    #[error("the request's body has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the request's body is not an AdmissionReview: {source}")]
    ReadReview { source: serde_json::Error },
    #[error("the AdmissionReview has apiVersion {found:?}: expected {API_VERSION:?}")]
    Version { found: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the AdmissionReview's request has no {field}")]
    Incomplete { field: &'static str },
    #[error("the Workflow cannot be read: {source}")]
    ReadWorkflow { source: serde_json::Error },
}

impl ReviewError {
    /// The HTTP status for whoever sent the object or the review.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::ReadWorkflow { .. } => 422,
            _ => 400,
        }
    }
}

/// Reads a review: its UID, as far as that can be told, and what it asks.
pub(crate) fn read(body: &[u8]) -> (String, Result<Request<'_>, ReviewError>) {
    let review: Review = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(source) => return (String::new(), Err(ReviewError::ReadReview { source })),
    };
    let version = review.api_version;
    match review.request {
        None => (String::new(), Err(ReviewError::NoRequest)),
        Some(mut request) => {
            let uid = std::mem::take(&mut request.uid);
            let request =
                if version == API_VERSION { Ok(request) } else { Err(ReviewError::Version { found: version }) };
            (uid, request)
        }
    }
}

impl<'a> Request<'a> {
    /// May this Workflow be created?
    pub(crate) fn creation(self) -> Result<Question<Creation<'a>>, ReviewError> {
        if let Some(what) = self.is_other("CREATE") {
            return Ok(Question::Other { what });
        }
        let (object, view) = parse(self.object, "object")?;
        let dry_run = self.dry_run == Some(true);
        Ok(Question::Asked(Creation { namespace: named(self.namespace)?, view, dry_run, object }))
    }

    /// May this Workflow be changed?
    pub(crate) fn update(self) -> Result<Question<Update<'a>>, ReviewError> {
        if let Some(what) = self.is_other("UPDATE") {
            return Ok(Question::Other { what });
        }
        let ((_, old), (_, new)) = (parse(self.old_object, "oldObject")?, parse(self.object, "object")?);
        let user = self.user_info.username;
        Ok(Question::Asked(Update { namespace: named(self.namespace)?, user, old, new }))
    }

    /// What it is about, if not this operation on a Workflow.
    fn is_other(&self, expected: &str) -> Option<String> {
        let Self { operation, resource, sub_resource, .. } = self;
        let is_workflow = resource.group == workflow::GROUP && resource.resource == workflow::PLURAL;
        let is_whole = sub_resource.as_ref().is_none_or(String::is_empty);
        let is_expected = operation == expected && is_workflow && is_whole;
        (!is_expected).then(|| format!("{operation} of {}.{}", resource.resource, resource.group))
    }
}

fn named(namespace: Option<String>) -> Result<String, ReviewError> {
    namespace.filter(|name| !name.is_empty()).ok_or(ReviewError::Incomplete { field: "namespace" })
}

fn parse<'a, T: Deserialize<'a>>(
    object: Option<&'a RawValue>,
    field: &'static str,
) -> Result<(&'a RawValue, T), ReviewError> {
    let object = object.ok_or(ReviewError::Incomplete { field })?;
    let view = serde_json::from_str(object.get()).map_err(|source| ReviewError::ReadWorkflow { source })?;
    Ok((object, view))
}

/// The answer, an AdmissionReview with a response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reply {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The part of a Kubernetes Status that says why something was refused.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    retry_after_seconds: u32,
}

impl Reply {
    /// Allowed, with this patch unless it is empty.
    pub(crate) fn allow(uid: String, patch: &Patch) -> Result<Self, serde_json::Error> {
        let patch = if patch.is_empty() { None } else { Some(ByteString(serde_json::to_vec(patch)?)) };
        let patch_type = patch.is_some().then_some("JSONPatch");
        Ok(Self::of(Response { patch, patch_type, ..Response::allowed(uid) }))
    }

    /// Allowed untouched, with a word to the user.
    pub(crate) fn warn(uid: String, warning: String) -> Self {
        Self::of(Response { warnings: vec![warning], ..Response::allowed(uid) })
    }

    /// Refused. With 503, clients that go by `Retry-After` (all of client-go) try again by themselves.
    pub(crate) fn refuse(uid: String, code: u16, message: &str) -> Self {
        let reason = match code {
            400 => "BadRequest",
            413 => "RequestEntityTooLarge",
            422 => "Invalid",
            503 => "ServiceUnavailable",
            500 => "InternalError",
            _ => "Forbidden",
        };
        let details = (code == 503).then_some(Details { retry_after_seconds: 1 });
        let status = Status { code, reason, message: format!("argosy: {message}"), details };
        Self::of(Response { allowed: false, status: Some(status), ..Response::allowed(uid) })
    }

    fn of(response: Response) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }
}

impl Response {
    fn allowed(uid: String) -> Self {
        Self { uid, allowed: true, patch_type: None, patch: None, status: None, warnings: Vec::new() }
    }
}
