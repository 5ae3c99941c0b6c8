//! Workflows that are created all the time, to see whether one is refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::api::PostParams;
use tokio::time::interval;

use crate::world::{World, sleeping, wait_for};

/// How many create them, and how often each.
const USERS: usize = 4;
const EVERY: Duration = Duration::from_millis(100);

/// So many were created.
#[derive(Default)]
pub struct Creations(AtomicU64);

impl Creations {
    /// Creates workflows in a namespace (in dry runs, of which nothing is left) while something is done, which it answers.
    ///
    /// # Errors
    /// One was refused, or what was done failed.
    pub async fn during<T>(&self, world: &World, namespace: &str, deed: impl Future<Output = Result<T>>) -> Result<T> {
        let users = (0..USERS).map(|_| self.create(world, namespace));
        tokio::select! {
            refused = try_join_all(users) => Err(refused.err().context("nobody creates any more")?),
            done = deed => done,
        }
    }

    async fn create(&self, world: &World, namespace: &str) -> Result<()> {
        let api = world.originals(namespace);
        let workflow = serde_json::from_value(sleeping("load", 0))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let number = self.0.load(Ordering::Relaxed);
            api.create(&dry_run, &workflow).await.with_context(|| format!("creation {number}"))?;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until so many more have been created.
    pub async fn more(&self, count: u64) -> Result<()> {
        let before = self.0.load(Ordering::Relaxed);
        wait_for(&format!("{count} more creations"), || async {
            let more = self.0.load(Ordering::Relaxed) - before;
            Ok(if more >= count { Ok(()) } else { Err(format!("{more} in all")) })
        })
        .await
    }
}
