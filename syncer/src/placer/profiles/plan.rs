//! Which WorkloadClusters follow ClusterProfiles, and how: decided from what is there, and nothing else.
//!
//! Who may write Secrets in Argosy's namespace says with one which profile counts (that of which namespace), and whose
//! workflows its cluster takes. The profile itself says no more than the labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use argosy_api::names;
use argosy_api::workload_cluster::{SECRET_SUFFIX, unfit};
use argosy_placement::Cluster;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

/// A ClusterProfile, as far as it is looked at: whether its cluster is well we find out ourselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Profile {
    pub(super) object: ObjectReference,
    pub(super) labels: BTreeMap<String, String>,
}

/// A Secret that says of itself that it leads to the cluster of a ClusterProfile.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Way {
    pub(super) object: ObjectReference,
    /// In which namespace the profile is.
    pub(super) profiles: String,
    /// The namespaces whose workflows the cluster takes.
    pub(super) namespaces: Vec<String>,
}

/// What a WorkloadCluster is to be like.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// As its profile and its Secret have it; what is not named here is its administrator's.
    Follow { labels: BTreeMap<String, String>, namespaces: Vec<String> },
    /// Cordoned, for this reason: it has nothing to follow any more, and workflows may be running there.
    Cordon(String),
}

/// What is to be, and what is to be said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// By name of the WorkloadCluster. Of those that are missing the first kind is to be made.
    pub(super) wishes: BTreeMap<String, Wish>,
    /// By UID of the object that it is about.
    pub(super) notes: BTreeMap<String, (ObjectReference, String)>,
}

impl Profile {
    pub(super) fn new(object: &DynamicObject) -> Self {
        let reference = ObjectReference {
            api_version: Some(format!("{}/{}", super::GROUP, super::VERSION)),
            kind: Some(super::KIND.to_owned()),
            ..reference(object)
        };
        Self { object: reference, labels: object.labels().clone() }
    }

    /// Labels of ours and of who manages objects are no properties of a cluster, and would say whose it is.
    fn handed_on(&self) -> BTreeMap<String, String> {
        let is_property = |key: &str| !key.starts_with(names::PREFIX) && key != names::MANAGED_BY;
        let labels = self.labels.iter().filter(|(key, _)| is_property(key));
        labels.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Way {
    pub(super) fn new(secret: &PartialObjectMeta<Secret>) -> Self {
        let consent = secret.annotations().get(names::NAMESPACES).map(String::as_str).unwrap_or_default();
        let named = consent.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self {
            object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                ..reference(secret)
            },
            profiles: secret.labels().get(names::CLUSTER_PROFILE).cloned().unwrap_or_default(),
            namespaces: named.map(ToOwned::to_owned).collect(),
        }
    }

    /// The name of the cluster, which is the profile's.
    fn cluster(&self) -> Option<&str> {
        name(&self.object).strip_suffix(SECRET_SUFFIX).filter(|name| !name.is_empty())
    }
}

impl Wish {
    /// What is written to a WorkloadCluster so that it is like that.
    pub(super) fn fields(&self) -> Value {
        match self {
            Self::Follow { labels, namespaces } => {
                json!({"metadata": {"labels": labels}, "spec": {"namespaces": namespaces}})
            }
            Self::Cordon(why) => {
                json!({"metadata": {"annotations": {names::CORDONED: why}}, "spec": {"cordoned": true}})
            }
        }
    }

