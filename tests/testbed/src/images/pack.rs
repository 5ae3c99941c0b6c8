//! An image from a list of files. The same list gives the same bytes: sorted, all times 0, all owned by root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image to be made.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its full name, as manifests call it: `quay.io/argoproj/argoexec:v3.7.4`.
    pub name: String,
    /// Its files: absolute path in the image, and what is there. Folders above them come by themselves.
    pub rootfs: Vec<(String, Source)>,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// Who runs it: `UID:GID`; root if absent.
    pub user: Option<String>,
}

/// What is at a path in an image.
#[derive(Debug, Clone)]
pub enum Source {
    /// A copy of this machine's file (what a link leads to); it stays executable if it is.
    File(PathBuf),
    /// A file with this content and mode.
    Content(Vec<u8>, u32),
    /// A symbolic link.
    Link(String),
    /// An empty folder of this mode.
    Folder(u32),
}

/// An image ready to be pushed.
pub(super) struct Packed {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) layer: Vec<u8>,
}

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

impl Image {
    /// Changes with everything that changes the image, without reading this machine's files: their sizes and times
    /// stand for their content.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&serde_json::to_vec(&self.config("")?)?);
        for (path, source) in self.tree() {
            add(path.as_bytes());
            match source {
                Source::File(file) => {
                    let metadata = fs::metadata(file).with_context(|| format!("reading {}", file.display()))?;
                    add(format!("file {} {:?} {:?}", file.display(), metadata.len(), metadata.modified().ok())
                        .as_bytes());
                }
                Source::Content(content, mode) => {
                    add(format!("content {mode:o}").as_bytes());
                    add(content);
                }
                Source::Link(target) => add(format!("link {target}").as_bytes()),
                Source::Folder(mode) => add(format!("folder {mode:o}").as_bytes()),
            }
        }
        Ok(hex(hash))
    }

    /// Reads all files and makes layer, settings and manifest.
    pub(super) fn pack(&self) -> Result<Packed> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&self.config(&digest(&layer))?)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER_TYPE, "digest": digest(&layer), "size": layer.len()}],
        });
        Ok(Packed { manifest: serde_json::to_vec(&manifest)?, config, layer })
    }

    fn config(&self, layer_digest: &str) -> Result<Value> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": self.user.clone().unwrap_or_default(),
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "testbed"}],
        }))
    }

    /// Everything in the image by path (without the leading slash), folders before what is in them.
    fn tree(&self) -> BTreeMap<String, &Source> {
        const PLAIN: Source = Source::Folder(0o755);
        let mut tree: BTreeMap<String, &Source> = BTreeMap::new();
        for (path, _) in &self.rootfs {
            let path = path.trim_matches('/');
            for (end, _) in path.match_indices('/') {
                tree.entry(path[..end].to_owned()).or_insert(&PLAIN);
            }
        }
        tree.extend(self.rootfs.iter().map(|(path, source)| (path.trim_matches('/').to_owned(), source)));
        tree
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, source) in self.tree() {
            let (kind, mode, content) = match source {
                Source::File(file) => {
                    let read = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
                    let executable = fs::metadata(file)?.permissions().mode() & 0o111 != 0;
                    (tar::EntryType::Regular, if executable { 0o755 } else { 0o644 }, read)
                }
                Source::Content(content, mode) => (tar::EntryType::Regular, *mode, content.clone()),
                Source::Link(_) => (tar::EntryType::Symlink, 0o777, Vec::new()),
                Source::Folder(mode) => (tar::EntryType::Directory, *mode, Vec::new()),
            };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            let added = match source {
                Source::Link(target) => archive.append_link(&mut header, &path, target),
                _ => archive.append_data(&mut header, &path, content.as_slice()),
            };
            added.with_context(|| format!("packing {path}"))?;
        }
        archive.into_inner().context("packing a layer")
    }
}

/// `sha256:…` of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    format!("sha256:{}", hex(hash))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(rootfs: Vec<(String, Source)>) -> Image {
        Image { name: "x:1".into(), rootfs, entrypoint: vec!["/a".into()], user: None }
    }

    #[test]
    fn order_makes_no_difference_and_folders_come_first() {
        let a = ("/usr/bin/a".to_owned(), Source::Content(b"a".to_vec(), 0o755));
        let b = ("/b".to_owned(), Source::Link("usr/bin/a".to_owned()));
        let one = image(vec![a.clone(), b.clone()]).pack().unwrap();
        let two = image(vec![b, a]).pack().unwrap();
        assert_eq!(one.layer, two.layer);
        assert_eq!(one.manifest, two.manifest);
        let mut archive = tar::Archive::new(one.layer.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(
            paths.iter().map(|p| p.trim_end_matches('/')).collect::<Vec<_>>(),
            ["b", "usr", "usr/bin", "usr/bin/a"]
        );
    }

    #[test]
    fn a_fingerprint_changes_with_content_mode_and_entrypoint() {
        let with = |content: &[u8], mode| image(vec![("/a".to_owned(), Source::Content(content.to_vec(), mode))]);
        let original = with(b"a", 0o755).fingerprint().unwrap();
        assert_eq!(with(b"a", 0o755).fingerprint().unwrap(), original);
        assert_ne!(with(b"b", 0o755).fingerprint().unwrap(), original);
        assert_ne!(with(b"a", 0o644).fingerprint().unwrap(), original);
        let mut other = with(b"a", 0o755);
        other.user = Some("1:1".into());
        assert_ne!(other.fingerprint().unwrap(), original);
    }
}
