//! A testbed as a whole: up, open, down.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::argo::{self, CrdFlavour};
use crate::argosy;
use crate::artifacts;
use crate::cluster::{Cluster, played, real};
use crate::database;
use crate::layout::{DEFAULT_NAME, Layout, Nodes, State};
use crate::prerequisites;
use crate::process;
use crate::programs::{Needs, Programs};
use crate::progress::Progress;
use crate::slot;

/// What kind of testbed is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name; testbeds of different names run side by side.
    pub name: String,
    /// What its nodes are made of; `None`: what it has already, or real ones where this machine can have them.
    pub nodes: Option<Nodes>,
    /// How many workload execution clusters it has; `None`: what it has already, or 2.
    pub wecs: Option<u8>,
    /// Whether Argosy is installed.
    pub argosy: bool,
    /// Which of Argo's CRDs are installed.
    pub crds: CrdFlavour,
    /// Whether argo-server runs in the control cluster.
    pub argo_server: bool,
    /// Whether Argo has a database: it archives workflows there, and each workload cluster's keeps all nodes in it, as
    /// it does by itself with those of large workflows only; then argo-server runs in these clusters, too. Played nodes
    /// only.
    pub database: bool,
    /// Whether there is a place for artifacts that all clusters share; see [`crate::artifacts`]. One that is there stays.
    pub artifacts: bool,
    /// Whether Argosy's programs reach API servers through [`crate::links`]. Played nodes only.
    pub links: bool,
}

impl Options {
    /// The defaults, under a name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: None,
            wecs: None,
            argosy: true,
            crds: CrdFlavour::default(),
            argo_server: false,
            database: false,
            artifacts: false,
            links: false,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::named(DEFAULT_NAME)
    }
}

/// A testbed that is up.
#[derive(Clone)]
pub struct Testbed {
    /// Its folders.
    pub layout: Layout,
    /// What is remembered of it.
    pub state: State,
    /// The programs that it runs.
    pub programs: Programs,
    /// Where its steps are reported.
    pub progress: Progress,
    control: Cluster,
    wecs: Vec<Cluster>,
}

impl Testbed {
    /// Brings a testbed up, or completes one that is up in part. Quick, and changes nothing, if all of it runs.
    ///
    /// # Errors
    /// The machine lacks something (one message names all of it), the testbed is up with other nodes, or a step fails.
    pub async fn up(options: &Options, progress: Progress) -> Result<Self> {
        let layout = Layout::of_this_checkout(&options.name)?;
        let known = known_state(&layout)?;
        let nodes = nodes(options, known.as_ref());
        let has_artifacts = options.artifacts || known.as_ref().is_some_and(artifacts::is_there);
        let wecs = options.wecs.or(known.as_ref().map(|state| state.wecs)).unwrap_or(2);
        fits_what_is_up(&layout, known.as_ref(), nodes, wecs)?;
        ensure!(!options.database || nodes == Nodes::Played, "a testbed with a database has played nodes");
        ensure!(!options.links || nodes == Nodes::Played, "a testbed with links that fail has played nodes");
        prerequisites::ensure(nodes, options.database, &progress).await?;
        let needs = Needs { nodes, artifacts: has_artifacts };
        let programs = Programs::prepare(&layout, needs, &progress).await?;

        let _lock = layout.lock()?;
        // Building may have taken long: another command may have been here.
        let known = known_state(&layout)?;
        fits_what_is_up(&layout, known.as_ref(), nodes, wecs)?;
        let slot = match &known {
            Some(known) => known.slot,
            None => fresh_slot(&layout).await.context("clearing what an earlier run left")?,
        };
        let ports = known.map(|state| state.ports).unwrap_or_default();
        let mut state = State { nodes, wecs, slot, argosy: options.argosy, ports, complete: false };
        state.save(&layout)?;

        let clusters = match nodes {
            Nodes::Real => real::up(&layout, &state, &programs, &progress).await?,
            Nodes::Played => played::up(&layout, &mut state, &programs, &progress).await?,
        };
        state.save(&layout)?;
        let database = match options.database {
            true => Some(database::start(&layout, &mut state, &progress).await?),
            false => None,
        };
        let artifacts = match clusters.first().filter(|_| has_artifacts) {
            Some(control) => {
                Some(artifacts::start(&layout, &mut state, &programs, control.host_address, &progress).await?)
            }
            None => None,
        };
        let wanted = argo::Wanted { crds: options.crds, database: database.as_ref(), artifacts: artifacts.as_ref() };
        let installs = clusters.iter().map(|cluster| argo::install(&layout, &programs, cluster, &wanted, &progress));
        futures::future::try_join_all(installs).await?;
        let mut testbed = Self::assemble(layout, state, programs, progress, clusters)?;
        if options.argo_server {
            argo::server::start(&mut testbed).await?;
        }
        if options.database {
            argo::server::start_beside_workflows(&mut testbed).await?;
        }
        if options.argosy {
            argosy::install(&mut testbed, options.links).await?;
        }
        testbed.state.complete = true;
        testbed.state.save(&testbed.layout)?;
        Ok(testbed)
    }

    /// What the nodes of such a testbed are made of, or would be.
    ///
    /// # Errors
    /// What is remembered of it cannot be read.
    pub fn nodes(options: &Options) -> Result<Nodes> {
        let known = known_state(&Layout::of_this_checkout(&options.name)?)?;
        Ok(nodes(options, known.as_ref()))
    }

