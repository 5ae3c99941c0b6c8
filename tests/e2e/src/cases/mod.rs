//! What Argosy must do, case by case, on a testbed with two workload clusters.

mod bad_input;
mod charts;
mod creators;
mod dependencies;
mod disconnected;
mod guard;
mod harmless;
mod hostile;
mod join;
mod life;
pub(crate) mod live_logs;
mod load;
mod never_local;
mod offloaded;
pub(crate) mod outage;
mod placement;
mod profile;
mod results;
pub(crate) mod rights;
mod ruled;
pub(crate) mod scale;
mod skew;
mod steady;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::world::World;

/// One case: a name that states the behaviour, and what shows it.
pub struct Case {
    pub name: &'static str,
    pub run: fn(World) -> BoxFuture<'static, Result<()>>,
}

macro_rules! case {
    ($name:literal, $run:path) => {
        $crate::cases::Case { name: $name, run: |world| Box::pin($run(world)) }
    };
}
pub(crate) use case;

/// Cases that leave Argosy alone and may run beside each other.
pub fn peaceful() -> Vec<Case> {
    [
        // Those that wait for the clock first, so that the others run beside them.
        creators::cases(),
        bad_input::cases(),
        dependencies::cases(),
        harmless::cases(),
        hostile::cases(),
        join::cases(),
        life::cases(),
        live_logs::cases(),
        placement::cases(),
        profile::cases(),
        rights::cases(),
        steady::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Cases that take Argosy's programs or clusters out of use: one at a time.
pub fn disruptive() -> Vec<Case> {
    [outage::cases(), guard::cases()].into_iter().flatten().collect()
}

/// Cases about what only pods of Argosy's own show, on real nodes: one at a time.
pub fn real() -> Vec<Case> {
    charts::cases()
}

/// Cases about what workflows leave behind, on a testbed with a place for it; they may run beside the peaceful ones.
pub fn stored() -> Vec<Case> {
    results::cases()
}

/// Cases about workflows whose nodes are in a database, on a testbed that has one: those that may run beside each other,
/// and those that may not.
pub fn offloaded() -> [Vec<Case>; 2] {
    let peaceful = offloaded::peaceful().into_iter().chain(results::archived());
    [peaceful.collect(), offloaded::disruptive()]
}

/// Cases that look at what only the processes of played clusters show, or take too long on real ones: one at a time.
pub fn played() -> Vec<Case> {
    [disconnected::cases(), never_local::cases()].into_iter().flatten().collect()
}

/// Cases that only played nodes can bear, for they change their sizes or are many, and those about the full CRDs, which are
/// theirs: one at a time, after all others.
pub fn sized() -> Vec<Case> {
    [skew::cases(), load::cases(), scale::cases()].into_iter().flatten().collect()
}
