//! Accounts that `join` makes, their rights and their tokens; first of all the syncer's in the workload cluster. Its rights
//! are the chart's: both read the same files.

use anyhow::{Context, Result};
use argosy_api::kubeconfig::{ACCOUNT, token_request};
use argosy_api::workload_cluster::Copy;
use argosy_api::{WorkloadClusterSpec, names};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::ask::ask;
use crate::ownership::{self, Verdict};

const RULES: &str = include_str!("../../../charts/argosy-member/files/rules.yaml");
const RULES_LOGS: &str = include_str!("../../../charts/argosy-member/files/rules-logs.yaml");
const RULES_CREATE_NAMESPACES: &str = include_str!("../../../charts/argosy-member/files/rules-create-namespaces.yaml");
const RULES_COPY_TEMPLATES: &str = include_str!("../../../charts/argosy-member/files/rules-copy-templates.yaml");
const RULES_COPY_CONFIG_MAPS: &str = include_str!("../../../charts/argosy-member/files/rules-copy-config-maps.yaml");
const RULES_COPY_SECRETS: &str = include_str!("../../../charts/argosy-member/files/rules-copy-secrets.yaml");
const RULES_OWN_NAMESPACE: &str = include_str!("../../../charts/argosy-member/files/rules-own-namespace.yaml");

const RULES_AGENT: &str = include_str!("../../../charts/argosy-member/files/rules-agent.yaml");

/// Which cluster is meant, for messages.
pub const MEMBER: &str = "workload cluster";
pub const CONTROL: &str = "control cluster";

const FIELD_MANAGER: &str = "kubectl-argosy";

/// An object of an account.
pub struct Wanted {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
    object: Value,
    /// Which cluster it is in, for messages.
    place: &'static str,
}

/// Where objects belong together, and to whom.
pub struct Place<'a> {
    /// For messages.
    pub title: &'static str,
    pub namespace: &'a str,
    /// The value of the label that marks them as `join`'s.
    pub owner: &'a str,
}

impl Place<'_> {
    /// An object of the cluster.
    pub fn of_cluster<K: kube::Resource<DynamicType = ()>>(&self, name: &str, content: Value) -> Wanted {
        self.wanted(ApiResource::erase::<K>(&()), None, name, content)
    }

    /// One in the namespace.
    pub fn namespaced<K: kube::Resource<DynamicType = ()>>(&self, name: &str, content: Value) -> Wanted {
        self.wanted(ApiResource::erase::<K>(&()), Some(self.namespace), name, content)
    }

    fn wanted(&self, resource: ApiResource, namespace: Option<&str>, name: &str, content: Value) -> Wanted {
        let mut labels = ownership::labels(self.owner);
        labels.insert("app.kubernetes.io/name".to_owned(), "argosy-member".to_owned());
        let mut object = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
        });
        if let (Some(object), Value::Object(content)) = (object.as_object_mut(), content) {
            object.extend(content);
        }
        Wanted {
            resource,
            namespace: namespace.map(ToOwned::to_owned),
            name: name.to_owned(),
            object,
            place: self.title,
        }
    }
}

/// A role that is given to a service account.
pub fn binding(kind: &str, role: &str, namespace: &str, account: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

impl Wanted {
    fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    pub fn title(&self) -> String {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        format!("{} {namespace}{} in the {}", self.resource.kind, self.name, self.place)
    }

    /// Whether it is ours to change.
    pub async fn check(&self, client: &Client, owner: &str, force: bool) -> Result<Verdict> {
        let title = self.title();
        let there = ask(&format!("read {title}"), self.api(client).get_opt(&self.name)).await?;
        let labels = there.map(|there| there.metadata.labels.unwrap_or_default());
        Ok(ownership::verdict(&title, labels.as_ref(), owner, force)?)
    }
}

/// What the account may do beyond what it always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    pub create_namespaces: bool,
    pub copy: Copy,
}

impl Grants {
    /// Nothing more.
    pub const NONE: Self =
        Self { create_namespaces: false, copy: Copy { templates: false, config_maps: false, secrets: false } };

    /// These, and what another WorkloadCluster needs of the same account.
    pub fn and(self, other: &WorkloadClusterSpec) -> Self {
        Self {
            create_namespaces: self.create_namespaces || other.create_namespaces,
            copy: Copy {
                templates: self.copy.templates || other.copy.templates,
                config_maps: self.copy.config_maps || other.copy.config_maps,
                secrets: self.copy.secrets || other.copy.secrets,
            },
        }
    }

