//! What becomes of workflows while something fails: each thing that can fail, in each way, and five deeds meanwhile.

mod certificates;
mod consistency;
mod deeds;
mod lost;
mod outage;
mod syncers;
pub mod table;

use std::time::Instant;

use anyhow::{Context, Result};
use testbed::argosy;

use crate::cases::Case;
use crate::world::World;
use deeds::Subjects;
use outage::{HOW, How, WHAT, What};

/// Something that fails in some way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    what: What,
    how: How,
}

/// The whole matrix.
pub fn cells() -> Vec<Cell> {
    WHAT.into_iter().flat_map(|what| HOW.into_iter().map(move |how| Cell { what, how })).collect()
}

/// What else is tried: each time, and on request.
pub fn cases() -> [Vec<Case>; 2] {
    let always = [lost::cases(), syncers::cases(), consistency::cases(), certificates::cases()];
    [always.into_iter().flatten().collect(), syncers::soak_cases()]
}

impl Cell {
    /// What must be.
    pub fn name(&self) -> String {
        let Self { what, how } = self;
        format!(
            "{what} {how}: what is created, stopped, approved, deleted and ends meanwhile comes right, and runs once"
        )
    }

    /// Whether it is short enough to be tried each time.
    pub fn is_quick(&self) -> bool {
        matches!(self.how, How::Killed) || self.how == HOW[1]
    }

    /// Tries it.
    ///
    /// # Errors
    /// Something did not come right, ran twice, or was left; with what it was.
    pub async fn run(self, world: World) -> Result<()> {
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
