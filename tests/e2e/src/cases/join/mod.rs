//! `kubectl argosy join` and `leave`: the program itself, on a cluster that joins under further names.

mod kubeconfigs;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use argosy_api::WorkloadCluster;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, labelled, sleeping, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a cluster that joins takes workflows by its labels, with the least rights", join),
        case!("joining again changes what is given, --renew only the token", join_again),
        case!("leave refuses while workflows run, then undoes what join made", leave),
        case!("names that share an account keep it and its rights until the last one leaves", shared_account),
        case!("leaving under a second name takes nothing from a cluster that a chart joined", beside_the_chart),
        case!("what join refuses changes nothing", kubeconfigs::refused),
        case!("an administrator's program and files stay the administrator's", kubeconfigs::administrators_way),
    ]
}

const LABEL: &str = "kubestellar.io/cluster";
/// The account's name, and that of its Role.
const ACCOUNT: &str = "argosy-syncer";
/// The number of the cluster that joins.
const MEMBER: usize = 1;

/// Runs `kubectl argosy join` or `leave` about [`MEMBER`].
async fn argosy(world: &World, verb: &str, name: &str, args: &str) -> Result<String> {
    world.plugin(world.testbed.control(), &world.testbed.wecs()[MEMBER], &format!("{verb} {name} {args}")).await
}

async fn run(world: &World, args: &[&str]) -> Result<String> {
    world.run("kubectl-argosy", args, "").await
}

/// What a command says that must not succeed.
async fn refusal(command: impl Future<Output = Result<String>>, expected: &str) -> Result<()> {
    match command.await {
        Ok(said) => bail!("it was not refused ({expected:?}): {said}"),
        Err(error) => {
            let said = error.to_string();
            ensure!(said.contains(expected), "{expected:?} is not in {said:?}");
            Ok(())
        }
    }
}

/// Leaves in any case, so that no other case meets what one has left.
async fn and_leave<T>(world: &World, name: &str, args: &str, result: Result<T>) -> Result<T> {
    let left = argosy(world, "leave", name, &format!("{args} --force")).await;
    let result = result?;
    left.map(|_| result)
}

/// Runs a workflow in a cluster, by its name.
async fn runs(world: &World, namespace: &str, cluster: &str) -> Result<()> {
    let workflow = labelled(sleeping("runs", 1), json!({LABEL: cluster}));
    let name = world.create(namespace, &workflow).await?;
    world.phase(namespace, &name, "Succeeded").await.map(drop)
}

fn clusters(world: &World) -> Api<WorkloadCluster> {
    Api::all(world.control.clone())
}

async fn join(world: World) -> Result<()> {
    world.namespace("joined", json!({"argosy.dev/clusters": "city=paris"})).await?;
    let args = "--namespaces joined --labels city=paris --create-namespaces --member-namespace argosy-paris";
    let joined = async {
        let said = argosy(&world, "join", "paris", args).await?;
        ensure!(said == "workloadcluster.argosy.dev/paris joined", "it said {said:?}");
        let name = world.create("joined", &sleeping("by-label", 1)).await?;
        let done = world.phase("joined", &name, "Succeeded").await?;
        ensure!(done.labels()[LABEL] == "paris", "it went to {}", done.labels()[LABEL]);
        ensure!(world.pods(&world.wecs[MEMBER], "joined", &name).await?.len() == 1, "its pod is not there");
        rights(&world).await
    }
    .await;
    and_leave(&world, "paris", "--member-namespace argosy-paris", joined).await
}

/// What the account may do is what any account there may, and these.
async fn rights(world: &World) -> Result<()> {
    let everywhere = [
        "workflows.argoproj.io [] [] [get list watch create patch delete]",
        "namespaces [] [] [get create]",
        "nodes [] [] [list watch]",
        "pods [] [] [list watch delete]",
        "pods/log [] [] [get]",
        "services/proxy [] [https:argo-server:2746] [get]",
        "serviceaccounts [] [default] [get]",
        "serviceaccounts [] [] [get]",
        "persistentvolumeclaims [] [] [get]",
        "priorityclasses.scheduling.k8s.io [] [] [get]",
        "storageclasses.storage.k8s.io [] [] [get]",
        "workflowtemplates.argoproj.io [] [] [get]",
        "clusterworkflowtemplates.argoproj.io [] [] [get]",
    ];
    let own = ["serviceaccounts/token [] [argosy-syncer] [create]"];
    for (namespace, own) in [("default", &[][..]), ("argosy-paris", &own)] {
        let granted = may(world, namespace, ACCOUNT).await?;
        let anybody = may(world, namespace, "default").await?;
        let granted: BTreeSet<&str> = granted.difference(&anybody).map(String::as_str).collect();
        let expected: BTreeSet<&str> = everywhere.iter().chain(own).copied().collect();
        ensure!(granted == expected, "in namespace {namespace} it may {granted:#?}");
    }
    Ok(())
}

