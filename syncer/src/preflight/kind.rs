//! What a workflow can refer to.

use std::fmt;

use argosy_api::workload_cluster::Copy as Consent;
use kube::core::{ApiResource, GroupVersionKind};

/// The kinds of objects that are looked for before a workflow is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    WorkflowTemplate,
    ClusterWorkflowTemplate,
    ConfigMap,
    Secret,
    ServiceAccount,
    PersistentVolumeClaim,
    PriorityClass,
    StorageClass,
}

/// Whether objects of a kind are copied to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    Yes,
    /// The WorkloadCluster says no, in this field.
    Denied(&'static str),
    /// Such objects belong to the cluster that they are in.
    Never,
}

impl Kind {
    /// Those of which there can be copies.
    pub const COPIED: [Self; 4] =
        [Self::WorkflowTemplate, Self::ClusterWorkflowTemplate, Self::ConfigMap, Self::Secret];

    pub fn name(self) -> &'static str {
        match self {
            Self::WorkflowTemplate => "WorkflowTemplate",
            Self::ClusterWorkflowTemplate => "ClusterWorkflowTemplate",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::ServiceAccount => "ServiceAccount",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::PriorityClass => "PriorityClass",
            Self::StorageClass => "StorageClass",
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::ClusterWorkflowTemplate | Self::PriorityClass | Self::StorageClass)
    }

    /// Whether it refers to further objects.
    pub fn is_template(self) -> bool {
        matches!(self, Self::WorkflowTemplate | Self::ClusterWorkflowTemplate)
    }

    pub fn copying(self, consent: &Consent) -> Copying {
        let (allowed, field) = match self {
            Self::WorkflowTemplate | Self::ClusterWorkflowTemplate => (consent.templates, "spec.copy.templates"),
            Self::ConfigMap => (consent.config_maps, "spec.copy.configMaps"),
            Self::Secret => (consent.secrets, "spec.copy.secrets"),
            _ => return Copying::Never,
        };
        if allowed { Copying::Yes } else { Copying::Denied(field) }
    }

    /// The top-level fields that a copy takes along. `immutable` stays behind: the copy has to follow an original that was
    /// deleted and made anew.
    pub fn content(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap => &["data", "binaryData"],
            Self::Secret => &["data"],
            _ => &["spec"],
        }
    }

    pub fn api_resource(self) -> ApiResource {
        let (group, version, plural) = match self {
            Self::WorkflowTemplate => ("argoproj.io", "v1alpha1", "workflowtemplates"),
            Self::ClusterWorkflowTemplate => ("argoproj.io", "v1alpha1", "clusterworkflowtemplates"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::Secret => ("", "v1", "secrets"),
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::PersistentVolumeClaim => ("", "v1", "persistentvolumeclaims"),
            Self::PriorityClass => ("scheduling.k8s.io", "v1", "priorityclasses"),
            Self::StorageClass => ("storage.k8s.io", "v1", "storageclasses"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.name()), plural)
    }
}

/// An object that a workflow refers to: in the workflow's namespace, or in none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub kind: Kind,
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.name(), self.name)
    }
}

/// The annotation's text: which objects of ours a copy uses.
pub fn to_text<'a>(references: impl IntoIterator<Item = &'a Reference>) -> String {
    let each = references.into_iter().map(|reference| format!("{}/{}", reference.kind.name(), reference.name));
    each.collect::<Vec<_>>().join(",")
}

/// Reads it again; what is none of ours is skipped.
pub fn from_text(text: &str) -> impl Iterator<Item = Reference> {
    text.split(',').filter_map(|one| {
        let (kind, name) = one.split_once('/')?;
        let kind = Kind::COPIED.into_iter().find(|known| known.name() == kind)?;
        Some(Reference { kind, name: name.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_uses_is_read_as_it_was_written() {
        let uses: Vec<Reference> =
            Kind::COPIED.into_iter().map(|kind| Reference { kind, name: "a.b".into() }).collect();
        assert_eq!(from_text(&to_text(&uses)).collect::<Vec<_>>(), uses);
        assert_eq!(from_text("Pod/a,ConfigMap,,x").count(), 0);
    }
}
