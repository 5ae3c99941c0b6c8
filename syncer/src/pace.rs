//! When, and how much of, a copy's status is returned: not twice the same, not too often where each return is the whole of
//! it, and less of it where all is more than the control cluster's API server takes.

use std::time::{Duration, Instant};

use crate::size::Form;

/// Packed nodes are written as a whole, however little of them has changed; so often at most.
const PACKED: Duration = Duration::from_secs(5);

/// What becomes of a difference between a copy and its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is returned.
    Now,
    /// It was returned already: the control cluster's API server takes fields out or puts defaults in, where its CRDs are
    /// others than the WEC's.
    Never,
    /// It is returned after so long, with what comes until then.
    After(Duration),
}

/// A difference, as far as its turn depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// A hash of what is to be written.
    pub print: u64,
    /// Whether nodes are packed in it, and nobody waits for just this.
    pub can_wait: bool,
    /// The resourceVersion of the original that it is to be written to.
    pub version: &'a str,
}

/// What is remembered of one copy's returns.
#[derive(Clone, Debug, Default)]
pub struct Past {
    last: Option<Last>,
    /// The form of the status that was too large for the API server, and how long the status was in the WEC.
    refused: Option<(Form, usize)>,
    /// Whether somebody will ask again when the time has come.
    waited_for: bool,
}

#[derive(Clone, Debug)]
struct Last {
    at: Instant,
    print: u64,
    /// The resourceVersion that the original had after it: another one means that somebody else has written.
    version: Option<String>,
}

impl Past {
    /// When a difference is returned.
    pub fn turn(&self, difference: Difference, now: Instant) -> Turn {
        let Some(last) = &self.last else { return Turn::Now };
        if last.print == difference.print && last.version.as_deref() == Some(difference.version) {
            return Turn::Never;
        }
        match PACKED.checked_sub(now.saturating_duration_since(last.at)) {
            Some(rest) if difference.can_wait && !rest.is_zero() => Turn::After(rest),
            _ => Turn::Now,
        }
    }

    /// A difference was returned, and made this version of the original.
    pub fn returned(&mut self, print: u64, version: Option<String>, now: Instant) {
        self.last = Some(Last { at: now, print, version });
    }

    /// In which form a status of this length in the WEC is tried.
    pub fn form(&self, length: usize) -> Form {
        match self.refused {
            Some((form, least)) if length >= least => form.smaller().unwrap_or(form),
            _ => Form::Whole,
        }
    }

    /// A status of this length was too large for the API server in the form in which it was tried. Whether there is a
    /// smaller one.
    pub fn refused(&mut self, length: usize) -> bool {
        let form = self.form(length);
        let least = self.refused.map_or(length, |(_, least)| least.min(length));
        self.refused = Some((form, least));
        form.smaller().is_some()
    }

    /// Asks for being asked again. Whether nobody has yet.
    pub fn wait(&mut self) -> bool {
        !std::mem::replace(&mut self.waited_for, true)
    }

    /// The time has come.
    pub fn waited(&mut self) {
        self.waited_for = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NEW: Difference<'_> = Difference { print: 2, can_wait: true, version: "7" };
    const URGENT: Difference<'_> = Difference { can_wait: false, ..NEW };
    const SAME: Difference<'_> = Difference { print: 1, ..URGENT };

    #[rstest]
    #[case::another(1, URGENT, Turn::Now)]
    #[case::the_same_again(1, SAME, Turn::Never)]
    #[case::the_same_after_somebody_elses_write(1, Difference { version: "8", ..SAME }, Turn::Now)]
    #[case::packed_and_too_early(1_200, NEW, Turn::After(Duration::from_millis(3_800)))]
    #[case::packed_in_time(5_000, NEW, Turn::Now)]
    #[case::packed_and_long_ago(60_000, NEW, Turn::Now)]
    #[case::packed_the_same_again(60_000, Difference { print: 1, ..NEW }, Turn::Never)]
    fn turns(#[case] milliseconds_later: u64, #[case] difference: Difference, #[case] expected: Turn) {
        let start = Instant::now();
        let mut past = Past::default();
        assert_eq!(past.turn(difference, start), Turn::Now, "the first");
        past.returned(1, Some("7".to_owned()), start);
        assert_eq!(past.turn(difference, start + Duration::from_millis(milliseconds_later)), expected);
    }

    #[test]
    fn what_is_too_large_is_tried_smaller_until_it_shrinks() {
        let mut past = Past::default();
        let mut tried = Vec::new();
        loop {
            tried.push(past.form(1_000));
            if !past.refused(1_000) {
                break;
            }
        }
        assert_eq!(tried, [Form::Whole, Form::Packed, Form::Unfinished, Form::Bare]);
        assert_eq!([past.form(1_000), past.form(2_000), past.form(999)], [Form::Bare, Form::Bare, Form::Whole]);
    }

    #[test]
    fn one_asks_again_for_all() {
        let mut past = Past::default();
        assert_eq!([past.wait(), past.wait()], [true, false]);
        past.waited();
        assert!(past.wait());
    }
}