    fn rules(&self, is_agent: bool) -> Result<Vec<PolicyRule>> {
        let Self { create_namespaces, copy: Copy { templates, config_maps, secrets } } = self;
        let more = [
            (create_namespaces, RULES_CREATE_NAMESPACES),
            (templates, RULES_COPY_TEMPLATES),
            (config_maps, RULES_COPY_CONFIG_MAPS),
            (secrets, RULES_COPY_SECRETS),
        ];
        let mut all = rules(RULES)?;
        // Live logs come through the control cluster's syncer.
        if !is_agent {
            all.extend(rules(RULES_LOGS)?);
        }
        for (_, text) in more.into_iter().filter(|(is_granted, _)| **is_granted) {
            all.extend(rules(text)?);
        }
        Ok(all)
    }
}

/// The account and its rights, in the order of creation, for a control cluster of this UID. `agent`: the WorkloadCluster
/// that a syncer inside serves as this account.
pub fn objects(namespace: &str, control_uid: &str, grants: &Grants, agent: Option<&str>) -> Result<Vec<Wanted>> {
    let place = Place { title: MEMBER, namespace, owner: control_uid };
    let role = format!("argosy-member:{namespace}:{ACCOUNT}");
    let mut own = rules(RULES_OWN_NAMESPACE)?;
    if let Some(cluster) = agent {
        own.extend(rules(&RULES_AGENT.replace("argosy-control", &names::agent_secret(cluster)))?);
    }
    Ok(vec![
        // No pod there signs in with it, but for the syncer's, which says so itself.
        place.namespaced::<ServiceAccount>(ACCOUNT, json!({"automountServiceAccountToken": false})),
        place.of_cluster::<ClusterRole>(&role, json!({"rules": grants.rules(agent.is_some())?})),
        place.of_cluster::<ClusterRoleBinding>(&role, binding("ClusterRole", &role, namespace, ACCOUNT)),
        place.namespaced::<Role>(ACCOUNT, json!({"rules": own})),
        place.namespaced::<RoleBinding>(ACCOUNT, binding("Role", ACCOUNT, namespace, ACCOUNT)),
    ])
}

fn rules(text: &str) -> Result<Vec<PolicyRule>> {
    serde_saphyr::from_str(text).context("the rules of argosy-member cannot be read")
}

/// Makes or changes the objects; nothing is written if one of them is not ours to change. A namespace that is named is made
/// before them.
pub async fn apply(
    client: &Client,
    namespace: Option<&str>,
    wanted: &[Wanted],
    owner: &str,
    force: bool,
) -> Result<()> {
    let mut verdicts = Vec::new();
    for wanted in wanted {
        verdicts.push(wanted.check(client, owner, force).await?);
    }
    if let Some(namespace) = namespace {
        make_namespace(client, namespace).await?;
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for (wanted, verdict) in wanted.iter().zip(verdicts) {
        let title = wanted.title();
        match verdict {
            Verdict::Keep => eprintln!("{title} is Helm's and stays as it is"),
            Verdict::Write => {
                let api = wanted.api(client);
                ask(&format!("write {title}"), api.patch(&wanted.name, &params, &Patch::Apply(&wanted.object))).await?;
                eprintln!("{title}: done");
            }
        }
    }
    Ok(())
}

async fn make_namespace(member: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(member.clone());
    let what = format!("namespace {name} in the workload cluster");
    if ask(&format!("read {what}"), api.get_opt(name)).await?.is_none() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        ask(&format!("create {what}"), api.create(&PostParams::default(), &namespace)).await?;
        eprintln!("{what}: done");
    }
    Ok(())
}

/// Deletes those that `join` made for this owner, the rights first. Says how many.
pub async fn delete(client: &Client, wanted: &[Wanted], owner: &str) -> Result<usize> {
    let mut deleted = 0;
    for wanted in wanted.iter().rev() {
        let (title, api) = (wanted.title(), wanted.api(client));
        let there = ask(&format!("read {title}"), api.get_opt(&wanted.name)).await?;
        match there {
            Some(there) if ownership::is_ours(Some(there.labels()), owner) => {
                ask(&format!("delete {title}"), api.delete(&wanted.name, &Default::default())).await?;
                eprintln!("deleted {title}");
                deleted += 1;
            }
            Some(_) => eprintln!("{title} stays: `kubectl argosy join` did not make it for this one"),
            None => {}
        }
    }
    Ok(deleted)
}

