//! Argo's commands, and what workflows ask for themselves, each tried on a local and on a routed workflow: what is seen of
//! both must be the same.

mod again;
mod archive;
mod cron;
mod end;
mod fields;
mod gates;
mod look;
mod outcome;
pub(crate) mod shapes;
mod side;
pub mod table;
mod waiting;

use anyhow::{Context, Result, ensure};
use futures::future::{BoxFuture, try_join_all};

use crate::world::World;
use side::{Side, sides};

/// A command, or a field of a workflow, and what is done with it. The script answers what was seen.
pub struct Verb {
    pub name: &'static str,
    of: Of,
    run: fn(Side) -> BoxFuture<'static, Result<String>>,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A command of argo's: by the CLI's own access to the API server, and through argo-server.
    Argo,
    /// A command of argo's that argo-server alone carries out.
    Served,
    /// A command that argo-server has no part in.
    Other,
    /// Something that a workflow, or what creates it, asks for itself.
    Field,
}

macro_rules! verb {
    ($of:ident, $name:literal, $run:path) => {
        $crate::verbs::Verb { name: $name, of: $crate::verbs::Of::$of, run: |side| Box::pin($run(side)) }
    };
}
use verb;

/// All but those that need an archive.
pub fn verbs() -> Vec<Verb> {
    [cron::verbs(), fields::verbs(), waiting::verbs(), look::verbs(), end::verbs(), gates::verbs(), again::verbs()]
        .into_iter()
        .flatten()
        .collect()
}

/// Those of them that read nodes and write them.
pub fn node_verbs() -> Vec<Verb> {
    [gates::verbs(), again::verbs()].into_iter().flatten().collect()
}

/// Those that need an archive.
pub fn archive_verbs() -> Vec<Verb> {
    archive::verbs()
}

/// Tries one on all sides at once.
///
/// # Errors
/// They differ, or something else than the command failed; with the side.
pub async fn compare(world: World, verb: &Verb) -> Result<()> {
    let sides = sides(&world, verb.of).await?;
    let tried = sides.into_iter().map(|side| async {
        let name = side.name();
        let seen = (verb.run)(side).await.with_context(|| name.clone())?;
        anyhow::Ok((name, seen))
    });
    let seen = try_join_all(tried).await?;
    let (_, first) = seen.first().context("there is no side")?;
    table::note(verb.name, first);
    let all: Vec<String> = seen.iter().map(|(side, seen)| format!("{side}: {seen}")).collect();
    ensure!(seen.iter().all(|(_, seen)| seen == first), "it is not the same\n{}", all.join("\n"));
    Ok(())
}
