//! `kubectl argosy join`: an account in the workload cluster, and what the control cluster needs to use it.

pub mod account;
pub mod pull;
mod push;
mod refuse;
pub mod register;
mod trial;
mod wait;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use argosy_api::SyncMode;
use argosy_api::kubeconfig::Endpoint;
use argosy_api::workload_cluster::{self, SECRET_SUFFIX};
use clap::{ArgGroup, Args, ValueEnum};
use kube::Client;

use self::account::Grants;
use self::register::{Known, Wish};
use crate::ask::cluster_uid;
use crate::connect::{self, ControlArgs};
use crate::member::{self, MemberArgs, WayArgs};
use crate::sharing::Account;

/// Let workflows of the control cluster run in another cluster
///
/// In the workload cluster this makes a namespace, the service account argosy-syncer with the least rights (those of the
/// chart argosy-member; where that chart is installed, its account is used), and asks for a token of 7 days, which the
/// syncer renews every day. In the control cluster it makes the Secret NAME-kubeconfig and the WorkloadCluster NAME, and
/// waits until the syncer has found the cluster and Argo Workflows in it.
///
/// With --pull it is the other way round, for clusters that the control cluster cannot reach: a syncer inside of the
/// workload cluster (chart argosy-member with agent.cluster=NAME) signs in to the control cluster as the account
/// argosy-agent-NAME, which may change no other cluster's workflows. --server and --certificate-authority then say how the
/// control cluster is reached from there.
///
/// Of your kubeconfig only the other cluster's address and CA are handed on, none of your credentials. Joining again
/// changes what is given and leaves the rest. Needs an administrator's rights in both clusters.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("member").required(true).multiple(true).args(["member_context", "member_kubeconfig"]))]
pub struct JoinArgs {
    /// Name of the cluster: what label kubestellar.io/cluster says, and `kubectl argosy clusters` shows
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    member: MemberArgs,
    #[command(flatten)]
    way: WayArgs,
    /// Namespace of Argosy in the control cluster
    #[arg(short, long, default_value = "argosy", help_heading = "Control cluster")]
    namespace: String,
    /// Labels of the WorkloadCluster, which rules select by; added to those it has
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Namespaces of the control cluster whose workflows may run in this one; '*' for every one
    #[arg(long, value_name = "NAMESPACE,…", value_delimiter = ',', value_parser = consent)]
    #[arg(required_unless_present = "renew")]
    namespaces: Vec<String>,
    /// Let the syncer create a workflow's namespace where it is missing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    create_namespaces: Option<bool>,
    /// What of the objects that workflows refer to may be copied to the cluster. For each kind the syncer's account gets the
    /// right to read and write such objects there in every namespace; for secrets the chart argosy has to allow it as well
    /// (syncer.copySecrets)
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_enum)]
    copy: Option<Vec<Copied>>,
    /// A syncer inside of the workload cluster serves it; nobody needs a way into the cluster
    #[arg(long, conflicts_with = "renew")]
    pull: bool,
    /// Only get a new token for a cluster that has joined, such as one whose credentials have expired
    #[arg(long, conflicts_with_all = ["labels", "namespaces", "create_namespaces", "copy", "server", "certificate_authority"])]
    renew: bool,
    /// Take over objects of the same names that `join` did not make
    #[arg(long)]
    force: bool,
    /// How long to wait until the cluster is ready
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Do not wait until the cluster is ready
    #[arg(long)]
    no_wait: bool,
}

const EXAMPLES: &str = "\
Examples:
  kubectl argosy join paris --member-context paris --namespaces science,finance --labels region=eu

  # A cluster with a kubeconfig of its own, for every namespace
  kubectl argosy join rome --member-kubeconfig rome.yaml --namespaces '*' --create-namespaces

  # A cluster that the syncer reaches at another address than you do
  kubectl argosy join kind --member-context kind-wec --namespaces '*' --server https://172.18.0.3:6443

  # A cluster that the control cluster cannot reach; the syncer inside of it comes with the chart
  helm install argosy-member charts/argosy-member -n argosy --create-namespace --kube-context oslo --set agent.cluster=oslo
  kubectl argosy join oslo --pull --member-context oslo --namespaces science --server https://control.example.com:6443

  # A new token, after the cluster could not be reached for 7 days
  kubectl argosy join paris --member-context paris --renew";

/// Kinds of objects that may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Copied {
    Templates,
    ConfigMaps,
    Secrets,
    None,
}

/// These kinds, as the WorkloadCluster says it.
fn consented(kinds: &[Copied]) -> workload_cluster::Copy {
    workload_cluster::Copy {
        templates: kinds.contains(&Copied::Templates),
        config_maps: kinds.contains(&Copied::ConfigMaps),
        secrets: kinds.contains(&Copied::Secrets),
    }
}

/// A label as `KEY=VALUE`; whether Kubernetes takes it, the API server says.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn consent(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if text == "*" || is_name { Ok(text.to_owned()) } else { Err("expected a namespace's name, or '*'".to_owned()) }
}

/// Both clusters, as their administrator.
pub struct Sides {
    control: Client,
    control_uid: String,
    member: Client,
    member_uid: String,
}