    /// A testbed that is up already.
    ///
    /// # Errors
    /// It is not up, or did not come up wholly.
    pub async fn open(name: &str, progress: Progress) -> Result<Self> {
        let layout = Layout::of_this_checkout(name)?;
        let Some(state) = State::load(&layout)? else {
            bail!("testbed {name:?} is not up; `testbed up --name {name}` brings it up")
        };
        ensure!(state.complete, "testbed {name:?} did not come up wholly; `testbed up --name {name}` completes it");
        let clusters = match state.nodes {
            Nodes::Real => real::open(&layout, &state)?,
            Nodes::Played => played::open(&layout, &state)?,
        };
        let needs = Needs { nodes: state.nodes, artifacts: artifacts::is_there(&state) };
        let programs = Programs::prepare(&layout, needs, &progress).await?;
        Self::assemble(layout, state, programs, progress, clusters)
    }

    fn assemble(
        layout: Layout,
        state: State,
        programs: Programs,
        progress: Progress,
        clusters: Vec<Cluster>,
    ) -> Result<Self> {
        let mut clusters = clusters.into_iter();
        let control = clusters.next().context("a testbed has a control cluster")?;
        Ok(Self { layout, state, programs, progress, control, wecs: clusters.collect() })
    }

    /// The cluster where users create their workflows.
    pub fn control(&self) -> &Cluster {
        &self.control
    }

    /// The workload execution clusters, `cluster1` first.
    pub fn wecs(&self) -> &[Cluster] {
        &self.wecs
    }

    /// All clusters, the control cluster first.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.control).chain(&self.wecs)
    }

    /// The cluster of that name.
    ///
    /// # Errors
    /// There is none; with the names of those that there are.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        let names = || self.clusters().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ");
        self.clusters()
            .find(|cluster| cluster.name == name)
            .with_context(|| format!("testbed {:?} has no cluster {name:?}, only {}", self.layout.name(), names()))
    }

    /// Whether all clusters share a place for artifacts.
    pub fn has_artifacts(&self) -> bool {
        artifacts::is_there(&self.state)
    }

    /// Where argo-server is reached, if it was asked for.
    ///
    /// # Errors
    /// The control cluster has no address.
    pub fn argo_server(&self) -> Result<Option<String>> {
        argo::server::url(self)
    }

    /// As [`down`].
    ///
    /// # Errors
    /// Something of it does not go away.
    pub async fn down(self) -> Result<()> {
        down(&self.layout, &self.progress).await.map(drop)
    }
}

/// What is remembered of a testbed, unless its slot is no longer its own (after a restart of the machine, say): then
/// nothing of it is worth building upon.
fn known_state(layout: &Layout) -> Result<Option<State>> {
    let Some(state) = State::load(layout)? else { return Ok(None) };
    Ok(slot::find(layout)?.contains(&state.slot).then_some(state))
}

fn nodes(options: &Options, known: Option<&State>) -> Nodes {
    options.nodes.or(known.map(|state| state.nodes)).unwrap_or_else(prerequisites::possible_nodes)
}

fn fits_what_is_up(layout: &Layout, known: Option<&State>, nodes: Nodes, wecs: u8) -> Result<()> {
    let Some(known) = known else { return Ok(()) };
    let name = layout.name();
    let advice = format!("end it first (`testbed down --name {name}`), or give another `--name`");
    ensure!(known.nodes == nodes, "testbed {name:?} is up with {} nodes; {advice}", known.nodes);
    ensure!(
        known.wecs <= wecs,
        "testbed {name:?} is up with {} workload clusters and cannot lose any; {advice}",
        known.wecs
    );
    Ok(())
}

/// A slot for a testbed that starts anew, with nothing in it.
async fn fresh_slot(layout: &Layout) -> Result<u8> {
    clear(layout).await?;
    real::remove_dir(&layout.logs())?;
    let slot = slot::acquire(layout)?;
    if slot::is_root() {
        // Taken over from a testbed whose folder was deleted, it may still have its network.
        real::remove(slot).await?;
    }
    Ok(slot)
}

/// Ends everything of a testbed and removes what it kept, save its logs; also what a killed run left. Answers whether
/// there was anything.
///
/// # Errors
/// Something of it does not go away; with its name.
pub async fn down(layout: &Layout, progress: &Progress) -> Result<bool> {
    let _lock = layout.lock()?;
    let step = progress.step(format!("ending testbed {:?}", layout.name()));
    let anything = clear(layout).await?;
    if anything {
        step.done("");
    } else {
        step.skip();
    }
    Ok(anything)
}

async fn clear(layout: &Layout) -> Result<bool> {
    let dir = layout.dir().to_owned();
    let ended = tokio::task::spawn_blocking(move || process::stop_all(&dir)).await.context("ending processes")?;
    let mut anything = ended > 0;
    let mut slots = slot::find(layout)?;
    // The slots' folder may have gone with /run; the state names the slot, too.
    if let Ok(Some(state)) = State::load(layout)
        && !slots.contains(&state.slot)
        && slot::is_free(state.slot)?
    {
        slots.push(state.slot);
    }
    for slot in slots {
        if slot::is_root() {
            anything |= real::remove(slot).await?;
        } else {
            real::remove_dir(&slot::runtime_dir().join(slot.to_string()))?;
        }
        slot::release(slot)?;
    }
    for folder in ["clusters", "kubeconfig"] {
        let folder = layout.dir().join(folder);
        anything |= folder.exists();
        real::remove_dir(&folder)?;
    }
    let state = layout.state_file();
    if state.exists() {
        anything = true;
        std::fs::remove_file(&state).with_context(|| format!("removing {}", state.display()))?;
    }
    Ok(anything)
}

/// Which daemons run, by cluster: for `status`.
pub(crate) fn running(layout: &Layout) -> BTreeMap<String, Vec<String>> {
    let mut by_cluster: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in process::daemons(layout) {
        by_cluster.entry(found.cluster).or_default().push(found.daemon);
    }
    by_cluster
}
