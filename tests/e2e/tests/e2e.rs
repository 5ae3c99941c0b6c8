//! Brings up a testbed for each kind of nodes in turn, runs the cases in it, and ends it.
//!
//! `cargo test --release -p e2e` runs all; further arguments after `--` select cases as with any test
//! (`-- played::` or `-- "30 s"`, `--list`). Real nodes need root, and a database PostgreSQL; elsewhere their cases count
//! as ignored.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use e2e::cases::{self, Case};
use e2e::faults::{self, Fault};
use e2e::fence;
use e2e::used;
use e2e::verbs::{self, Verb};
use e2e::world::World;
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::layout::Nodes;
use testbed::{CrdFlavour, Options, Progress, Testbed, argosy, demo, prerequisites};
use tokio::runtime::Runtime;

/// A testbed and what is run in it.
struct Stage {
    options: Options,
    /// Whether Argosy is installed whole, or only its policies.
    whole: bool,
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Arguments) -> Result<bool> {
    let runtime = Arc::new(Runtime::new().context("starting tokio")?);
    let mut fine = true;
    for stage in stages() {
        let groups = stage.groups(&runtime, None);
        let is_wanted = groups.iter().flatten().any(|trial| is_selected(args, trial));
        let impossible = stage.impossible();
        if let (true, Some(why)) = (is_wanted && !args.list, &impossible) {
            eprintln!("e2e: the cases on {} are left out: {why}", stage.options.name);
        }
        let impossible = impossible.is_some();
        if args.list || impossible {
            let trials = groups.into_iter().flatten().map(|trial| trial.with_ignored_flag(impossible)).collect();
            let _ = libtest_mimic::run(args, trials);
            continue;
        }
        if is_wanted {
            fine &= stage.run(args, &runtime)?;
        }
    }
    Ok(fine)
}

/// As libtest selects.
fn is_selected(args: &Arguments, trial: &Trial) -> bool {
    let matches = |filter: &String| if args.exact { trial.name() == filter } else { trial.name().contains(filter) };
    args.filter.as_ref().is_none_or(matches) && !args.skip.iter().any(matches)
}

fn stages() -> Vec<Stage> {
    let stage = |name: &str, nodes, crds, whole: bool| {
        let wecs = Some(match nodes {
            _ if !whole => 0,
            Nodes::Played => 3,
            Nodes::Real => 2,
        });
        Stage {
            options: Options {
                nodes: Some(nodes),
                wecs,
                argosy: whole,
                crds,
                argo_server: whole,
                artifacts: whole && nodes == Nodes::Real,
                ..Options::named(name)
            },
            whole,
        }
    };
    let mut played = stage("e2e-played", Nodes::Played, CrdFlavour::Full, true);
    played.options.links = true;
    let mut with_database = stage("e2e-database", Nodes::Played, CrdFlavour::Minimal, true);
    with_database.options.database = true;
    with_database.options.artifacts = true;
    with_database.options.wecs = Some(1);
    vec![
        stage("e2e-policies-minimal", Nodes::Played, CrdFlavour::Minimal, false),
        stage("e2e-policies-full", Nodes::Played, CrdFlavour::Full, false),
        played,
        with_database,
        stage("e2e-real", Nodes::Real, CrdFlavour::Minimal, true),
    ]
}

impl Stage {
    fn run(&self, args: &Arguments, runtime: &Arc<Runtime>) -> Result<bool> {
        let testbed = runtime.block_on(self.up())?;
        let world = runtime.block_on(World::of(testbed.clone()))?;
        let mut fine = true;
        for (trials, at_a_time) in self.groups(runtime, Some(&world)).into_iter().zip([4, 1]) {
            let args =
                Arguments { test_threads: Some(args.test_threads.unwrap_or(at_a_time).min(at_a_time)), ..args.clone() };
            fine &= !libtest_mimic::run(&args, trials).has_failed();
        }
        let is_all = args.filter.is_none() && args.skip.is_empty();
        if is_all
            && self.whole
            && self.options.links
            && let Err(error) = runtime.block_on(used::check(&world))
        {
            eprintln!("e2e: {error:#}");
            fine = false;
        }
        let workspace = testbed.layout.workspace();
        if let Err(error) = verbs::table::check(workspace).and_then(|()| faults::table::write(workspace)) {
            eprintln!("e2e: {error:#}");
            fine = false;
        }
        if !fine {
            eprintln!("e2e: logs are in {}", testbed.layout.logs().display());
        }
        // For whoever looks into what failed, or tries a case again and again.
        if std::env::var_os("E2E_KEEP").is_none() {
            runtime.block_on(testbed.down())?;
        }
        Ok(fine)
    }