/// Lines of `kubectl auth can-i --list`: resources, paths, names, verbs.
async fn may(world: &World, namespace: &str, account: &str) -> Result<BTreeSet<String>> {
    let user = format!("system:serviceaccount:argosy-paris:{account}");
    let args = ["auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as", &user];
    let said = world.run_in(&world.testbed.wecs()[MEMBER], "kubectl", &args, "").await?;
    Ok(said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

async fn join_again(world: World) -> Result<()> {
    world.namespace("again", json!({})).await?;
    let account = "--member-namespace argosy-rome";
    let again = async {
        argosy(&world, "join", "rome", &format!("{account} --namespaces again --labels city=rome --create-namespaces"))
            .await?;
        let before = clusters(&world).get("rome").await?;
        argosy(&world, "join", "rome", &format!("{account} --namespaces again,more --labels tier=gold")).await?;
        let after = clusters(&world).get("rome").await?;
        ensure!(after.uid() == before.uid(), "it is another WorkloadCluster");
        ensure!(after.labels()["city"] == "rome" && after.labels()["tier"] == "gold", "labels: {:?}", after.labels());
        ensure!(after.spec.namespaces == ["again", "more"], "it takes {:?}", after.spec.namespaces);
        ensure!(after.spec.create_namespaces, "what was not given changed");

        let long = world.create("again", &labelled(sleeping("long", 5), json!({LABEL: "rome"}))).await?;
        let before = world.way_to("rome").await?;
        let said = argosy(&world, "join", "rome", &format!("{account} --renew")).await?;
        ensure!(said == "workloadcluster.argosy.dev/rome renewed", "it said {said:?}");
        let renewed = world.way_to("rome").await?;
        ensure!(renewed != before, "the token is the same");
        let without_users = |text: &str| -> Result<Value> {
            let mut kubeconfig = serde_json::to_value(Kubeconfig::from_yaml(text)?)?;
            kubeconfig["users"] = Value::Null;
            Ok(kubeconfig)
        };
        ensure!(without_users(&renewed)? == without_users(&before)?, "more than the token changed");
        ensure!(clusters(&world).get("rome").await?.spec == after.spec, "--renew changed the WorkloadCluster");
        world.phase("again", &long, "Succeeded").await?;
        runs(&world, "again", "rome").await?;

        let control = world.testbed.control().kubeconfig.display().to_string();
        let other = world.testbed.wecs()[0].kubeconfig.display().to_string();
        for (kubeconfig, expected) in
            [(control, "is the control cluster itself"), (other, "rome is another cluster than the one given")]
        {
            let renew = ["join", "rome", "--renew", "--member-kubeconfig", &kubeconfig];
            refusal(run(&world, &renew), expected).await?;
        }
        ensure!(world.way_to("rome").await? == renewed, "a refusal changed the Secret");
        Ok(())
    }
    .await;
    and_leave(&world, "rome", account, again).await
}

async fn leave(world: World) -> Result<()> {
    world.namespace("leaving", json!({})).await?;
    let account = "--member-namespace argosy-lyon";
    let left = async {
        argosy(&world, "join", "lyon", &format!("{account} --namespaces leaving --create-namespaces")).await?;
        runs(&world, "leaving", "lyon").await?;
        let name = world.create("leaving", &labelled(sleeping("live", 300), json!({LABEL: "lyon"}))).await?;
        world.phase("leaving", &name, "Running").await?;
        let expected = format!("1 workflow routed to lyon is not completed: leaving/{name}");
        refusal(argosy(&world, "leave", "lyon", account), &expected).await?;
        world.way_to("lyon").await.context("it left in part")?;
        ensure!(!clusters(&world).get("lyon").await?.spec.cordoned, "a refusal cordoned the cluster");

        world.run("kubectl", &["delete", "wf", "-n", "leaving", &name], "").await?;
        world.presence(&workflows(&world.wecs[MEMBER], "leaving"), &name, false).await?;
        let said = argosy(&world, "leave", "lyon", account).await?;
        ensure!(said == "workloadcluster.argosy.dev/lyon left", "it said {said:?}");
        nothing_left(&world, "lyon", "argosy-lyon").await?;
        let copies = workflows(&world.wecs[MEMBER], "leaving").list_metadata(&ListParams::default()).await?.items;
        ensure!(copies.len() == 1 && copies[0].finalizers().is_empty(), "the finished copy was not released");
        // The cluster is still there under the name that it had before.
        runs(&world, "default", &world.testbed.wecs()[MEMBER].name).await
    }
    .await;
    and_leave(&world, "lyon", account, left).await
}

async fn nothing_left(world: &World, name: &str, namespace: &str) -> Result<()> {
    ensure!(clusters(world).get_opt(name).await?.is_none(), "the WorkloadCluster is there");
    ensure!(world.way_to(name).await.is_err(), "the Secret is there");
    let leases: Api<Lease> = Api::namespaced(world.control.clone(), "argosy");
    ensure!(leases.get_opt(&format!("argosy-cluster-{name}")).await?.is_none(), "the Lease is there");
    ensure!(account(world, namespace).await?.is_empty(), "{:?} is there", account(world, namespace).await?);
    Ok(())
}

/// Which objects of an account are there.
async fn account(world: &World, namespace: &str) -> Result<Vec<&'static str>> {
    async fn is_there<K>(api: Api<K>, name: &str) -> Result<bool>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Ok(api.get_opt(name).await?.is_some())
    }
    let client = || world.wecs[MEMBER].clone();
    let role = format!("argosy-member:{namespace}:{ACCOUNT}");
    let all = [
        ("ServiceAccount", is_there(Api::<ServiceAccount>::namespaced(client(), namespace), ACCOUNT).await?),
        ("Role", is_there(Api::<Role>::namespaced(client(), namespace), ACCOUNT).await?),
        ("RoleBinding", is_there(Api::<RoleBinding>::namespaced(client(), namespace), ACCOUNT).await?),
        ("ClusterRole", is_there(Api::<ClusterRole>::all(client()), &role).await?),
        ("ClusterRoleBinding", is_there(Api::<ClusterRoleBinding>::all(client()), &role).await?),
    ];
    Ok(all.into_iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| kind).collect())
}

