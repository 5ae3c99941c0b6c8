//! `suspend` and `resume`: the wish that a routed workflow's copy be suspended. An original is suspended for as long as it
//! is routed, so `argo suspend` finds nothing to do on one; the wish stands in an annotation instead.

use anyhow::{Result, bail};
use argosy_api::names;
use argosy_api::workflow::Workflow;
use clap::Args;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::ask::ask;
use crate::connect::ControlArgs;
use crate::print;

/// Suspend routed workflows in the clusters that they run in
///
/// What runs goes on to its end, and nothing new begins, as with `argo suspend`, which has no effect on a routed workflow:
/// here it is suspended already, for as long as it is routed.
#[derive(Debug, Args)]
pub struct SuspendArgs {
    #[command(flatten)]
    which: Which,
}

/// Let suspended workflows go on
///
/// Steps that wait for an approval are not approved by this: `argo resume` does that, too.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Which {
    /// Names of workflows
    #[arg(required = true, value_name = "WORKFLOW")]
    workflows: Vec<String>,
    /// Their namespace [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Runs `suspend`.
pub async fn suspend(args: SuspendArgs, control: &ControlArgs) -> Result<()> {
    wish(args.which, control, true).await
}

/// Runs `resume`.
pub async fn resume(args: ResumeArgs, control: &ControlArgs) -> Result<()> {
    wish(args.which, control, false).await
}

async fn wish(Which { workflows, namespace }: Which, control: &ControlArgs, suspend: bool) -> Result<()> {
    let (verb, done) = if suspend { ("suspend", "suspended") } else { ("resume", "resumed") };
    let client = control.client().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<Workflow<(), ()>> = Api::namespaced(client, &namespace);
    for name in workflows {
        let what = format!("{verb} workflow {namespace}/{name}");
        let found = ask(&what, api.get_metadata(&name)).await?;
        refuse(&found, verb).or_else(|why| bail!("cannot {what}: {why}"))?;
        let annotations = json!({names::SUSPEND: suspend.then_some("true")});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        ask(&what, api.patch_metadata(&name, &PatchParams::default(), &patch)).await?;
        print(&format!("workflow.argoproj.io/{name} {done}\n"))?;
    }
    Ok(())
}

/// What keeps a workflow from being suspended or resumed this way.
fn refuse(workflow: &impl ResourceExt, verb: &str) -> Result<(), String> {
    match workflow.labels().get(names::CLUSTER).map(String::as_str) {
        None | Some(names::LOCAL) => Err(format!("it runs in this cluster; use `argo {verb}`")),
        Some(_) if workflow.labels().get(names::ARGO_COMPLETED).is_some_and(|done| done == "true") => {
            Err("it has ended".to_owned())
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::routed(&[("kubestellar.io/cluster", "c1")], Ok(()))]
    #[case::waiting(&[("kubestellar.io/cluster", "")], Ok(()))]
    #[case::local(&[], Err("it runs in this cluster; use `argo suspend`"))]
    #[case::local_by_choice(&[("kubestellar.io/cluster", "local")], Err("it runs in this cluster; use `argo suspend`"))]
    #[case::ended(&[("kubestellar.io/cluster", "c1"), ("workflows.argoproj.io/completed", "true")], Err("it has ended"))]
    fn which_can_be_suspended(#[case] labels: &[(&str, &str)], #[case] expected: Result<(), &str>) {
        let mut workflow = Workflow::<(), ()>::default();
        workflow.metadata.labels = Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(refuse(&workflow, "suspend"), expected.map_err(str::to_owned));
    }
}
