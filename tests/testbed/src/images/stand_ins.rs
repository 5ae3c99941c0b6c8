//! Images that stand in for public ones, so that manifests need no change on a machine that reaches no registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Image, Source};
use crate::prerequisites::require;

/// Waits until it is stopped; as the first process of a pod it also collects what others leave behind.
const PAUSE: &str = "#!/bin/busybox sh\ntrap 'exit 0' TERM INT\nwhile :; do /bin/busybox sleep 3600 & wait $!; done\n";

/// The cow, in the words of the original's manual: says its arguments, or its input if there are none.
const COWSAY: &str = r#"#!/bin/sh
text="$*"
[ $# -gt 0 ] || text=$(cat)
line=$(printf '%s' "$text" | sed 's/./-/g')
edge=$(printf '%s' "$text" | sed 's/./_/g')
printf ' _%s_ \n< %s >\n -%s- \n' "$edge" "$text" "$line"
cat <<'COW'
        \   ^__^
         \  (oo)\_______
            (__)\       )\/\
                ||----w |
                ||     ||
COW
"#;

/// All of them; `argoexec` is the built program.
pub(super) fn all(argoexec: &Path) -> Result<Vec<Image>> {
    let busybox = busybox_files()?;
    let image = |name: &str, rootfs: Vec<(String, Source)>, entrypoint: &[&str]| Image {
        name: name.to_owned(),
        rootfs,
        entrypoint: entrypoint.iter().map(|part| (*part).to_owned()).collect(),
        user: None,
    };
    let mut whalesay = busybox.clone();
    whalesay.push(("/usr/local/bin/cowsay".to_owned(), Source::Content(COWSAY.into(), 0o755)));
    let mut executor = users();
    executor.push(("/tmp".to_owned(), Source::Folder(0o1777)));
    executor.push(("/bin/argoexec".to_owned(), Source::File(argoexec.to_owned())));
    let pause = vec![
        ("/bin/busybox".to_owned(), Source::File(require("busybox")?)),
        ("/pause".to_owned(), Source::Content(PAUSE.into(), 0o755)),
    ];
    Ok(vec![
        image("registry.k8s.io/pause:3.10", pause, &["/pause"]),
        image("docker.io/library/busybox:latest", busybox, &[]),
        image("docker.io/docker/whalesay:latest", whalesay, &[]),
        image("quay.io/argoproj/argoexec:v3.7.4", executor, &["argoexec"]),
    ])
}

/// `/etc/passwd` and `/etc/group` with root and an ordinary user.
pub(super) fn users() -> Vec<(String, Source)> {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n";
    let group = "root:x:0:\nnonroot:x:65532:\n";
    vec![
        ("/etc/passwd".to_owned(), Source::Content(passwd.into(), 0o644)),
        ("/etc/group".to_owned(), Source::Content(group.into(), 0o644)),
    ]
}

/// Debian's static busybox with a link for each of its programs.
fn busybox_files() -> Result<Vec<(String, Source)>> {
    let busybox: PathBuf = require("busybox")?;
    let listed = Command::new(&busybox).arg("--list").output().context("asking busybox for its programs")?;
    ensure!(listed.status.success(), "`{} --list` failed", busybox.display());
    let mut files = users();
    files.push(("/tmp".to_owned(), Source::Folder(0o1777)));
    files.push(("/root".to_owned(), Source::Folder(0o700)));
    files.push(("/bin/busybox".to_owned(), Source::File(busybox)));
    for program in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox") {
        files.push((format!("/bin/{program}"), Source::Link("busybox".to_owned())));
    }
    Ok(files)
}
