//! What `join` does not do, and why.

use argosy_api::workload_cluster::Copy;
use argosy_api::{SyncMode, names};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use thiserror::Error;

use super::register::Known;
use crate::ownership::{NotOurs, is_ours};

/// Why a cluster cannot join.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("no cluster can be named {:?}: that means the control cluster itself", names::LOCAL)]
    Local,
    #[error(
        "{name:?} is no cluster's name: expected at most 63 lower-case letters, digits, '-' and '.', with a letter or \
         digit at both ends"
    )]
    Name { name: String },
    #[error(
        "the workload cluster is the control cluster itself (kube-system UID {uid}): its own workflows run there \
         without a rule, or with label {}: {}",
        names::CLUSTER,
        names::LOCAL
    )]
    Itself { uid: String },
    #[error(
        "{name} is another cluster than the one given (kube-system UID {known}, given {given}): choose another name for \
         this one, or `kubectl argosy leave {name}` first"
    )]
    OtherCluster { name: String, known: String, given: String },
    #[error(
        "Secrets are not copied to a cluster whose own syncer pulls: its account in the control cluster would have to read \
         them in every namespace; put there what workflows need, and leave secrets out of --copy"
    )]
    Secrets,
    #[error(
        "{name} is {}; to change that, `kubectl argosy leave {name}` first",
        if *.is_pull { "served by a syncer inside of it: say --pull" } else { "reached by the control cluster's syncer, so without --pull" }
    )]
    Mode { name: String, is_pull: bool },
}

/// Whether a cluster can join in this mode. Another one would leave it to a syncer that cannot serve it, and an account that
/// still may.
pub fn mode(name: &str, known: &Known, pull: bool) -> Result<(), Refusal> {
    let is_pull = known.is_pull();
    if known.cluster.is_some() && is_pull != pull {
        Err(Refusal::Mode { name: name.to_owned(), is_pull })
    } else {
        Ok(())
    }
}

/// Whether these kinds of objects can be copied in this mode.
pub fn secrets(mode: SyncMode, copy: &Copy) -> Result<(), Refusal> {
    if mode == SyncMode::Pull && copy.secrets { Err(Refusal::Secrets) } else { Ok(()) }
}

/// Whether a cluster can have this name, which becomes a label's value.
pub fn name(name: &str) -> Result<(), Refusal> {
    if name == names::LOCAL {
        return Err(Refusal::Local);
    }
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    // Kubernetes asks it of each part between dots.
    let is_part = |part: &str| {
        part.bytes().all(|byte| is_inner(byte) || byte == b'-')
            && part.bytes().next().is_some_and(is_inner)
            && part.bytes().next_back().is_some_and(is_inner)
    };
    let is_name = name.len() <= 63 && name.split('.').all(is_part);
    if is_name { Ok(()) } else { Err(Refusal::Name { name: name.to_owned() }) }
}

/// Whether the given cluster may be the one of this name.
pub fn clusters(name: &str, known: &Known, control_uid: &str, member_uid: &str) -> Result<(), Refusal> {
    if control_uid == member_uid {
        return Err(Refusal::Itself { uid: control_uid.to_owned() });
    }
    let status = known.cluster.as_ref().and_then(|cluster| cluster.status.as_ref());
    match status.and_then(|status| status.cluster_uid.as_deref()) {
        Some(known) if known != member_uid => {
            Err(Refusal::OtherCluster { name: name.to_owned(), known: known.to_owned(), given: member_uid.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether what is there of the same name in the control cluster is ours.
pub fn strangers(name: &str, known: &Known, force: bool) -> Result<(), NotOurs> {
    let cluster = known.cluster.as_ref().map(|cluster| (format!("WorkloadCluster {name}"), cluster.labels()));
    let title = |secret: &Secret| format!("Secret {}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
    let secret = known.secret.as_ref().map(|secret| (title(secret), secret.labels()));
    match cluster.into_iter().chain(secret).find(|(_, labels)| !force && !is_ours(Some(labels), name)) {
        Some((what, _)) => Err(NotOurs::Stranger { what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::WorkloadCluster;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("paris", true)]
    #[case("eu-1.paris", true)]
    #[case("local", false)]
    #[case("", false)]
    #[case("Paris", false)]
    #[case("-paris", false)]
    #[case("paris.-1", false)]
    #[case("paris.", false)]
    #[case("a234567890123456789012345678901234567890123456789012345678901234", false)]
    fn names_of_clusters(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(name(text).is_ok(), expected, "{:?}", name(text));
    }

    fn known(joined: Option<&str>, uid: Option<&str>, secret: Option<Option<&str>>) -> Known {
        let labels = |joined: Option<&str>| joined.map(|joined| json!({"argosy.dev/joined": joined}));
        let cluster: WorkloadCluster = serde_json::from_value(json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
            "metadata": {"name": "c", "labels": labels(joined)},
            "spec": {"kubeconfigSecret": {"name": "c-kubeconfig"}},
            "status": {"clusterUid": uid},
        }))
        .unwrap();
        let secret = secret.map(|joined| {
            serde_json::from_value(json!({
                "metadata": {"name": "c-kubeconfig", "namespace": "argosy", "labels": labels(joined)},
            }))
            .unwrap()
        });
        Known { cluster: Some(cluster), secret }
    }

    #[rstest]
    #[case::first_contact(None, "m", "ok")]
    #[case::the_same(Some("m"), "m", "ok")]
    #[case::another(
        Some("other"),
        "m",
        "c is another cluster than the one given (kube-system UID other, given m): choose another name for this one, or `kubectl argosy leave c` first"
    )]
    #[case::itself(
        None,
        "control",
        "the workload cluster is the control cluster itself (kube-system UID control): its own workflows run there without a rule, or with label kubestellar.io/cluster: local"
    )]
    fn which_cluster_may_be_meant(#[case] pinned: Option<&str>, #[case] member: &str, #[case] expected: &str) {
        let known = known(Some("c"), pinned, None);
        let told = clusters("c", &known, "control", member).map_or_else(|error| error.to_string(), |()| "ok".into());
        assert_eq!(told, expected);
    }

    #[rstest]
    #[case::ours(Some("c"), Some(Some("c")), false, None)]
    #[case::no_secret(Some("c"), None, false, None)]
    #[case::applied_by_hand(None, None, false, Some("WorkloadCluster c"))]
    #[case::a_secret_of_somebodys(Some("c"), Some(None), false, Some("Secret argosy/c-kubeconfig"))]
    #[case::a_secret_of_another_cluster(Some("c"), Some(Some("d")), false, Some("Secret argosy/c-kubeconfig"))]
    #[case::forced(None, Some(None), true, None)]
    fn what_is_not_ours_stays(
        #[case] cluster: Option<&str>,
        #[case] secret: Option<Option<&str>>,
        #[case] force: bool,
        #[case] expected: Option<&str>,
    ) {
        let refused = strangers("c", &known(cluster, None, secret), force).err();
        assert_eq!(refused, expected.map(|what| NotOurs::Stranger { what: what.to_owned() }));
    }
}