    /// Whether a WorkloadCluster is like that, as far as it shows who set what.
    pub(super) fn shows(&self, cluster: Option<&Cluster>) -> bool {
        cluster.is_some_and(|cluster| match self {
            Self::Follow { labels, namespaces } => {
                cluster.namespaces == *namespaces
                    && labels.iter().all(|(key, value)| cluster.labels.get(key) == Some(value))
            }
            Self::Cordon(_) => cluster.cordoned,
        })
    }
}

/// Whether a WorkloadCluster with these labels follows a profile. What `kubectl argosy join` made is its own.
pub(super) fn follows(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(names::CLUSTER_PROFILE) && !labels.contains_key(names::JOINED)
}

/// Plans.
pub(super) fn plan(profiles: &[Arc<Profile>], ways: &[Arc<Way>], clusters: &[Arc<Cluster>]) -> Plan {
    let mut plan = Plan::default();
    let mut led_to = BTreeMap::new();
    for way in ways {
        let Some(cluster) = way.cluster() else {
            let note = format!(
                "label {} says that it leads to the cluster of a ClusterProfile; such a Secret is called NAME{SECRET_SUFFIX}, \
                 NAME being the ClusterProfile's",
                names::CLUSTER_PROFILE
            );
            plan.note(&way.object, note);
            continue;
        };
        led_to.insert(cluster, way.profiles.as_str());
        let known = clusters.iter().find(|known| known.name == cluster);
        plan.way(way, cluster, known.map(Arc::as_ref), profiles);
    }
    for cluster in clusters.iter().filter(|cluster| follows(&cluster.labels)) {
        if !plan.wishes.contains_key(&cluster.name) {
            let why = match led_to.get(cluster.name.as_str()) {
                Some(namespace) => format!("there is no ClusterProfile {namespace}/{} any more", cluster.name),
                None => {
                    let label = names::CLUSTER_PROFILE;
                    format!("there is no Secret {}{SECRET_SUFFIX} with label {label} any more", cluster.name)
                }
            };
            plan.wishes.insert(cluster.name.clone(), Wish::Cordon(why));
        }
    }
    plan
}

impl Plan {
    fn note(&mut self, object: &ObjectReference, note: String) {
        self.notes.insert(object.uid.clone().unwrap_or_default(), (object.clone(), note));
    }

    /// What follows from one Secret.
    fn way(&mut self, way: &Way, cluster: &str, known: Option<&Cluster>, profiles: &[Arc<Profile>]) {
        let meant = format!("{}/{cluster}", way.profiles);
        let mut profile = None;
        for namesake in profiles.iter().filter(|profile| name(&profile.object) == cluster) {
            if namesake.object.namespace.as_deref() == Some(way.profiles.as_str()) {
                profile = Some(namesake);
                continue;
            }
            let note = format!(
                "no WorkloadCluster is made of it: Secret {} leads to the cluster of ClusterProfile {meant}; a cluster of \
                 its own needs another name",
                name(&way.object)
            );
            self.note(&namesake.object, note);
        }
        let Some(profile) = profile else {
            let note = format!("there is no ClusterProfile {meant}, which label {} names", names::CLUSTER_PROFILE);
            return self.note(&way.object, note);
        };
        if let Some(why) = unfit(cluster) {
            let note = format!("no WorkloadCluster is made of it: {why}; give it another name, and so its Secret");
            return self.note(&profile.object, note);
        }
        if let Some(known) = known.filter(|known| !follows(&known.labels)) {
            return self.note(&profile.object, left_alone(known, &way.profiles));
        }
        let mut labels = profile.handed_on();
        labels.insert(names::CLUSTER_PROFILE.to_owned(), way.profiles.clone());
        self.wishes.insert(cluster.to_owned(), Wish::Follow { labels, namespaces: way.namespaces.clone() });
    }
}

fn left_alone(cluster: &Cluster, namespace: &str) -> String {
    let remedy = if cluster.labels.contains_key(names::JOINED) {
        format!("`kubectl argosy leave {}` first", cluster.name)
    } else {
        format!("label it {}={namespace} if it is to follow", names::CLUSTER_PROFILE)
    };
    format!(
        "WorkloadCluster {} was not made from it and stays as it is: {remedy}, or give the ClusterProfile another name",
        cluster.name
    )
}

/// What an Event needs to know of an object, but for its kind.
fn reference(object: &impl ResourceExt) -> ObjectReference {
    let (namespace, name, uid) = (object.namespace(), Some(object.name_any()), object.uid());
    ObjectReference { namespace, name, uid, ..ObjectReference::default() }
}

fn name(object: &ObjectReference) -> &str {
    object.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// `NAMESPACE/NAME`, which is its UID, too.
    fn object(key: &str) -> ObjectReference {
        let (namespace, name) = key.split_once('/').unwrap();
        let [namespace, name, uid] = [namespace, name, key].map(|part| Some(part.to_owned()));
        ObjectReference { namespace, name, uid, ..ObjectReference::default() }
    }

    fn profile(key: &str, of: &[(&str, &str)]) -> Arc<Profile> {
        Arc::new(Profile { object: object(key), labels: labels(of) })
    }

    fn way(name: &str, profiles: &str, namespaces: &[&str]) -> Arc<Way> {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Way { object: object(&format!("argosy/{name}")), profiles: profiles.to_owned(), namespaces })
    }