/// Runs the verb.
pub async fn run(args: JoinArgs, control: &ControlArgs) -> Result<()> {
    refuse::name(&args.name)?;
    let kubeconfig = args.member.kubeconfig(control)?;
    // What the syncer could not use needs no request.
    let context = args.member.member_context.as_deref();
    let read = |file: &str| std::fs::read(file);
    let endpoint = match (args.renew, args.pull) {
        (true, _) => None,
        (false, false) => Some(member::endpoint(&kubeconfig, context, &args.way, read)?),
        (false, true) => {
            let kubeconfig = connect::read(control.kubeconfig.as_deref())?;
            let kubeconfig =
                kubeconfig.context("there is no kubeconfig of the control cluster: give one with --kubeconfig")?;
            Some(member::endpoint(&kubeconfig, control.context.as_deref(), &args.way, read)?)
        }
    };
    let member = args.member.client(kubeconfig).await?;
    let control = control.client().await?;
    let sides = Sides {
        control_uid: cluster_uid(&control, "the control cluster").await?,
        member_uid: cluster_uid(&member, "the workload cluster").await?,
        control,
        member,
    };
    let known = Known::read(&sides.control, &args.namespace, &args.name).await?;
    refuse::clusters(&args.name, &known, &sides.control_uid, &sides.member_uid)?;
    refuse::strangers(&args.name, &known, args.force)?;
    if !args.renew {
        refuse::mode(&args.name, &known, args.pull)?;
    }
    match endpoint {
        Some(endpoint) => {
            warn_of_loopback(&endpoint);
            match args.pull {
                false => push::join(&args, &sides, &known, &endpoint).await?,
                true => pull::join(&args, &sides, &known, &endpoint).await?,
            }
        }
        None if known.is_pull() => pull::renew(&args, &sides).await?,
        None => push::renew(&args, &sides, &known).await?,
    }
    if !args.no_wait {
        wait::until_ready(&sides.control, &args.name, args.timeout).await?;
    }
    let done = if args.renew { "renewed" } else { "joined" };
    crate::print(&format!("workloadcluster.argosy.dev/{} {done}\n", args.name))
}

fn warn_of_loopback(endpoint: &Endpoint) {
    if member::is_loopback(&endpoint.server) {
        eprintln!(
            "warning: {} means the machine that asks, so the syncer may not reach the cluster by it; say with --server \
             where the syncer does",
            endpoint.server
        );
    }
}

/// Makes the account in the workload cluster; answers what the WorkloadCluster is to be.
async fn make_account(args: &JoinArgs, sides: &Sides, known: &Known, mode: SyncMode) -> Result<Wish> {
    let (name, namespace) = (&args.name, &args.member.member_namespace);
    let before = known.cluster.as_ref().map(|cluster| &cluster.spec);
    let create_namespaces = args.create_namespaces.or(before.map(|spec| spec.create_namespaces));
    // What was not asked for is not granted, and the WorkloadCluster says the same.
    let kinds = args.copy.as_deref().map(consented);
    let copy = kinds.or(before.map(|spec| spec.copy.clone())).unwrap_or(Grants::NONE.copy);
    refuse::secrets(mode, &copy)?;
    let grants = Grants { create_namespaces: create_namespaces.unwrap_or_default(), copy: copy.clone() };
    // Another WorkloadCluster that signs in with the same account keeps the rights it needs.
    let others = Account { member: &sides.member, namespace }.others(&sides.control, &args.namespace, name).await?;
    let grants = others.iter().fold(grants, |grants, other| grants.and(&other.spec));
    let agent = (mode == SyncMode::Pull).then_some(name.as_str());
    let account = account::objects(namespace, &sides.control_uid, &grants, agent)?;
    account::apply(&sides.member, Some(namespace), &account, &sides.control_uid, args.force).await?;
    let labels: BTreeMap<String, String> = args.labels.iter().cloned().collect();
    Ok(Wish { mode, labels, namespaces: args.namespaces.clone(), create_namespaces, copy })
}

/// Name of the Secret that `join` makes.
pub fn secret_name(cluster: &str) -> String {
    format!("{cluster}{SECRET_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rstest::rstest;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        join: JoinArgs,
    }

    fn parse(args: &str) -> Result<JoinArgs, String> {
        let parsed = Cli::try_parse_from(format!("x c {args}").split_whitespace());
        parsed.map(|cli| cli.join).map_err(|error| error.to_string().lines().take(2).collect::<Vec<_>>().join(" "))
    }

    #[rstest]
    #[case::nothing("", "required arguments were not provided")]
    #[case::no_consent("--member-context m", "--namespaces")]
    #[case::consent_to_nothing("--member-context m --namespaces a,", "expected a namespace's name, or '*'")]
    #[case::no_member("--namespaces a", "--member-context")]
    #[case::a_label_without_value("--member-context m --namespaces a --labels env", "expected KEY=VALUE")]
    #[case::renew_changes_nothing_else("--member-context m --renew --namespaces a", "cannot be used with")]
    fn what_the_command_line_refuses(#[case] args: &str, #[case] expected: &str) {
        let error = parse(args).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case("templates,configMaps", [true, true, false])]
    #[case("secrets", [false, false, true])]
    #[case("none", [false; 3])]
    fn what_may_be_copied(#[case] kinds: &str, #[case] expected: [bool; 3]) {
        let parsed = parse(&format!("--member-context m --namespaces a --copy {kinds}")).unwrap();
        let copy = consented(&parsed.copy.unwrap());
        assert_eq!([copy.templates, copy.config_maps, copy.secrets], expected);
    }

    #[rstest]
    #[case("", None)]
    #[case("--create-namespaces", Some(true))]
    #[case("--create-namespaces=false", Some(false))]
    fn creating_namespaces_is_left_alone_where_it_is_not_said(#[case] args: &str, #[case] expected: Option<bool>) {
        let parsed = parse(&format!("--member-kubeconfig f --namespaces a,b --labels k=v,l= {args}")).unwrap();
        assert_eq!(parsed.create_namespaces, expected);
        assert_eq!(parsed.namespaces, ["a", "b"]);
        assert_eq!(parsed.labels, [("k".into(), "v".into()), ("l".into(), String::new())]);
    }
}