/// A token of the account.
pub struct Token {
    pub text: String,
    pub expires: Option<Timestamp>,
}

impl Token {
    /// For how many hours from now it is good.
    fn hours(&self) -> Option<i64> {
        // Its first minute must not make 24 hours 23.
        self.expires.map(|expires| (expires.as_second() - Timestamp::now().as_second() + 300) / 3600)
    }

    /// Says for how long it is good.
    pub fn report(&self) {
        let until = self.expires.map(|expires| format!(", good until {expires}")).unwrap_or_default();
        eprintln!("got a token{until}");
        // The syncer renews a token when half of its time is over, at the latest after a day.
        if let Some(hours) = self.hours().filter(|hours| *hours < 24) {
            eprintln!(
                "warning: the cluster grants tokens of {hours} h only: after a longer cut `kubectl argosy join --renew` is \
                 needed"
            );
        }
    }
}

/// Asks the `place` of an account for a token of it.
pub async fn token(client: &Client, namespace: &str, account: &str, place: &str) -> Result<Token> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let what = format!("get a token of ServiceAccount {namespace}/{account} in the {place}");
    let answer = ask(&what, api.create_token_request(account, &PostParams::default(), &token_request())).await?;
    let status = answer.status.with_context(|| format!("cannot {what}: the answer has none"))?;
    Ok(Token { text: status.token, expires: Some(status.expiration_timestamp.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// `resources verbs`, for what is granted.
    fn granted(wanted: &Wanted) -> Vec<String> {
        let rules: Vec<PolicyRule> =
            serde_json::from_value(wanted.object.get("rules").cloned().unwrap_or(json!([]))).unwrap();
        let join = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(",");
        rules
            .iter()
            .map(|rule| format!("{} [{}] {}", join(&rule.resources), join(&rule.resource_names), rule.verbs.join(",")))
            .collect()
    }

    fn copying(templates: bool, config_maps: bool, secrets: bool) -> Grants {
        Grants { copy: Copy { templates, config_maps, secrets }, ..Grants::NONE }
    }

    #[rstest]
    #[case::no_more(Grants::NONE, &[])]
    #[case::namespaces(Grants { create_namespaces: true, ..Grants::NONE }, &["namespaces [] create", "serviceaccounts [default] get"])]
    #[case::templates(copying(true, false, false), &["workflowtemplates,clusterworkflowtemplates [] get,list,create,patch,delete"])]
    #[case::config_maps(copying(false, true, false), &["configmaps [] get,list,create,patch,delete"])]
    #[case::secrets(copying(false, false, true), &["secrets [] get,list,create,patch,delete"])]
    fn the_account_has_the_charts_rights(#[case] grants: Grants, #[case] more: &[&str]) {
        let objects = objects("ns", "uid", &grants, None).unwrap();
        let mut expected = vec![
            "workflows [] get,list,watch,create,patch,delete",
            "namespaces [] get",
            "nodes,pods [] list,watch",
            "pods [] delete",
            "services/proxy [https:argo-server:2746] get",
            "serviceaccounts,persistentvolumeclaims [] get",
            "priorityclasses [] get",
            "storageclasses [] get",
            "workflowtemplates,clusterworkflowtemplates [] get",
            "pods/log [] get",
        ];
        expected.extend(more);
        assert_eq!(granted(&objects[1]), expected);
        assert_eq!(granted(&objects[3]), ["serviceaccounts/token [argosy-syncer] create"]);
        for wanted in &objects {
            let title = wanted.title();
            serde_json::from_value::<DynamicObject>(wanted.object.clone()).expect(&title);
        }
        assert_eq!(objects[1].name, "argosy-member:ns:argosy-syncer");
        assert_eq!(objects[4].object["roleRef"]["kind"], "Role");
        let labels: std::collections::BTreeMap<String, String> =
            serde_json::from_value(objects[0].object["metadata"]["labels"].clone()).unwrap();
        assert!(ownership::is_ours(Some(&labels), "uid"));
        let inside = super::objects("ns", "uid", &Grants::NONE, Some("c1")).unwrap();
        assert_eq!(
            granted(&inside[3]),
            ["serviceaccounts/token [argosy-syncer] create", "secrets [argosy-control-c1] get,patch"]
        );
    }
}
