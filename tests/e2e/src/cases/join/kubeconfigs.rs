//! What join takes of an administrator's kubeconfig, and what it refuses of it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::{MEMBER, and_leave, argosy, nothing_left, refusal, run, runs};
use crate::world::World;

/// The administrator's kubeconfig of [`MEMBER`], changed, in a file of its own.
fn changed(world: &World, name: &str, change: impl Fn(&mut Value)) -> Result<String> {
    let member = &world.testbed.wecs()[MEMBER];
    let mut kubeconfig = serde_json::to_value(Kubeconfig::read_from(&member.kubeconfig)?)?;
    change(&mut kubeconfig);
    file(world, &format!("{name}.yaml"), kubeconfig.to_string().as_bytes())
}

/// Writes a file that goes with the testbed.
fn file(world: &World, name: &str, content: &[u8]) -> Result<String> {
    let path = world.testbed.layout.cluster_dir(&world.testbed.wecs()[MEMBER].name).join(format!("e2e-{name}"));
    std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}

pub(super) async fn refused(world: World) -> Result<()> {
    type Spoil = fn(&mut Value);
    let variants: [(&str, &str, Spoil); 5] = [
        ("plain", "the syncer's token would travel in the clear", |kubeconfig| {
            kubeconfig["clusters"][0]["cluster"]["server"] = json!("http://127.0.0.1:1");
        }),
        ("insecure", "insecure-skip-tls-verify is refused", |kubeconfig| {
            let server = kubeconfig["clusters"][0]["cluster"]["server"].take();
            kubeconfig["clusters"][0]["cluster"] = json!({"server": server, "insecure-skip-tls-verify": true});
        }),
        ("proxy", "proxy-url \"http://127.0.0.1:1\" is refused", |kubeconfig| {
            kubeconfig["clusters"][0]["cluster"]["proxy-url"] = json!("http://127.0.0.1:1");
        }),
        ("no-ca", "cannot read the CA's certificate \"/nowhere/ca.crt\"", |kubeconfig| {
            let server = kubeconfig["clusters"][0]["cluster"]["server"].take();
            kubeconfig["clusters"][0]["cluster"] =
                json!({"server": server, "certificate-authority": "/nowhere/ca.crt"});
        }),
        ("provider", "auth plugin is not supported", |kubeconfig| {
            kubeconfig["users"][0]["user"] = json!({"auth-provider": {"name": "azure", "config": {}}});
        }),
    ];
    let account = ["--member-namespace", "argosy-refused", "--namespaces", "*", "--create-namespaces"];
    for (name, expected, change) in variants {
        let kubeconfig = changed(&world, name, change)?;
        let args = [&["join", "refused", "--member-kubeconfig", &kubeconfig], &account[..]].concat();
        refusal(run(&world, &args), expected).await.with_context(|| format!("kubeconfig {name}"))?;
    }
    let account = account.join(" ");
    let by_hand = &world.testbed.wecs()[MEMBER].name;
    let stays = format!("WorkloadCluster {by_hand} is there already, and `kubectl argosy join` did not make it");
    for (name, expected) in [("local", "that means the control cluster itself"), (by_hand, &stays)] {
        refusal(argosy(&world, "join", name, &account), expected).await?;
    }
    refusal(argosy(&world, "join", "refused", "--renew"), "there is no WorkloadCluster refused").await?;
    nothing_left(&world, "refused", "argosy-refused").await?;
    let namespaces: Api<Namespace> = Api::all(world.wecs[MEMBER].clone());
    ensure!(namespaces.get_opt("argosy-refused").await?.is_none(), "the account's namespace is there");
    Ok(())
}

pub(super) async fn administrators_way(world: World) -> Result<()> {
    let user = serde_json::to_value(Kubeconfig::read_from(&world.testbed.wecs()[MEMBER].kubeconfig)?)?;
    let pem = |pointer: &str| -> Result<String> {
        let data: ByteString = serde_json::from_value(user.pointer(pointer).context(pointer.to_owned())?.clone())?;
        Ok(String::from_utf8(data.0)?)
    };
    let certificate = pem("/users/0/user/client-certificate-data")?;
    let key = pem("/users/0/user/client-key-data")?;
    let ca = file(&world, "ca.crt", pem("/clusters/0/cluster/certificate-authority-data")?.as_bytes())?;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"clientCertificateData": certificate, "clientKeyData": key},
    });
    let credential = file(&world, "credential.json", credential.to_string().as_bytes())?;
    let files = json!({
        "client-certificate": file(&world, "admin.crt", certificate.as_bytes())?,
        "client-key": file(&world, "admin.key", key.as_bytes())?,
    });
    let exec = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "cat", "args": [credential],
    }});
    let joined = async {
        for (name, user) in [("exec", exec), ("files", files)] {
            let kubeconfig = changed(&world, name, |kubeconfig| {
                let cluster = &mut kubeconfig["clusters"][0]["cluster"];
                *cluster = json!({"server": cluster["server"], "certificate-authority": ca});
                kubeconfig["users"][0]["user"] = user.clone();
            })?;
            let args = ["join", "nancy", "--member-kubeconfig", &kubeconfig, "--namespaces", "default"];
            run(&world, &[&args[..], &["--member-namespace", "argosy-nancy"]].concat()).await?;
            let kept = world.way_to("nancy").await?;
            for not_handed_on in ["exec", "client-", "e2e-"] {
                ensure!(!kept.contains(not_handed_on), "{name}: {not_handed_on:?} is in the Secret");
            }
            ensure!(kept.contains("certificate-authority-data"), "{name}: the CA is not in the Secret");
        }
        runs(&world, "default", "nancy").await
    }
    .await;
    and_leave(&world, "nancy", "--member-namespace argosy-nancy", joined).await
}
