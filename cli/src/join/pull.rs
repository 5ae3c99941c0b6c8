//! A cluster that nobody needs a way into: a syncer inside of it reaches the control cluster, as an account that it has there.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use argosy_api::kubeconfig::{self, Endpoint};
use argosy_api::{SyncMode, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::account::{self, CONTROL, Place, Token, Wanted, binding};
use super::register::{self, Known};
use super::{JoinArgs, Sides, trial};
use crate::ask::ask;
use crate::ownership::{self, is_ours};

/// The chart's roles for syncers inside of their clusters.
const ROLE: &str = "argosy-agent";
const ROLE_CONFIG_MAPS: &str = "argosy-agent-config-maps";

/// The account of a cluster's own syncer in the control cluster, and its rights. `namespace`: Argosy's there.
pub fn objects(namespace: &str, cluster: &str, config_maps: bool) -> Vec<Wanted> {
    let place = Place { title: CONTROL, namespace, owner: cluster };
    let account = names::agent(cluster);
    let lease = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "resourceNames": [names::lease(cluster)], "verbs": ["get", "update"]});
    let token = json!({"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [account],
        "verbs": ["create"]});
    let status = json!({"apiGroups": ["argosy.dev"], "resources": ["workloadclusters/status"],
        "resourceNames": [cluster], "verbs": ["patch"]});
    let bound = |name: &str, role: &str| {
        place.of_cluster::<ClusterRoleBinding>(name, binding("ClusterRole", role, namespace, &account))
    };
    let mut objects = vec![
        place.namespaced::<ServiceAccount>(&account, json!({"automountServiceAccountToken": false})),
        place.of_cluster::<ClusterRole>(&account, json!({"rules": [status]})),
        bound(&account, &account),
        bound(&format!("{account}:{ROLE}"), ROLE),
        place.namespaced::<Role>(&account, json!({"rules": [lease, token]})),
        place.namespaced::<RoleBinding>(&account, binding("Role", &account, namespace, &account)),
    ];
    if config_maps {
        objects.push(bound(&format!("{account}:{ROLE_CONFIG_MAPS}"), ROLE_CONFIG_MAPS));
    }
    objects
}

/// Makes the accounts on both sides, and hands the way to the control cluster to the other one.
pub async fn join(args: &JoinArgs, sides: &Sides, known: &Known, endpoint: &Endpoint) -> Result<()> {
    let wish = super::make_account(args, sides, known, SyncMode::Pull).await?;
    let (name, namespace) = (&args.name, &args.namespace);
    if !wish.copy.config_maps {
        let no_more: Vec<Wanted> = objects(namespace, name, true).split_off(objects(namespace, name, false).len());
        account::delete(&sides.control, &no_more, name).await?;
    }
    let objects = objects(namespace, name, wish.copy.config_maps);
    account::apply(&sides.control, None, &objects, name, args.force).await?;
    make_lease(&sides.control, namespace, name).await?;
    let token = token(args, sides).await?;
    let account = names::agent(name);
    let to_try = kubeconfig::with_user("control", endpoint, &account, &json!({"token": token.text}));
    trial::sign_in(&to_try, &sides.control_uid).await?;
    token.report();
    // A file, for the token is renewed while the syncer runs.
    let kubeconfig = kubeconfig::with_user("control", endpoint, &account, &json!({"tokenFile": "token"}));
    write_secret(args, sides, Some(&kubeconfig), &token).await?;
    register::write_cluster(&sides.control, name, known.cluster.as_ref(), &wish).await
}

/// Puts a new token into the Secret that is there.
pub async fn renew(args: &JoinArgs, sides: &Sides) -> Result<()> {
    if let Some(account) = objects(&args.namespace, &args.name, false).first() {
        account.check(&sides.control, &args.name, args.force).await?;
    }
    make_lease(&sides.control, &args.namespace, &args.name).await?;
    let token = token(args, sides).await?;
    token.report();
    write_secret(args, sides, None, &token).await
}

/// Deletes what there is of it on both sides; `member` is the workload cluster and its namespace, where that is known.
pub async fn leave(
    control: (&Client, &str),
    cluster: &str,
    member: Option<(&Client, &str)>,
    control_uid: &str,
) -> Result<()> {
    let (client, namespace) = control;
    account::delete(client, &objects(namespace, cluster, true), cluster).await?;
    let Some((client, namespace)) = member else { return Ok(()) };
    let (api, name) = (Api::<Secret>::namespaced(client.clone(), namespace), names::agent_secret(cluster));
    let title = format!("Secret {namespace}/{name} in the workload cluster");
    let there = ask(&format!("read {title}"), api.get_opt(&name)).await?;
    if there.is_some_and(|there| is_ours(Some(there.labels()), control_uid)) {
        ask(&format!("delete {title}"), api.delete(&name, &Default::default())).await?;
        eprintln!(
            "deleted {title}; a syncer that runs there (chart argosy-member, agent.cluster) is to be uninstalled"
        );
    }
    Ok(())
}

async fn token(args: &JoinArgs, sides: &Sides) -> Result<Token> {
    account::token(&sides.control, &args.namespace, &names::agent(&args.name), CONTROL).await
}

/// The account may renew its cluster's Lease, and make none.
async fn make_lease(control: &Client, namespace: &str, cluster: &str) -> Result<()> {
    let api: Api<Lease> = Api::namespaced(control.clone(), namespace);
    let name = names::lease(cluster);
    let what = format!("Lease {namespace}/{name}");
    if ask(&format!("read {what}"), api.get_opt(&name)).await?.is_none() {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name);
        ask(&format!("create {what}"), api.create(&PostParams::default(), &lease)).await?;
    }
    Ok(())
}

async fn write_secret(args: &JoinArgs, sides: &Sides, kubeconfig: Option<&Value>, token: &Token) -> Result<()> {
    let namespace = &args.member.member_namespace;
    let (api, name) = (Api::<Secret>::namespaced(sides.member.clone(), namespace), names::agent_secret(&args.name));
    let title = format!("Secret {namespace}/{name} in the workload cluster");
    let there = ask(&format!("read {title}"), api.get_opt(&name)).await?;
    ownership::verdict(&title, there.as_ref().map(ResourceExt::labels), &sides.control_uid, args.force)?;
    let mut data = BTreeMap::from([("token".to_owned(), ByteString(token.text.clone().into_bytes()))]);
    match kubeconfig {
        Some(kubeconfig) => {
            let text = serde_saphyr::to_string(kubeconfig).context("the kubeconfig cannot be written as YAML")?;
            data.insert("kubeconfig".to_owned(), ByteString(text.into_bytes()));
        }
        None if there.is_none() => anyhow::bail!("there is no {title}: join {} without --renew", args.name),
        None => {}
    }
    let mut secret = Secret { data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name.clone());
    secret.metadata.labels = Some(ownership::labels(&sides.control_uid));
    let what = format!("write {title}");
    match there {
        None => ask(&what, api.create(&PostParams::default(), &secret)).await.map(drop)?,
        Some(_) => ask(&what, api.patch(&name, &PatchParams::default(), &Patch::Merge(&secret))).await.map(drop)?,
    }
    eprintln!("{title}: done");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_rights_when_config_maps_are_copied_no_more() {
        let (all, some) = (objects("argosy", "c1", true), objects("argosy", "c1", false));
        assert_eq!(all.len(), some.len() + 1);
        assert!(all.last().is_some_and(|last| last.title().contains(ROLE_CONFIG_MAPS)));
    }
}
