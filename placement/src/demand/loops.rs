//! How often a call is made.

use std::borrow::Cow;

use super::lenient::{Read, Text};
use super::spec::{Call, Item, Sequence};
use super::workflow::{Context, Frame, Workflow};

/// How often a call is made at one time, and with which items, as far as these matter.
pub(super) struct Loop<'c> {
    pub(super) items: Cow<'c, [Item]>,
    pub(super) times: u64,
}

impl<'c> Loop<'c> {
    pub(super) fn once() -> Self {
        Self::times(1)
    }

    fn times(times: u64) -> Self {
        Self { items: Cow::Borrowed(&[]), times }
    }

    fn over(items: Cow<'c, [Item]>) -> Self {
        let times = u64::try_from(items.len()).unwrap_or(u64::MAX);
        Self { items, times }
    }

    /// `None`: only a run can tell.
    pub(super) fn of(workflow: &Workflow, frame: &Frame, call: &'c Call) -> Option<Self> {
        let resolve = |text: &'c Text| workflow.resolve(&text.0, Context::within(frame));
        if !call.with_items.is_empty() {
            return Some(Self::over(Cow::Borrowed(&call.with_items)));
        }
        if let Some(list) = &call.with_param {
            let read: Read<Vec<Item>> = serde_json::from_str(&resolve(list)?).ok()?;
            return Some(Self::over(Cow::Owned(read.value?)));
        }
        let Some(sequence) = &call.with_sequence else { return Some(Self::once()) };
        length(sequence, |text| resolve(text)?.trim().parse().ok()).map(Self::times)
    }
}

fn length<'c>(Sequence { count, start, end }: &'c Sequence, number: impl Fn(&'c Text) -> Option<i64>) -> Option<u64> {
    match (count, end) {
        (_, Some(end)) => {
            let start = start.as_ref().map_or(Some(0), &number)?;
            Some(number(end)?.abs_diff(start).saturating_add(1))
        }
        (Some(count), None) => u64::try_from(number(count)?).ok(),
        (None, None) => None,
    }
}
