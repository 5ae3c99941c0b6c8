//! `kubectl argosy clusters`: which clusters there are, what is free there, and what runs.

mod row;
mod table;

use anyhow::Result;
use clap::{Args, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;

use self::row::Row;
use crate::connect::ControlArgs;
use crate::join::register;
use crate::workflows::{count, routed};

/// List the workload clusters: whether they are ready, what is free there, how many workflows run and wait
///
/// CPU and MEMORY are free/allocatable, as of AGE ago; free is what no pod has asked for. RUNNING and WAITING count routed
/// workflows that are not completed. Cordoned clusters get no new ones.
#[derive(Debug, Args)]
pub struct ClustersArgs {
    /// Form of the list; json and yaml have an object for each cluster
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    /// With version, labels, consent and what keeps a cluster from being ready
    Wide,
    Json,
    Yaml,
}

/// Runs the verb.
pub async fn run(args: ClustersArgs, control: &ControlArgs) -> Result<()> {
    let control = control.client().await?;
    let clusters = register::list(&control, &ListParams::default()).await?;
    // Who may not list workflows sees the clusters all the same.
    let workflows = match routed(&control, None).await {
        Ok(workflows) => Some(count(&workflows)),
        Err(error) => {
            eprintln!("warning: {error:#}");
            None
        }
    };
    let now = Timestamp::now();
    let rows: Vec<Row> = clusters.iter().map(|cluster| Row::new(cluster, workflows.as_ref(), now)).collect();
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&rows)? + "\n",
        Output::Yaml => serde_saphyr::to_string(&rows)?,
        Output::Table | Output::Wide => {
            let wide = matches!(args.output, Output::Wide);
            table::render(&rows, wide) + &table::elsewhere(&rows, workflows.as_ref())
        }
    };
    crate::print(&text)
}
