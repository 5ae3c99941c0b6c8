//! Logs that are being followed while something fails.

use anyhow::{Context, Result, ensure};
use argosy_api::names;
use http::Request;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, Config, ResourceExt};
use testbed::links::{self, Fault, to_wec};

use crate::cases::live_logs::{Lines, printing, readiness, shadow_of};
use crate::cases::{Case, case};
use crate::world::{World, wait_for};

pub fn cases() -> Vec<Case> {
    vec![
        case!("a log that is followed says that it broke off, and can be taken up again when the cluster is back", cut),
        case!("who asks a virtual node's kubelet must be one who may ask kubelets", callers),
    ]
}

const NAMESPACE: &str = "default";
const WEC: &str = "cluster1";

async fn cut(world: World) -> Result<()> {
    let name = world.create(NAMESPACE, &printing("broken-off", 600)).await?;
    let pod = shadow_of(&world, NAMESPACE, &name, "Running").await?.name_any();
    let args = ["logs", "-n", NAMESPACE, "-f", "-c", "main", pod.as_str()];
    let link = [to_wec(WEC)];
    for fault in [Fault::Cut, Fault::BlackHole] {
        let mut lines = Lines::of(&world, "kubectl", &args)?;
        lines.next().await?.context("no line")?;
        links::set(&world.testbed, &link, fault).await?;
        let meanwhile = async {
            let mut last = String::new();
            while let Some(line) = lines.next().await? {
                last = line;
            }
            ensure!(last.contains("argosy: error: the log of pod default/"), "it ended with {last:?}");
            is_ready(&world, "False").await?;
            shadow_of(&world, NAMESPACE, &name, "Running").await.context("while its cluster does not answer")?;
            let refused = world.run("kubectl", &args, "").await.err().context("a log of a cluster that is cut off")?;
            ensure!(format!("{refused:#}").contains("whose cluster answers now"), "{refused:#}");
            anyhow::Ok(())
        }
        .await;
        links::set(&world.testbed, &link, Fault::None).await?;
        meanwhile.with_context(|| format!("{fault:?}"))?;
        is_ready(&world, "True").await?;
        wait_for("its log", || async {
            let mut lines = Lines::of(&world, "kubectl", &args)?;
            Ok(lines.next().await?.filter(|line| line.ends_with("line 1")).ok_or("no line".to_owned()))
        })
        .await?;
    }
    world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await.map(drop)
}

async fn is_ready(world: &World, expected: &str) -> Result<()> {
    wait_for(&format!("the node's readiness to be {expected}"), || async {
        let ready = readiness(world, WEC).await?;
        Ok(if ready.as_deref() == Some(expected) { Ok(()) } else { Err(format!("{ready:?}")) })
    })
    .await
}

async fn callers(world: World) -> Result<()> {
    let name = world.create(NAMESPACE, &printing("callers", 600)).await?;
    let pod = shadow_of(&world, NAMESPACE, &name, "Running").await?.name_any();
    let nodes: Api<Node> = Api::all(world.control.clone());
    let status = nodes.get(&names::virtual_node(WEC)).await?.status.context("its node has no status")?;
    let port = status.daemon_endpoints.and_then(|ends| ends.kubelet_endpoint).context("no port")?.port;
    let host = status.addresses.into_iter().flatten().next().context("no address")?.address;
    let (url, path) = (format!("https://{host}:{port}"), format!("/containerLogs/{NAMESPACE}/{pod}/main"));
    let token = |account: &'static str| {
        let world = &world;
        async move { world.run("kubectl", &["create", "token", "-n", NAMESPACE, account], "").await }
    };
    let table = [
        ("nobody", None, 401, "Unauthorized"),
        ("no token at all", Some("forged".to_owned()), 401, "Unauthorized"),
        ("a tenant", Some(token("default").await?), 403, "user=system:serviceaccount:default:default"),
    ];
    let ask = async |token: Option<String>| {
        let mut config = Config::new(url.parse()?);
        // Self-signed, as a kubelet's.
        config.accept_invalid_certs = true;
        config.auth_info.token = token.map(|token| token.trim().to_owned().into());
        anyhow::Ok(Client::try_from(config)?.request_text(Request::get(&path).body(Vec::new())?).await)
    };
    for (who, token, status, words) in table {
        match ask(token).await? {
            Err(kube::Error::Api(said)) if said.code == status && said.message.contains(words) => {}
            answer => anyhow::bail!("{who}: {answer:?}"),
        }
    }
    let let_in = ["create", "clusterrolebinding", "asks-kubelets", "--clusterrole=system:kubelet-api-admin"];
    let account = format!("--serviceaccount={NAMESPACE}:default");
    world.run("kubectl", &[&let_in[..], &[account.as_str()]].concat(), "").await?;
    let answered = wait_for("the right to be in force", || async {
        Ok(ask(Some(token("default").await?)).await?.map_err(|error| error.to_string()))
    })
    .await;
    world.run("kubectl", &["delete", "clusterrolebinding", "asks-kubelets"], "").await?;
    ensure!(answered?.contains("line 1"), "the log is not there");
    world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await.map(drop)
}
