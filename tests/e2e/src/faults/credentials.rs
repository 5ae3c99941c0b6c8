//! Ways to clusters that fail for good until somebody does something: a token that has expired, and a syncer inside of its
//! cluster that is not heard of.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use argosy_api::workload_cluster::{SECRET_KEY, SECRET_SUFFIX};
use argosy_api::{kubeconfig, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::cluster::pki;
use testbed::layout::CONTROL;
use testbed::links::{self, Fault, to_control, to_wec};
use testbed::{Cluster, further, process};

use crate::cases::{Case, case};
use crate::world::{World, labelled, phase_in, sleeping, wait_for, workflows};

pub fn cases() -> Vec<Case> {
    vec![
        case!(
            "a token is renewed every day; one that expires while the link is cut needs join --renew, and says so",
            expires
        ),
        case!("a syncer inside of its cluster serves it alone, and when it is silent the cluster is lost", inside),
    ]
}

const WEC: &str = "cluster2";

fn wec(world: &World) -> Result<&Cluster> {
    world.testbed.cluster(WEC)
}

/// Runs `kubectl argosy` about [`WEC`] under another name.
async fn argosy(world: &World, args: &str) -> Result<String> {
    world.plugin(world.testbed.control(), wec(world)?, args).await
}

async fn expires(world: World) -> Result<()> {
    const NAME: &str = "lima";
    let link = [to_wec(WEC)];
    world.namespace(NAME, json!({})).await?;
    let server = links::url(&world.testbed, &link[0])?;
    let lived = async {
        let account = "--member-namespace argosy-lima";
        argosy(&world, &format!("join lima {account} --namespaces lima --create-namespaces --server {server}")).await?;
        let old = age(&world, NAME, 25, 100).await?;
        renewed(&old, || async { Ok(token(&world, NAME).await?.0) }).await?;
        let running = world.create(NAME, &labelled(sleeping("outlives", 600), json!({names::CLUSTER: NAME}))).await?;
        world.node(NAME, &running, &running, "Running").await?;
        links::set(&world.testbed, &link, Fault::Cut).await?;
        let meanwhile = async {
            world.finish(&world.wecs[1], NAME, &running).await?;
            age(&world, NAME, 200, -1).await
        }
        .await;
        links::set(&world.testbed, &link, Fault::None).await?;
        meanwhile?;
        let said = world.ready(NAME, Some("CredentialsExpired")).await?;
        ensure!(said.contains("`kubectl argosy join lima --renew`"), "it says {said:?}");
        let original = world.originals(NAME).get(&running).await?;
        ensure!(original.data["status"]["phase"] == "Running", "{}", original.data["status"]);
        argosy(&world, &format!("join lima {account} --renew")).await?;
        world.phase(NAME, &running, "Succeeded").await.map(drop)
    }
    .await;
    let left = argosy(&world, "leave lima --member-namespace argosy-lima --force").await;
    lived?;
    left.map(drop)
}

/// The token with which a cluster is reached, and the kubeconfig that has it.
async fn token(world: &World, name: &str) -> Result<(String, Value)> {
    let kubeconfig: Value = serde_saphyr::from_str(&world.way_to(name).await?)?;
    Ok((kubeconfig::token(&kubeconfig).context("no token")?.to_owned(), kubeconfig))
}

/// Lets time pass for a cluster's token: it was granted so many hours ago, and is good for so many more.
async fn age(world: &World, name: &str, ago: i64, until: i64) -> Result<String> {
    let (token, old) = token(world, name).await?;
    let token = pki::dated(&world.testbed, WEC, &token, ago, until)?;
    let new = kubeconfig::with_token(old, &token).context("no token")?;
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), "argosy");
    write(&secrets, &format!("{name}{SECRET_SUFFIX}"), SECRET_KEY, serde_saphyr::to_string(&new)?).await?;
    Ok(token)
}

/// Writes to a key of a Secret.
async fn write(secrets: &Api<Secret>, name: &str, key: &str, text: String) -> Result<()> {
    let data = json!({key: ByteString(text.into_bytes())});
    secrets.patch(name, &PatchParams::default(), &Patch::Merge(json!({"data": data}))).await?;
    Ok(())
}

/// Waits until somebody has renewed a token.
async fn renewed<F: Future<Output = Result<String>>>(old: &str, now: impl Fn() -> F) -> Result<()> {
    wait_for("a token of yesterday to be renewed", || async {
        Ok(if now().await? == old { Err("it is the same".to_owned()) } else { Ok(()) })
    })
    .await
}

