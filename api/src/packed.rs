//! Nodes as Argo packs them where a Workflow would be larger than 1 MiB: JSON, gzipped, in base64.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};

/// The most that is unpacked. Nodes shrink to about a tenth, and etcd takes objects of 1.5 MB.
const LIMIT: u64 = 16 << 20;

/// The JSON in `status.compressedNodes`. `None`: it is not packed like this (Argo 4 may use zstd), or unpacks to more
/// than any Workflow has.
pub fn unpack(packed: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(packed).ok()?;
    let mut text = String::new();
    let read = MultiGzDecoder::new(bytes.as_slice()).take(LIMIT).read_to_string(&mut text).ok()?;
    ((read as u64) < LIMIT).then_some(text)
}

/// What `status.compressedNodes` holds for this JSON.
pub fn pack(text: &str) -> String {
    let mut encoder = GzEncoder::new(text.as_bytes(), Compression::default());
    let mut bytes = Vec::new();
    // Nothing is read or written but memory.
    let _ = encoder.read_to_end(&mut bytes);
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn unpacks_what_argo_packs() {
        // By Go's gzip, as Argo calls it.
        assert_eq!(unpack("H4sIAAAAAAAA/6pWSlSyMqwFBAAA//+vrBtWBwAAAA==").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(unpack(&pack("{}")).as_deref(), Some("{}"));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::not_base64("H4sI*")]
    #[case::not_gzip("e30=")]
    #[case::zstd("KLUv/QQAOQAAeyJhIjoxfZ3ZW1A=")]
    #[case::cut_short("H4sIAAAAAAAA/6pWSlSyMqwF")]
    #[case::not_text(&BASE64_STANDARD.encode([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 1, 0, 254, 255, 255]))]
    fn leaves_what_it_cannot_read(#[case] packed: &str) {
        assert_eq!(unpack(packed), None);
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let bomb = pack(&" ".repeat(usize::try_from(LIMIT).unwrap()));
        assert!(bomb.len() < 1 << 20);
        assert_eq!(unpack(&bomb), None);
    }
}
