//! A network namespace per cluster, plugged into one bridge per testbed. Every step may be done again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::address::{Place, bridge, bridge_address};
use crate::process::run;

/// The bridge, with this machine's address on it.
pub(super) async fn ensure_bridge(slot: u8) -> Result<()> {
    let bridge = bridge(slot);
    if !link_exists(&bridge) {
        run("ip", &["link", "add", &bridge, "type", "bridge"]).await?;
    }
    run("ip", &["addr", "replace", &format!("{}/24", bridge_address(slot)), "dev", &bridge]).await?;
    run("ip", &["link", "set", &bridge, "up"]).await?;
    // This machine passes packets between a cluster's pods and another's.
    sysctl("net/ipv4/ip_forward", "1")?;
    allow_forwarding(&bridge).await
}

/// The cluster's namespace, its cable to the bridge, and this machine's routes to its pods and Services.
pub(super) async fn ensure_cluster(place: &Place) -> Result<()> {
    let (netns, veth, bridge) = (place.netns(), place.veth(), bridge(place.slot));
    if !Path::new("/run/netns").join(&netns).exists() {
        run("ip", &["netns", "add", &netns]).await?;
    }
    if !link_exists(&veth) {
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &netns]).await?;
    }
    run("ip", &["link", "set", &veth, "master", &bridge, "up"]).await?;
    let inside = |args: &[&str]| {
        let mut all = vec!["-n".to_owned(), netns.clone()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        async move { run("ip", &all.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    inside(&["addr", "replace", &format!("{}/24", place.address()), "dev", "eth0"]).await?;
    inside(&["link", "set", "eth0", "up"]).await?;
    inside(&["link", "set", "lo", "up"]).await?;
    inside(&["route", "replace", "default", "via", &bridge_address(place.slot).to_string()]).await?;
    run("nsenter", &[&format!("--net=/run/netns/{netns}"), "sysctl", "-qw", "net.ipv4.ip_forward=1"]).await?;
    let node = place.address().to_string();
    run("ip", &["route", "replace", &place.pods(), "via", &node]).await?;
    run("ip", &["route", "replace", &place.services(), "via", &node]).await?;
    Ok(())
}

/// Takes the network of a whole testbed away.
pub(super) async fn remove(slot: u8, netns: &[String], links: &[String]) -> Result<()> {
    for name in links {
        run("ip", &["link", "del", name]).await?;
    }
    for name in netns {
        run("ip", &["netns", "del", name]).await?;
    }
    if link_exists(&bridge(slot)) {
        forbid_forwarding(&bridge(slot)).await;
        run("ip", &["link", "del", &bridge(slot)]).await?;
    }
    Ok(())
}

pub(super) fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// A machine whose firewall drops what it forwards (Docker sets that up) must let the bridge's packets pass.
async fn allow_forwarding(bridge: &str) -> Result<()> {
    let rules = run("iptables", &["-S", "FORWARD"]).await.unwrap_or_default();
    if !rules.lines().any(|line| line == "-P FORWARD DROP") {
        return Ok(());
    }
    for direction in ["-i", "-o"] {
        let rule = format!("-A FORWARD {direction} {bridge} -j ACCEPT");
        if !rules.lines().any(|line| line == rule) {
            run("iptables", &["-I", "FORWARD", direction, bridge, "-j", "ACCEPT"]).await?;
        }
    }
    Ok(())
}

async fn forbid_forwarding(bridge: &str) {
    for direction in ["-i", "-o"] {
        // Not there on most machines.
        let _ = run("iptables", &["-D", "FORWARD", direction, bridge, "-j", "ACCEPT"]).await;
    }
}

/// Sets a kernel setting, unless it is set so.
pub(super) fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("setting {} to {value}", path.display()))
}

/// Raises a kernel limit that is lower.
pub(super) fn raise_limit(name: &str, least: u64) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let current = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match current {
        Some(current) if current < least => sysctl(name, &least.to_string()),
        _ => Ok(()),
    }
}
