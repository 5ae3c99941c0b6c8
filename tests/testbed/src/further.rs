//! Further programs of Argosy that some cases need in a played testbed: a syncer inside of a workload cluster, and a second
//! control cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use argosy_api::{WorkloadCluster, names};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;

use crate::argosy::{LOG, SYNCER, WEBHOOK as PROGRAM, helm_in, kept, serving_port};
use crate::cluster::token;
use crate::layout::{Nodes, create_private_dir, write_file};
use crate::process::{self, Daemon, run, wait_until};
use crate::{Cluster, Testbed};

/// The daemon's name of a syncer inside of a workload cluster. Its link to the control cluster is called after it.
pub const INSIDE: &str = "argosy-inside";

/// The second control cluster's webhook and syncer.
pub(crate) const WEBHOOK: &str = "argosy-second-webhook";
const SECOND_SYNCER: &str = "argosy-second-syncer";
/// Argosy's namespace in the second control cluster, which is a workload cluster of the first, too.
pub const SECOND: &str = "argosy-second";

/// How long an API server may take to serve new CRDs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a syncer inside of a workload cluster, for a cluster that has joined with `--pull`: its Secret's content becomes
/// files, as a kubelet has it. `namespace`: that of its account.
///
/// # Errors
/// It has not joined so, or the program does not start.
pub async fn start_inside(testbed: &Testbed, cluster: &str, wec: &Cluster, namespace: &str) -> Result<()> {
    ensure!(testbed.state.nodes == Nodes::Played, "on real nodes it is a Deployment of the chart");
    let client = wec.client().await?;
    let (secrets, name) = (Api::<Secret>::namespaced(client.clone(), namespace), names::agent_secret(cluster));
    let secret = secrets.get(&name).await.with_context(|| format!("reading Secret {namespace}/{name}"))?;
    let dir = testbed.layout.cluster_dir(&wec.name).join(INSIDE);
    create_private_dir(&dir)?;
    for (file, content) in secret.data.unwrap_or_default() {
        write_file(&dir.join(file), content.0, 0o600)?;
    }
    let member = dir.join("member.kubeconfig");
    let token = token(&client, namespace, SYNCER).await?;
    write_file(&member, wec.kubeconfig_with_token(SYNCER, &token)?, 0o600)?;
    Daemon::new(&testbed.layout, &wec.name, INSIDE, &kept(testbed, SYNCER))
        .args([
            format!("--cluster={cluster}"),
            format!("--kubeconfig={}", dir.join("kubeconfig").display()),
            format!("--member-kubeconfig={}", member.display()),
            format!("--token-secret={namespace}/{name}"),
        ])
        .args(["--namespace=argosy", "--identity=inside", "--admin-listen=127.0.0.1:0", &format!("--log={LOG}")])
        .start()
        .map(drop)
}

/// Ends it. Says whether it ran.
pub fn stop_inside(testbed: &Testbed, wec: &Cluster) -> bool {
    process::stop(&testbed.layout, &wec.name, INSIDE)
}

/// Makes a workload cluster a control cluster as well, of this identity. Argo there can work on no workflow meanwhile that
/// came from the first one: this one's fence takes it for an original.
///
/// # Errors
/// Helm refuses something, or the programs do not start.
pub async fn start_second(testbed: &Testbed, cluster: &Cluster, control_id: Option<&str>) -> Result<()> {
    let port = testbed.state.ports.get(&serving_port(WEBHOOK)).context("a testbed with real nodes has none")?;
    let host = cluster.host_address;
    let values = json!({"webhook": {"url": format!("https://{host}:{port}")}, "syncer": {"enabled": false}});
    helm_in(testbed, cluster, SECOND, "argosy", "charts/argosy", &values).await?;
    let client = cluster.client().await?;
    // Its CRDs are new there.
    let clusters: Api<WorkloadCluster> = Api::all(client.clone());
    wait_until("WorkloadClusters to be served", PATIENCE, None, || async {
        clusters.list(&Default::default()).await.map(drop).map_err(Into::into)
    })
    .await?;
    let webhook = vec![
        format!("--listen={host}:{port}"),
        format!("--tls-san={host}"),
        "--webhook-configuration=argosy".to_owned(),
        "--drain=0s".to_owned(),
    ];
    let mut syncer = vec![format!("--identity={SECOND_SYNCER}"), format!("--log={LOG}")];
    syncer.extend(control_id.map(|id| format!("--control-id={id}")));
    for (daemon, program, args) in [(WEBHOOK, PROGRAM, webhook), (SECOND_SYNCER, SYNCER, syncer)] {
        let kubeconfig = testbed.layout.cluster_dir(&cluster.name).join(format!("{daemon}.kubeconfig"));
        let token = token(&client, SECOND, program).await?;
        write_file(&kubeconfig, cluster.kubeconfig_with_token(program, &token)?, 0o600)?;
        Daemon::new(&testbed.layout, &cluster.name, daemon, &kept(testbed, program))
            .args([format!("--kubeconfig={}", kubeconfig.display()), format!("--namespace={SECOND}")])
            .args(["--admin-listen=127.0.0.1:0"])
            .args(args)
            .start()?;
    }
    Ok(())
}

/// Ends it, with all that it has installed but its CRDs.
///
/// # Errors
/// Helm or the API server refuses something.
pub async fn stop_second(testbed: &Testbed, cluster: &Cluster) -> Result<()> {
    for daemon in [WEBHOOK, SECOND_SYNCER] {
        process::stop(&testbed.layout, &cluster.name, daemon);
    }
    let helm = testbed.programs.path("helm")?.display().to_string();
    let kubeconfig = cluster.kubeconfig.display().to_string();
    run(&helm, &["uninstall", "argosy", "--namespace", SECOND, "--kubeconfig", &kubeconfig, "--wait"]).await?;
    // Kept for what is still routed.
    let client = cluster.client().await?;
    for policy in ["argosy-fence", "argosy-agents"] {
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings.delete(policy, &Default::default()).await?;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        policies.delete(policy, &Default::default()).await?;
    }
    Ok(())
}
