//! Names and addresses of real clusters, computed from the testbed's slot and the cluster's place in it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::layout::CONTROL;
use crate::slot;

/// Pods', Services' and nodes' networks have room for this many clusters in a testbed.
pub(crate) const MOST_CLUSTERS: u8 = 40;

/// One cluster's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: u8,
    /// The control cluster is 1, `clusterN` is N + 1.
    index: u8,
    pub(crate) cluster: String,
}

impl Place {
    /// The place of the cluster that is number `position` (from 0, the control cluster) of the testbed's.
    pub(crate) fn new(slot: u8, position: u8, cluster: &str) -> Self {
        debug_assert!((position == 0) == (cluster == CONTROL));
        Self { slot, index: position + 1, cluster: cluster.to_owned() }
    }

    /// The network namespace.
    pub(crate) fn netns(&self) -> String {
        format!("{}{}", netns_prefix(self.slot), self.cluster)
    }

    /// The end of the cluster's cable that is plugged into the bridge; at most 15 characters.
    pub(crate) fn veth(&self) -> String {
        format!("{}v{}", bridge(self.slot), self.index)
    }

    /// The node's name.
    pub(crate) fn node(&self) -> String {
        format!("{}-node", self.cluster)
    }

    /// The node's, and so the API server's, address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + self.slot, 0, self.index)
    }

    /// Pods' network.
    pub(crate) fn pods(&self) -> String {
        format!("10.{}.{}.0/24", 100 + self.slot, 16 + self.index)
    }

    /// Services' network.
    pub(crate) fn services(&self) -> String {
        format!("10.{}.{}.0/24", 100 + self.slot, 64 + self.index)
    }

    /// The cgroup (below each controller's root) of everything that the cluster's pods run.
    pub(crate) fn cgroup(&self) -> String {
        cgroup(self.slot, &self.cluster)
    }

    /// What containerd and the kubelet keep. Not in the checkout: the kubelet's sockets need short paths.
    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(self.slot).join(&self.cluster)
    }

    /// Sockets and containerd's state.
    pub(crate) fn run_dir(&self) -> PathBuf {
        slot::run_dir(self.slot, &self.cluster)
    }
}

/// The bridge that connects a testbed's clusters with each other and with this machine.
pub(crate) fn bridge(slot: u8) -> String {
    format!("at{slot}")
}

/// This machine's address on the bridge.
pub(crate) fn bridge_address(slot: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 100 + slot, 0, 254)
}

/// How the names of all network namespaces of a testbed begin.
pub(crate) fn netns_prefix(slot: u8) -> String {
    format!("at{slot}-")
}

/// The cgroup of one cluster's pods; all of a testbed's begin with [`netns_prefix`].
fn cgroup(slot: u8, cluster: &str) -> String {
    format!("{}{cluster}", netns_prefix(slot))
}

/// Where a testbed keeps what does not fit under the checkout.
pub(crate) fn data_dir(slot: u8) -> PathBuf {
    PathBuf::from("/var/lib/argosy-testbed").join(slot.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_slot_and_place() {
        let control = Place::new(0, 0, "control");
        assert_eq!(
            (control.address().to_string(), control.pods(), control.services(), control.netns(), control.veth()),
            (
                "10.100.0.1".into(),
                "10.100.17.0/24".into(),
                "10.100.65.0/24".into(),
                "at0-control".into(),
                "at0v1".into()
            )
        );
        let last = Place::new(99, MOST_CLUSTERS - 1, "cluster39");
        assert_eq!(last.address(), Ipv4Addr::new(10, 199, 0, 40));
        assert_eq!((last.pods(), last.services()), ("10.199.56.0/24".into(), "10.199.104.0/24".into()));
        assert!(last.veth().len() <= 15);
    }
}
