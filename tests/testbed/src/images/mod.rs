//! Images without Docker: packed from folders and programs of this machine, served by a small registry on the testbed's
//! bridge that every cluster's containerd asks for every image, whichever registry its name says.

mod pack;
pub mod registry;
mod stand_ins;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use pack::{Image, Source};

use crate::cluster::real::address::data_dir;
use crate::layout::{Layout, Nodes, State, write_file};
use crate::process::run;
use crate::programs::Programs;
use crate::progress::Progress;

/// Starts the registry of a testbed with real nodes and puts the stand-ins into it.
pub(crate) async fn up(layout: &Layout, programs: &Programs, slot: u8, progress: &Progress) -> Result<()> {
    let step = progress.step("images");
    registry::start(layout, slot).await?;
    let mut fresh = Vec::new();
    for image in stand_ins::all(programs.path("argoexec")?)? {
        let name = image.name.clone();
        step.detail(name.clone());
        if publish_to(slot, image).await? {
            fresh.push(name);
        }
    }
    if fresh.is_empty() {
        step.skip();
    } else {
        step.done(fresh.join(", "));
    }
    Ok(())
}

/// Packs an image and puts it into the testbed's registry; pods of all its clusters get it under its name. Answers
/// whether it was new: nothing is done for one that is there already, with the same content.
///
/// # Errors
/// The testbed has no real nodes or is not up; a source cannot be read; the registry refuses.
pub async fn publish(layout: &Layout, image: Image) -> Result<bool> {
    match State::load(layout)? {
        Some(State { nodes: Nodes::Real, slot, .. }) => publish_to(slot, image).await,
        Some(_) => bail!("image {}: played nodes run no images", image.name),
        None => bail!("image {}: testbed {:?} is not up", image.name, layout.name()),
    }
}

async fn publish_to(slot: u8, image: Image) -> Result<bool> {
    let work = move || -> Result<bool> {
        let name = image.name.clone();
        let publish = || -> Result<bool> {
            let reference = registry::Reference::parse(&name)?;
            let fingerprint = image.fingerprint()?;
            let record = data_dir(slot).join("registry/published").join(reference.file_name());
            let registry = registry::Registry::of_slot(slot);
            if fs::read_to_string(&record).is_ok_and(|known| known == fingerprint) && registry.has(&reference)? {
                return Ok(false);
            }
            registry.push(&reference, &image.pack()?)?;
            write_file(&record, fingerprint, 0o644)?;
            Ok(true)
        };
        publish().with_context(|| format!("image {name}"))
    };
    tokio::task::spawn_blocking(work).await.context("publishing an image")?
}

/// An image of programs, linked against this machine's glibc or static, with the shared libraries they need, run by an
/// ordinary user (65532). They are in `/usr/local/bin`, and the first one is the entrypoint.
///
/// # Errors
/// `ldd` does not know a library.
pub async fn of_programs(name: &str, programs: &[&Path]) -> Result<Image> {
    let mut rootfs = BTreeMap::new();
    let mut entrypoint = None;
    for program in programs {
        let file = program.file_name().with_context(|| format!("{}: no program", program.display()))?;
        let path = format!("/usr/local/bin/{}", file.to_string_lossy());
        rootfs.insert(path.clone(), Source::File((*program).to_owned()));
        rootfs.extend(shared_libraries(program).await?);
        entrypoint.get_or_insert(path);
    }
    let mut rootfs: Vec<_> = rootfs.into_iter().collect();
    rootfs.extend(stand_ins::users());
    rootfs.push(("/tmp".to_owned(), Source::Folder(0o1777)));
    Ok(Image {
        name: name.to_owned(),
        rootfs,
        entrypoint: entrypoint.into_iter().collect(),
        user: Some("65532:65532".to_owned()),
    })
}

/// What `ldd` says that a program loads, each at the path where its loader looks for it. Empty for a static program.
///
/// # Errors
/// A library is missing on this machine.
pub async fn shared_libraries(program: &Path) -> Result<Vec<(String, Source)>> {
    if !program.is_file() {
        bail!("{}: no such program", program.display());
    }
    // ldd fails for static programs, which need nothing.
    let Ok(said) = run("ldd", &[&program.to_string_lossy()]).await else { return Ok(Vec::new()) };
    parse_ldd(&said).with_context(|| format!("shared libraries of {}", program.display()))
}

fn parse_ldd(said: &str) -> Result<Vec<(String, Source)>> {
    let mut libraries = Vec::new();
    for line in said.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if path.starts_with("not found") {
            bail!("{name} is not on this machine");
        }
        let path = path.split(" (0x").next().unwrap_or_default().trim();
        // The kernel's own (linux-vdso) has no path, "statically linked" is no library.
        if path.starts_with('/') {
            libraries.push((path.to_owned(), Source::File(PathBuf::from(path))));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_read() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths: Vec<_> = parse_ldd(said).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(parse_ldd("\tstatically linked\n").unwrap().is_empty());
        assert!(parse_ldd("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
    }
}