    fn cluster(name: &str, of: &[(&str, &str)]) -> Arc<Cluster> {
        Arc::new(Cluster { name: name.to_owned(), labels: labels(of), ..Cluster::default() })
    }

    const OURS: (&str, &str) = ("argosy.dev/cluster-profile", "fleet");

    /// Wishes and notes, one a line.
    fn told(profiles: &[Arc<Profile>], ways: &[Arc<Way>], clusters: &[Arc<Cluster>]) -> Vec<String> {
        let Plan { wishes, notes } = plan(profiles, ways, clusters);
        let wishes = wishes.into_iter().map(|(name, wish)| match wish {
            Wish::Follow { labels, namespaces } => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{name} follows: {} for {namespaces:?}", labels.join(","))
            }
            Wish::Cordon(why) => format!("{name} is cordoned: {why}"),
        });
        wishes.chain(notes.into_iter().map(|(uid, (_, note))| format!("{uid}: {note}"))).collect()
    }

    #[rstest]
    #[case::labels_and_consent(
        "c", &[("env", "prod"), ("x-k8s.io/cluster-manager", "m")], &["science", "finance"],
        r#"c follows: argosy.dev/cluster-profile=fleet,env=prod,x-k8s.io/cluster-manager=m for ["science", "finance"]"#
    )]
    #[case::without_consent_for_nobody("c", &[], &[], "c follows: argosy.dev/cluster-profile=fleet for []")]
    #[case::labels_that_say_whose_it_is_are_not_a_profiles_to_give(
        "c", &[("argosy.dev/joined", "c"), ("argosy.dev/cluster-profile", "evil"), ("app.kubernetes.io/managed-by", "x")], &[],
        "c follows: argosy.dev/cluster-profile=fleet for []"
    )]
    #[case::called_local(
        "local", &[], &["*"],
        "fleet/local: no WorkloadCluster is made of it: 'local' means the control cluster itself, so no WorkloadCluster \
         may have that name; give it another name, and so its Secret"
    )]
    #[case::too_long(
        "a123456789012345678901234567890123456789012345678901234567890123", &[], &["*"],
        "fleet/a123456789012345678901234567890123456789012345678901234567890123: no WorkloadCluster is made of it: the name \
         becomes a label value (kubestellar.io/cluster), so it may have at most 63 characters; give it another name, and so \
         its Secret"
    )]
    fn a_profile_with_a_secret_makes_a_cluster(
        #[case] name: &str,
        #[case] of: &[(&str, &str)],
        #[case] namespaces: &[&str],
        #[case] expected: &str,
    ) {
        let profiles = [profile(&format!("fleet/{name}"), of)];
        let ways = [way(&format!("{name}-kubeconfig"), "fleet", namespaces)];
        assert_eq!(told(&profiles, &ways, &[]), [expected]);
        if expected.contains("follows") {
            assert_eq!(told(&profiles, &ways, &[cluster(name, &[OURS])]), [expected]);
        }
    }

    #[rstest]
    #[case::no_secret(&["fleet/c"], &[], vec![], &[])]
    #[case::made_by_hand(
        &["fleet/c"], &[("c-kubeconfig", "fleet")], vec![cluster("c", &[])],
        &["fleet/c: WorkloadCluster c was not made from it and stays as it is: label it argosy.dev/cluster-profile=fleet if it \
           is to follow, or give the ClusterProfile another name"]
    )]
    #[case::joined(
        &["fleet/c"], &[("c-kubeconfig", "fleet")], vec![cluster("c", &[("argosy.dev/joined", "c"), OURS])],
        &["fleet/c: WorkloadCluster c was not made from it and stays as it is: `kubectl argosy leave c` first, or give the \
           ClusterProfile another name"]
    )]
    #[case::two_of_one_name(
        &["fleet/c", "other/c"], &[("c-kubeconfig", "fleet")], vec![],
        &["c follows: argosy.dev/cluster-profile=fleet for []",
          "other/c: no WorkloadCluster is made of it: Secret c-kubeconfig leads to the cluster of ClusterProfile fleet/c; a \
           cluster of its own needs another name"]
    )]
    #[case::only_another_of_the_name(
        &["other/c"], &[("c-kubeconfig", "fleet")], vec![],
        &["argosy/c-kubeconfig: there is no ClusterProfile fleet/c, which label argosy.dev/cluster-profile names",
          "other/c: no WorkloadCluster is made of it: Secret c-kubeconfig leads to the cluster of ClusterProfile fleet/c; a \
           cluster of its own needs another name"]
    )]
    #[case::a_secret_of_another_name(
        &["fleet/c"], &[("c", "fleet")], vec![],
        &["argosy/c: label argosy.dev/cluster-profile says that it leads to the cluster of a ClusterProfile; such a Secret is \
           called NAME-kubeconfig, NAME being the ClusterProfile's"]
    )]
    #[case::profile_gone(
        &[], &[("c-kubeconfig", "fleet")], vec![cluster("c", &[OURS]), cluster("by-hand", &[])],
        &["c is cordoned: there is no ClusterProfile fleet/c any more",
          "argosy/c-kubeconfig: there is no ClusterProfile fleet/c, which label argosy.dev/cluster-profile names"]
    )]
    #[case::secret_gone(
        &["fleet/c"], &[], vec![cluster("c", &[OURS])],
        &["c is cordoned: there is no Secret c-kubeconfig with label argosy.dev/cluster-profile any more"]
    )]
    fn what_is_there_decides(
        #[case] profiles: &[&str],
        #[case] ways: &[(&str, &str)],
        #[case] clusters: Vec<Arc<Cluster>>,
        #[case] expected: &[&str],
    ) {
        let profiles: Vec<_> = profiles.iter().map(|key| profile(key, &[])).collect();
        let ways: Vec<_> = ways.iter().map(|(name, profiles)| way(name, profiles, &[])).collect();
        assert_eq!(told(&profiles, &ways, &clusters), expected);
    }

    #[test]
    fn a_wish_shows_when_all_of_it_is_there() {
        let wish = Wish::Follow { labels: labels(&[OURS, ("env", "prod")]), namespaces: vec!["a".to_owned()] };
        let follows = |of: &[(&str, &str)], namespaces: &[&str]| {
            let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
            wish.shows(Some(&Cluster { namespaces, ..Cluster::clone(&cluster("c", of)) }))
        };
        assert!(follows(&[OURS, ("env", "prod"), ("by", "hand")], &["a"]));
        assert!(!follows(&[OURS, ("env", "test")], &["a"]));
        assert!(!follows(&[OURS, ("env", "prod")], &["a", "b"]));
        assert!(!wish.shows(None));
        assert!(!Wish::Cordon(String::new()).shows(Some(&cluster("c", &[]))));
    }

    #[test]
    fn consent_is_read_from_the_secret() {
        let secret = json!({"metadata": {
            "name": "c-kubeconfig", "namespace": "argosy", "labels": {"argosy.dev/cluster-profile": "fleet"},
            "annotations": {"argosy.dev/namespaces": " science, finance,"},
        }});
        let read = Way::new(&serde_json::from_value(secret).unwrap());
        assert_eq!((read.cluster(), read.profiles.as_str()), (Some("c"), "fleet"));
        assert_eq!(read.namespaces, ["science", "finance"]);
    }
}