async fn inside(world: World) -> Result<()> {
    const NAME: &str = "oslo";
    const ACCOUNT: &str = "argosy-oslo";
    let link = [to_control(further::INSIDE)];
    let (server, wec) = (links::url(&world.testbed, &link[0])?, wec(&world)?);
    world.namespace(NAME, json!({"argosy.dev/clusters": "city=oslo"})).await?;
    let lived = async {
        let args = format!(
            "join oslo --pull --member-namespace {ACCOUNT} --namespaces oslo --create-namespaces --copy templates,configMaps --labels city=oslo \
             --server {server} --no-wait"
        );
        argosy(&world, &args).await?;
        world.ready(NAME, Some("Unreachable")).await.context("before it has signed in")?;
        let old = age_inside(&world).await?;
        further::start_inside(&world.testbed, NAME, wec, ACCOUNT).await?;
        world.ready(NAME, None).await?;
        least(&world).await?;

        let name = world.create(NAME, &sleeping("pulled", 600)).await?;
        world.node(NAME, &name, &name, "Running").await?;
        links::set(&world.testbed, &link, Fault::Cut).await?;
        let meanwhile = async {
            let said = world.ready(NAME, Some("Unreachable")).await?;
            ensure!(said.contains("has not been heard of since"), "it says {said:?}");
            world.finish(&world.wecs[1], NAME, &name).await?;
            phase_in(&workflows(&world.wecs[1], NAME), &name, "Succeeded").await
        }
        .await;
        links::set(&world.testbed, &link, Fault::None).await?;
        meanwhile?;
        world.phase(NAME, &name, "Succeeded").await?;
        world.ready(NAME, None).await?;

        let stopped = world.create(NAME, &sleeping("stopped", 600)).await?;
        world.node(NAME, &stopped, &stopped, "Running").await?;
        ensure!(process::kill_at_once(&world.testbed.layout, &wec.name, further::INSIDE), "it did not run");
        world.run("argo", &["stop", "-n", NAME, &stopped], "").await?;
        further::start_inside(&world.testbed, NAME, wec, ACCOUNT).await?;
        world.phase(NAME, &stopped, "Failed").await?;
        world.originals(NAME).delete(&stopped, &Default::default()).await?;
        world.presence(&workflows(&world.wecs[1], NAME), &stopped, false).await?;
        renewed(&old, || token_inside(&world)).await
    }
    .await;
    further::stop_inside(&world.testbed, wec);
    let left = argosy(&world, &format!("leave oslo --member-namespace {ACCOUNT} --force")).await;
    lived?;
    left?;
    nothing_left(&world).await
}

fn secrets_inside(world: &World) -> Api<Secret> {
    Api::namespaced(world.wecs[1].clone(), "argosy-oslo")
}

async fn token_inside(world: &World) -> Result<String> {
    let data = secrets_inside(world).get(&names::agent_secret("oslo")).await?.data.unwrap_or_default();
    Ok(String::from_utf8(data.get("token").context("no token")?.0.clone())?)
}

/// Lets a day pass for the token with which the syncer inside signs in to the control cluster.
async fn age_inside(world: &World) -> Result<String> {
    let token = pki::dated(&world.testbed, CONTROL, &token_inside(world).await?, 25, 100)?;
    write(&secrets_inside(world), &names::agent_secret("oslo"), "token", token.clone()).await?;
    Ok(token)
}

/// What the account may do in the control cluster is what any account there may, and these.
async fn least(world: &World) -> Result<()> {
    let may = async |account: &str| {
        let user = format!("system:serviceaccount:argosy:{account}");
        let args = ["auth", "can-i", "--list", "--no-headers", "-n", "argosy", "--as", &user];
        let said = world.run("kubectl", &args, "").await?;
        let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        anyhow::Ok(lines.collect::<BTreeSet<String>>())
    };
    let granted = may("argosy-agent-oslo").await?;
    let anybody = may("default").await?;
    let granted: BTreeSet<&str> = granted.difference(&anybody).map(String::as_str).collect();
    let expected = BTreeSet::from([
        "workflows.argoproj.io [] [] [list watch get patch]",
        "workflowtemplates.argoproj.io [] [] [list watch get]",
        "clusterworkflowtemplates.argoproj.io [] [] [list watch get]",
        "namespaces [] [] [get list watch]",
        "workloadclusters.argosy.dev [] [] [list watch get]",
        "placementpolicies.argosy.dev [] [] [list watch]",
        "workloadclusters.argosy.dev/status [] [oslo] [patch]",
        "customresourcedefinitions.apiextensions.k8s.io [] [bindingpolicies.control.kubestellar.io] [get]",
        "customresourcedefinitions.apiextensions.k8s.io [] [customtransforms.control.kubestellar.io] [get]",
        "bindingpolicies.control.kubestellar.io [] [] [list watch]",
        "customtransforms.control.kubestellar.io [] [] [list watch]",
        "configmaps [] [] [get]",
        "events.events.k8s.io [] [] [create patch]",
        "leases.coordination.k8s.io [] [argosy-cluster-oslo] [get update]",
        "serviceaccounts/token [] [argosy-agent-oslo] [create]",
    ]);
    ensure!(granted == expected, "it may {granted:#?}");
    Ok(())
}

async fn nothing_left(world: &World) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.control.clone(), "argosy");
    ensure!(accounts.get_opt("argosy-agent-oslo").await?.is_none(), "the account is there");
    let joined = ListParams::default().labels(&format!("{}=oslo", names::JOINED));
    let roles = Api::<ClusterRole>::all(world.control.clone()).list(&joined).await?.items;
    let bindings = Api::<ClusterRoleBinding>::all(world.control.clone()).list(&joined).await?.items;
    let left: Vec<String> =
        roles.iter().map(ResourceExt::name_any).chain(bindings.iter().map(ResourceExt::name_any)).collect();
    ensure!(left.is_empty(), "{left:?} are there");
    ensure!(
        secrets_inside(world).get_opt(&names::agent_secret("oslo")).await?.is_none(),
        "the way to the control cluster is there"
    );
    Ok(())
}
