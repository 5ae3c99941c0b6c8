//! Nodes as Argo packs them where a Workflow would be larger than 1 MiB: JSON, gzipped, in base64. Argo 4 can be told to
//! take zstd or brotli instead, which Argo 3 does not read.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use brotli_decompressor::Decompressor;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use ruzstd::decoding::StreamingDecoder;

/// The most bytes that are unpacked. Nodes shrink to about a tenth, and etcd takes objects of 1.5 MB.
const MOST_UNPACKED: usize = 16 << 20;

/// How every gzip of Argo's begins, in base64.
const GZIP: &str = "H4sI";
/// How zstd begins. What begins in neither way is brotli, which has no mark.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether every Argo can unpack it.
pub fn is_packed(packed: &str) -> bool {
    packed.starts_with(GZIP)
}

/// The JSON in `status.compressedNodes`, whichever Argo wrote it. `None`: it is not packed like this, or unpacks to more
/// than any Workflow has.
pub fn unpack(packed: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(packed).ok().filter(|bytes| !bytes.is_empty())?;
    let bytes = bytes.as_slice();
    if is_packed(packed) {
        read(MultiGzDecoder::new(bytes))
    } else if bytes.starts_with(&ZSTD) {
        read(StreamingDecoder::new(bytes).ok()?)
    } else {
        read(Decompressor::new(bytes, 4096))
    }
}

fn read(unpacking: impl Read) -> Option<String> {
    let mut text = String::new();
    let read = unpacking.take(MOST_UNPACKED as u64).read_to_string(&mut text).ok()?;
    (read < MOST_UNPACKED).then_some(text)
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
        // By the libraries that Argo 4 uses.
        let nodes = Some(r#"{"a":{"phase":"Succeeded"}}"#);
        assert_eq!(unpack("KLUv/QQA2QAAeyJhIjp7InBoYXNlIjoiU3VjY2VlZGVkIn19K+JSog==").as_deref(), nodes);
        assert_eq!(unpack("GxoAAARyceQvONGAujXAqKtmUSg4j0bHfYhaO5kM/w==").as_deref(), nodes);
    }

    #[rstest]
    #[case::nothing("")]
    #[case::not_base64("H4sI*")]
    #[case::packed_by_nobody("e30=")]
    #[case::zstd_cut_short("KLUv/QQA2QAAeyJhIjp7InBo")]
    #[case::brotli_cut_short("GxoAAARyceQvONGAujXAqKtm")]
    #[case::cut_short("H4sIAAAAAAAA/6pWSlSyMqwF")]
    #[case::not_text(&BASE64_STANDARD.encode([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 1, 0, 254, 255, 255]))]
    fn leaves_what_it_cannot_read(#[case] packed: &str) {
        assert_eq!(unpack(packed), None);
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let bomb = pack(&" ".repeat(MOST_UNPACKED));
        assert!(bomb.len() < 1 << 20);
        assert_eq!(unpack(&bomb), None);
    }
}
