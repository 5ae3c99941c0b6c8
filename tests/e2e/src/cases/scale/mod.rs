//! Many workflows, and large ones.

pub(crate) mod crowd;
mod large;

mod shapes;
mod writes;

use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "1,000 workflows of all shapes show what their clusters show, and leave nothing behind",
            crowd::come_and_go
        ),
        case!("a write to a workflow of 2,000 nodes carries at most twice what changed", large::differences),
        case!(
            "a workflow of 5,000 nodes comes back packed, every 5 s at most, and its gate can be approved",
            large::packed
        ),
        case!("a status that does not fit keeps its phase and what failed, and says so", large::too_large),
        case!("a status that somebody changed is given back, each time", large::changed_by_somebody),
    ]
}