async fn shared_account(world: World) -> Result<()> {
    let account_args = "--member-namespace argosy-shared";
    let shared = async {
        let args = format!("{account_args} --namespaces shared-1,shared-2,shared-3");
        argosy(&world, "join", "nice", &format!("{args} --create-namespaces")).await?;
        argosy(&world, "join", "nantes", &args).await?;
        // By the right that only the first one asked for.
        world.namespace("shared-1", json!({})).await?;
        runs(&world, "shared-1", "nice").await?;
        argosy(&world, "leave", "nantes", account_args).await?;
        ensure!(account(&world, "argosy-shared").await?.len() == 5, "the account of both went with the second");
        world.namespace("shared-2", json!({})).await?;
        runs(&world, "shared-2", "nice").await?;
        argosy(&world, "leave", "nice", account_args).await?;
        nothing_left(&world, "nice", "argosy-shared").await
    }
    .await;
    let shared = and_leave(&world, "nantes", account_args, shared).await;
    and_leave(&world, "nice", account_args, shared).await
}

async fn beside_the_chart(world: World) -> Result<()> {
    let beside = async {
        argosy(&world, "join", "second", "--namespaces default").await?;
        runs(&world, "default", "second").await
    }
    .await;
    and_leave(&world, "second", "", beside).await?;
    ensure!(clusters(&world).get_opt("second").await?.is_none(), "the WorkloadCluster is there");
    ensure!(account(&world, "argosy").await?.len() == 5, "only {:?} stayed", account(&world, "argosy").await?);
    runs(&world, "default", &world.testbed.wecs()[MEMBER].name).await
}