    /// Why it cannot be had on this machine.
    fn impossible(&self) -> Option<String> {
        let is_real = self.options.nodes == Some(Nodes::Real);
        if is_real && prerequisites::possible_nodes() != Nodes::Real {
            return Some("real nodes need root, and Debian's packages".to_owned());
        }
        if self.options.database { prerequisites::no_database() } else { None }
    }

    async fn up(&self) -> Result<Testbed> {
        let testbed = Testbed::up(&self.options, Progress::new()).await?;
        if self.whole {
            demo::prepare(&testbed).await?;
        } else {
            argosy::install_policies(&testbed).await?;
            fence::wait_until_in_force(&testbed.control().client().await?).await?;
        }
        Ok(testbed)
    }

    /// Cases that may run beside each other, and those that may not. Without a world, for their names only.
    fn groups(&self, runtime: &Arc<Runtime>, world: Option<&World>) -> [Vec<Trial>; 2] {
        let trial = |name: String, run: Box<dyn FnOnce(World) -> Result<()> + Send>| {
            let world = world.cloned();
            Trial::test(format!("{}::{name}", self.name()), move || {
                let world = world.ok_or("there is no testbed")?;
                run(world).map_err(|error| Failed::from(format!("{error:#}")))
            })
        };
        if !self.whole {
            let trials = fence::cases().into_iter().map(|case| {
                let runtime = Arc::clone(runtime);
                trial(case.name.to_owned(), Box::new(move |world| runtime.block_on(fence::run(case, world.control))))
            });
            return [trials.collect(), Vec::new()];
        }
        let of_case = |case: Case| {
            let runtime = Arc::clone(runtime);
            trial(case.name.to_owned(), Box::new(move |world| runtime.block_on((case.run)(world))))
        };
        let demonstrated = demo::scenarios(self.options.artifacts).into_iter().map(|scenario| {
            let runtime = Arc::clone(runtime);
            trial(
                scenario.name.to_owned(),
                Box::new(move |world| {
                    let ran = runtime.block_on(demo::try_out(&world.testbed, &scenario))?;
                    ran.difference
                        .map_or(Ok(()), |difference| Err(anyhow::anyhow!("{difference}; {}", ran.observed.story())))
                }),
            )
        });
        let of_verb = |verb: Verb| {
            let runtime = Arc::clone(runtime);
            let name = format!("the same of a local and a routed workflow: {}", verb.name);
            trial(name, Box::new(move |world| runtime.block_on(verbs::compare(world, &verb))))
        };
        if self.options.database {
            // What the commands do must not depend on where Argo keeps the nodes.
            let tried = verbs::archive_verbs().into_iter().chain(verbs::node_verbs()).map(of_verb);
            let [peaceful, disruptive] = cases::offloaded();
            let peaceful = tried.chain(peaceful.into_iter().map(&of_case)).collect();
            return [peaceful, disruptive.into_iter().map(of_case).collect()];
        }
        let of_fault = |fault: Fault| {
            let runtime = Arc::clone(runtime);
            let name = format!("faults: {}", fault.name);
            trial(name, Box::new(move |world| runtime.block_on((fault.run)(world)))).with_ignored_flag(!fault.is_quick)
        };
        let is_played = self.options.nodes == Some(Nodes::Played);
        let compared = if is_played { verbs::verbs() } else { Vec::new() }.into_iter().map(of_verb);
        let stored = if self.options.artifacts { cases::stored() } else { Vec::new() };
        let peaceful = stored.into_iter().chain(cases::peaceful()).map(&of_case);
        let peaceful = compared.chain(demonstrated).chain(peaceful).collect();
        let mut alone: Vec<Trial> = cases::disruptive().into_iter().map(&of_case).collect();
        if !is_played {
            alone.extend(cases::real().into_iter().map(&of_case));
        }
        if is_played {
            alone.extend(cases::played().into_iter().map(&of_case));
            alone.extend(faults::all().into_iter().map(of_fault));
            alone.extend(cases::sized().into_iter().map(of_case));
        }
        [peaceful, alone]
    }

    fn name(&self) -> &str {
        self.options.name.trim_start_matches("e2e-")
    }
}
