//! What is to be done about the Secret: decided from what it holds and the time, without touching either.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::args::later;

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no Secret.
    Absent,
    /// It cannot be used. `ours`: it carries our label, so that it may be replaced.
    Broken { ours: bool },
    /// It can be used.
    Usable(Facts),
}

/// What matters of usable contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Life of the CA that signs now.
    pub(crate) authority: Life,
    /// Life of the serving certificate.
    pub(crate) serving: Life,
    /// Names in the serving certificate.
    pub(crate) names: BTreeSet<String>,
    pub(crate) signer: Signer,
}

/// Which CA of the bundle has signed the serving certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The one that signs now.
    Current,
    /// An earlier one: the current CA is new, and waits until it is known everywhere.
    Former,
    /// None: nobody who goes by the bundle trusts the certificate.
    Nobody,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing before this time.
    Keep { until: Timestamp },
    /// A new CA and a new certificate, in place of whatever is there.
    Begin { why: &'static str },
    /// A new CA beside the old one, while the certificate stays.
    AddAuthority { why: &'static str },
    /// A new certificate by the current CA.
    Renew { names: BTreeSet<String>, why: &'static str },
    /// The Secret holds something that is not ours to replace.
    Stuck,
}

impl Life {
    fn length(self) -> Duration {
        Duration::try_from(self.until.duration_since(self.from)).unwrap_or_default()
    }

    fn is_over(self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// When to renew: after two thirds, which leaves the last third for whatever goes wrong.
    fn due(self) -> Timestamp {
        later(self.from, self.length() * 2 / 3)
    }

    /// When every API server has had time to learn of a CA with this life (lives begin a little before now, see
    /// [`skew`]).
    fn settled(self) -> Timestamp {
        later(self.from, (self.length() / 10).min(Duration::from_secs(60 * 60)))
    }
}

/// How much earlier than now a certificate's life begins, for whoever's clock is behind.
pub(crate) fn skew(lifetime: Duration) -> Duration {
    (lifetime / 20).min(Duration::from_secs(5 * 60))
}

/// Decides. `wanted` are the names that the certificate must be good for; `published` says whether the API server has
/// been told of the bundle in the Secret.
pub(crate) fn plan(found: &Found, wanted: &BTreeSet<String>, published: bool, now: Timestamp) -> Plan {
    let facts = match found {
        Found::Absent => return Plan::Begin { why: "there is no Secret" },
        Found::Broken { ours: true } => return Plan::Begin { why: "what the Secret holds cannot be used" },
        Found::Broken { ours: false } => return Plan::Stuck,
        Found::Usable(facts) => facts,
    };
    let Facts { authority, serving, names, signer } = facts;
    let renew = |why| Plan::Renew { names: wanted.clone(), why };
    if authority.is_over(now) {
        return Plan::Begin { why: "the CA has expired" };
    }
    match signer {
        Signer::Nobody => renew("no CA of the bundle has signed the certificate"),
        Signer::Former if serving.is_over(now) => renew("the certificate has expired"),
        Signer::Former if now < authority.settled() => Plan::Keep { until: authority.settled().min(serving.until) },
        // Whoever is to learn of the bundle has not: the next look at its object wakes us.
        Signer::Former if !published => Plan::Keep { until: serving.until },
        Signer::Former => renew("the new CA is known everywhere"),
        // During an upgrade that changes names, replicas differ in what they want. Nobody takes away what another
        // needs, or they would replace each other's certificates for ever; the next renewal drops what nobody wants.
        Signer::Current if !wanted.is_subset(names) => {
            Plan::Renew { names: wanted | names, why: "the certificate lacks a name" }
        }
        Signer::Current if now >= serving.due() => renew("two thirds of the certificate's life are over"),
        Signer::Current if now >= authority.due() => Plan::AddAuthority { why: "two thirds of the CA's life are over" },
        Signer::Current => Plan::Keep { until: serving.due().min(authority.due()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + second).unwrap()
    }

    fn life(from: i64, until: i64) -> Life {
        Life { from: at(from), until: at(until) }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    /// The CA lives from 0 to 3000 and is due at 2000; it has settled at 300.
    fn usable(serving: Life, signer: Signer) -> Found {
        Found::Usable(Facts { authority: life(0, 3000), serving, names: names(&["a"]), signer })
    }

    fn keep(until: i64) -> Plan {
        Plan::Keep { until: at(until) }
    }

    fn renew(why: &'static str) -> Plan {
        Plan::Renew { names: names(&["a"]), why }
    }

    #[rstest]
    #[case::absent(Found::Absent, 0, Plan::Begin { why: "there is no Secret" })]
    #[case::our_garbage(Found::Broken { ours: true }, 0, Plan::Begin { why: "what the Secret holds cannot be used" })]
    #[case::their_garbage(Found::Broken { ours: false }, 0, Plan::Stuck)]
    #[case::fresh(usable(life(0, 300), Signer::Current), 10, keep(200))]
    #[case::ca_next(usable(life(1800, 2900), Signer::Current), 1850, keep(2000))]
    #[case::due(usable(life(0, 300), Signer::Current), 200, renew("two thirds of the certificate's life are over"))]
    #[case::expired(usable(life(0, 300), Signer::Current), 300, renew("two thirds of the certificate's life are over"))]
    #[case::stranger(usable(life(0, 300), Signer::Nobody), 10, renew("no CA of the bundle has signed the certificate"))]
    #[case::ca_due(
        usable(life(1800, 2900), Signer::Current), 2000, Plan::AddAuthority { why: "two thirds of the CA's life are over" }
    )]
    #[case::ca_over(usable(life(0, 9000), Signer::Current), 3000, Plan::Begin { why: "the CA has expired" })]
    #[case::ca_settles(usable(life(0, 2000), Signer::Former), 299, keep(300))]
    #[case::ca_settled(usable(life(0, 2000), Signer::Former), 300, renew("the new CA is known everywhere"))]
    #[case::no_time_to_settle(usable(life(0, 200), Signer::Former), 200, renew("the certificate has expired"))]
    fn plans(#[case] found: Found, #[case] now: i64, #[case] expected: Plan) {
        assert_eq!(plan(&found, &names(&["a"]), true, at(now)), expected);
    }

    #[test]
    fn a_ca_that_is_not_published_signs_only_when_nothing_else_is_left() {
        let found = usable(life(0, 2000), Signer::Former);
        assert_eq!(plan(&found, &names(&["a"]), false, at(400)), keep(2000));
        assert_eq!(plan(&found, &names(&["a"]), false, at(2000)), renew("the certificate has expired"));
    }

    #[test]
    fn a_new_name_joins_the_old_ones_until_the_next_renewal() {
        let found = usable(life(0, 300), Signer::Current);
        let both = Plan::Renew { names: names(&["a", "b"]), why: "the certificate lacks a name" };
        assert_eq!(plan(&found, &names(&["b"]), true, at(10)), both);
        let Plan::Renew { names: due, .. } = plan(&found, &names(&[]), true, at(200)) else { panic!("not renewed") };
        assert_eq!(due, names(&[]));
    }
}
