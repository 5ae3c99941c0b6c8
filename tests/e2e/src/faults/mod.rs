//! What becomes of workflows while something fails: each thing that can fail, in each way, and five deeds meanwhile.

mod certificates;
mod consistency;
mod controls;
mod credentials;
mod deeds;
mod logs;
mod lost;
mod outage;
mod syncers;
pub mod table;

use std::time::Instant;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use testbed::argosy;

use crate::cases::Case;
use crate::world::World;
use deeds::Subjects;
use outage::{HOW, How, WHAT, What};

/// Something that fails in some way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    what: What,
    how: How,
}

/// Something to be tried.
pub struct Fault {
    pub name: String,
    /// Whether it is short enough to be tried each time.
    pub is_quick: bool,
    pub run: Box<dyn FnOnce(World) -> BoxFuture<'static, Result<()>> + Send>,
}

/// All that is tried.
pub fn all() -> Vec<Fault> {
    let of_cell = |cell: Cell| Fault {
        name: cell.name(),
        is_quick: cell.is_quick(),
        run: Box::new(move |world| Box::pin(cell.run(world))),
    };
    let of_case = |is_quick| {
        move |case: Case| Fault { name: case.name.to_owned(), is_quick, run: Box::new(move |world| (case.run)(world)) }
    };
    let quick = [
        lost::cases(),
        syncers::cases(),
        consistency::cases(),
        certificates::cases(),
        credentials::cases(),
        logs::cases(),
        controls::cases(),
    ];
    let cells = cells().into_iter().map(of_cell);
    cells
        .chain(quick.into_iter().flatten().map(of_case(true)))
        .chain(syncers::soaks().into_iter().map(of_case(false)))
        .collect()
}

/// The whole matrix.
fn cells() -> Vec<Cell> {
    WHAT.into_iter().flat_map(|what| HOW.into_iter().map(move |how| Cell { what, how })).collect()
}

impl Cell {
    /// What must be.
    fn name(&self) -> String {
        let Self { what, how } = self;
        format!(
            "{what} {how}: what is created, stopped, approved, deleted and ends meanwhile comes right, and runs once"
        )
    }

    fn is_quick(&self) -> bool {
        self.how == How::Killed || *self == Cell { what: What::Wec, how: HOW[1] }
    }

    /// Tries it.
    async fn run(self, world: World) -> Result<()> {
        let Self { what, how } = self;
        argosy::wait_until_ready(&world.testbed).await?;
        let mut subjects = Subjects::new(&world).await.context("before the fault")?;
        let start = Instant::now();
        outage::begin(&world.testbed, what, how).await?;
        let acted = subjects.act().await;
        tokio::time::sleep(how.length().saturating_sub(start.elapsed())).await;
        outage::mend(&world.testbed, what, how).await?;
        let done = subjects.come_right(acted?, Instant::now()).await?;
        table::note(self, done);
        Ok(())
    }
}
