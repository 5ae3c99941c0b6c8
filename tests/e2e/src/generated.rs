//! Pages that the cases write.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Compares a page of `docs` with what it has to be; writes it anew where it differs.
///
/// # Errors
/// It was out of date.
pub fn check(workspace: &Path, page: &str, text: &str) -> Result<()> {
    let path = workspace.join("docs").join(page);
    let is_fresh = std::fs::read_to_string(&path).is_ok_and(|before| before == text);
    if !is_fresh {
        write(workspace, page, text)?;
    }
    ensure!(is_fresh, "{} was out of date, and has been written anew: look at it and commit it", path.display());
    Ok(())
}

/// Writes a page of `docs`, whatever it was.
///
/// # Errors
/// It cannot be written.
pub fn write(workspace: &Path, page: &str, text: &str) -> Result<()> {
    let path = workspace.join("docs").join(page);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
