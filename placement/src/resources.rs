//! Amounts of resources, and the text form that Kubernetes gives them.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by name of resource: `cpu` in thousandths, everything else in whole units (bytes, pieces). What is not
/// named counts as 0. All arithmetic saturates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// How much of it there is.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Makes it so much.
    pub fn set(&mut self, name: &str, amount: i64) {
        // Names are few and come again and again: only a new one costs an allocation.
        match self.0.get_mut(name) {
            Some(slot) => *slot = amount,
            None => {
                self.0.insert(name.to_owned(), amount);
            }
        }
    }

    /// All that are named, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// How many are named.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// What is left may be negative.
    pub fn sub(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    /// The greater of both, each resource for itself.
    pub fn max(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        for (name, amount) in other.iter() {
            self.set(name, with(self.get(name), amount));
        }
    }

    /// So many times as much.
    pub fn times(&mut self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.values_mut().for_each(|amount| *amount = amount.saturating_mul(count));
    }

    /// `part` of `whole` of it, rounded up. All of it where `whole` is 0.
    pub fn share(&mut self, part: u64, whole: u64) {
        let (part, whole) = (i128::from(part), i128::from(whole));
        for amount in self.0.values_mut().filter(|_| whole > 0) {
            let product = i128::from(*amount).saturating_mul(part);
            let rounded = product.div_euclid(whole) + i128::from(product.rem_euclid(whole) > 0);
            *amount = i64::try_from(rounded).unwrap_or(i64::MAX);
        }
    }

    /// Whether all of it can be taken from `free`.
    pub fn fits_in(&self, free: &Self) -> bool {
        self.beyond(free).next().is_none()
    }

    /// The resources of which there is more than `free` has.
    pub fn beyond<'a>(&'a self, free: &'a Self) -> impl Iterator<Item = &'a str> {
        self.iter().filter(|(name, amount)| *amount > 0 && *amount > free.get(name)).map(|(name, _)| name)
    }
}

/// What is no quantity is left out.
impl From<&BTreeMap<String, Quantity>> for Resources {
    fn from(quantities: &BTreeMap<String, Quantity>) -> Self {
        let parse = |(name, text): (&String, &Quantity)| Some((name.clone(), parse_quantity(name, &text.0)?));
        quantities.iter().filter_map(parse).collect()
    }
}

impl<N: Into<String>> FromIterator<(N, i64)> for Resources {
    fn from_iter<I: IntoIterator<Item = (N, i64)>>(amounts: I) -> Self {
        Self(amounts.into_iter().map(|(name, amount)| (name.into(), amount)).collect())
    }
}

/// For example `cpu 1500m, memory 64Mi`.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (index, (name, amount)) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {}", print_quantity(name, amount))?;
        }
        Ok(())
    }
}

/// The name of the resource that is counted in thousandths.
const CPU: &str = "cpu";
const CPU_DIGITS: i32 = 3;
/// More significant digits than an i64 has need not be kept exactly.
const DIGITS: u32 = 19;

/// Reads a quantity as Kubernetes does: suffixes `n u m k M G T P E`, `Ki` to `Ei`, exponents as in `1e3`. Fractions
/// are rounded away from 0, and what is too large becomes the largest number there is. `None`: this is no quantity.
pub fn parse_quantity(name: &str, text: &str) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (twos, tens) = parse_suffix(suffix)?;
    let tens = if name == CPU { tens.saturating_add(CPU_DIGITS) } else { tens };
    let amount = Decimal::parse(number)?.scaled(twos, tens);
    Some(if negative { -amount } else { amount })
}

/// The exponents of 2 and of 10 that a suffix stands for.
fn parse_suffix(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let limit = if exponent.starts_with('-') { -9999 } else { 9999 };
            (0, exponent.parse().map_or(limit, |exponent: i32| exponent.clamp(-9999, 9999)))
        }
    })
}

/// `digits` times ten to the power of `tens`, and a little more if there is a `rest`.
#[derive(Default)]
struct Decimal {
    digits: u128,
    tens: i32,
    rest: bool,
}

impl Decimal {
    fn parse(number: &str) -> Option<Self> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut decimal = Self::default();
        for (byte, step) in whole.bytes().map(|byte| (byte, 0)).chain(fraction.bytes().map(|byte| (byte, -1))) {
            let digit = u128::from(byte - b'0');
            if decimal.digits < 10_u128.pow(DIGITS) {
                decimal.digits = decimal.digits * 10 + digit;
                decimal.tens = decimal.tens.saturating_add(step);
            } else {
                decimal.rest |= digit > 0;
                decimal.tens = decimal.tens.saturating_add(step + 1);
            }
        }
        Some(decimal)
    }

    fn scaled(self, twos: u32, tens: i32) -> i64 {
        // At most 20 digits times 2^60: that fits.
        let amount = self.digits << twos;
        let power = self.tens.saturating_add(tens);
        let factor = 10_u128.checked_pow(power.unsigned_abs());
        let rounded = match factor {
            _ if amount == 0 => 0,
            Some(factor) if power >= 0 => amount.saturating_mul(factor).saturating_add(u128::from(self.rest)),
            None if power >= 0 => u128::MAX,
            Some(factor) => amount / factor + u128::from(self.rest || !amount.is_multiple_of(factor)),
            None => 1,
        };
        i64::try_from(rounded).unwrap_or(i64::MAX)
    }
}

/// Units of bytes, the largest first.
const BYTES: [(&str, i64); 6] =
    [("Ei", 1 << 60), ("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

fn is_of_bytes(name: &str) -> bool {
    ["memory", "storage", "hugepages"].iter().any(|of_bytes| name.contains(of_bytes))
}

/// The shortest exact form; [`parse_quantity`] reads it back.
pub fn print_quantity(name: &str, amount: i64) -> String {
    if name == CPU {
        return if amount % 1000 == 0 { (amount / 1000).to_string() } else { format!("{amount}m") };
    }
    match BYTES.iter().find(|(_, unit)| amount != 0 && amount % unit == 0) {
        Some((suffix, unit)) if is_of_bytes(name) => format!("{}{suffix}", amount / unit),
        _ => amount.to_string(),
    }
}

/// A form for people: of many bytes only the first three to six digits, rounded down.
pub(crate) fn rough_quantity(name: &str, amount: i64) -> String {
    const EXACT: usize = 7;
    let exact = print_quantity(name, amount);
    match BYTES.iter().find(|(_, unit)| amount / unit >= 100) {
        Some((suffix, unit)) if is_of_bytes(name) && exact.len() > EXACT => format!("{}{suffix}", amount / unit),
        _ => exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("cpu", "2", Some(2000))]
    #[case("cpu", "100m", Some(100))]
    #[case("cpu", "0.1", Some(100))]
    #[case("cpu", ".5", Some(500))]
    #[case("cpu", "1.", Some(1000))]
    #[case("cpu", "0.0001", Some(1))]
    #[case("cpu", "1n", Some(1))]
    #[case("cpu", "1500001u", Some(1501))]
    #[case("cpu", "+1", Some(1000))]
    #[case("memory", "128974848", Some(128_974_848))]
    #[case("memory", "129e6", Some(129_000_000))]
    #[case("memory", "129E6", Some(129_000_000))]
    #[case("memory", "12e-1", Some(2))]
    #[case("memory", "129M", Some(129_000_000))]
    #[case("memory", "123Mi", Some(123 << 20))]
    #[case("memory", "1.5Gi", Some(3 << 29))]
    #[case("memory", "128974848000m", Some(128_974_848))]
    #[case("memory", "1E", Some(1_000_000_000_000_000_000))]
    #[case("memory", "7Ei", Some(7 << 60))]
    #[case("memory", "8Ei", Some(i64::MAX))]
    #[case("memory", "-1.5", Some(-2))]
    #[case("memory", "1e99999999999", Some(i64::MAX))]
    #[case("memory", "1e-99999999999", Some(1))]
    #[case("memory", "0e99999999999", Some(0))]
    #[case("memory", "100000000000000000000000000000000000000000000000000n", Some(i64::MAX))]
    #[case("memory", "0.00000000000000000000000000000000000000000000000001Ki", Some(1))]
    #[case("pods", "110", Some(110))]
    #[case("cpu", "", None)]
    #[case("cpu", "-", None)]
    #[case("cpu", ".", None)]
    #[case("cpu", "1.2.3", None)]
    #[case("cpu", "1 ", None)]
    #[case("cpu", "1K", None)]
    #[case("cpu", "1e", None)]
    #[case("cpu", "{{inputs.parameters.cpu}}", None)]
    fn reads_quantities_as_kubernetes_does(#[case] name: &str, #[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(parse_quantity(name, text), expected);
    }

    #[rstest]
    #[case("cpu", 1500, "1500m")]
    #[case("cpu", 4000, "4")]
    #[case("memory", 64 << 20, "64Mi")]
    #[case("memory", 64_000_000, "62500Ki")]
    #[case("ephemeral-storage", 3 << 30, "3Gi")]
    #[case("pods", 1024, "1024")]
    #[case("nvidia.com/gpu", 0, "0")]
    fn prints_quantities(#[case] name: &str, #[case] amount: i64, #[case] expected: &str) {
        assert_eq!(print_quantity(name, amount), expected);
    }

    #[rstest]
    #[case("cpu", 15_890, "15890m")]
    #[case("memory", 64 << 30, "64Gi")]
    #[case("memory", 16_266_432_512, "15512Mi")]
    #[case("memory", 334_567_890_432, "311Gi")]
    #[case("memory", 101, "101")]
    #[case("example.com/pieces", 16_266_432_512, "16266432512")]
    fn prints_large_amounts_for_people(#[case] name: &str, #[case] amount: i64, #[case] expected: &str) {
        assert_eq!(rough_quantity(name, amount), expected);
    }

    fn resources(of: &[(&str, i64)]) -> Resources {
        of.iter().copied().collect()
    }

    #[test]
    fn arithmetic_is_by_name_and_saturates() {
        let mut sum = resources(&[("cpu", 1), ("memory", i64::MAX)]);
        sum.add(&resources(&[("memory", 1), ("pods", 2)]));
        assert_eq!(sum, resources(&[("cpu", 1), ("memory", i64::MAX), ("pods", 2)]));
        sum.times(3);
        assert_eq!(sum, resources(&[("cpu", 3), ("memory", i64::MAX), ("pods", 6)]));
        sum.sub(&resources(&[("cpu", 4)]));
        assert_eq!(sum.get("cpu"), -1);
        sum.max(&resources(&[("cpu", 5), ("pods", 1)]));
        assert_eq!((sum.get("cpu"), sum.get("pods")), (5, 6));
        sum.share(1, 4);
        assert_eq!((sum.get("cpu"), sum.get("pods")), (2, 2));
    }

    #[rstest]
    #[case(&[("cpu", 1000)], &[("cpu", 1000)], true)]
    #[case(&[("cpu", 1001)], &[("cpu", 1000)], false)]
    #[case(&[("gpu", 1)], &[("cpu", 1000)], false)]
    #[case(&[("gpu", 0)], &[("cpu", -5)], true)]
    #[case(&[], &[("cpu", -5)], true)]
    fn fits_where_enough_is_free(#[case] asked: &[(&str, i64)], #[case] free: &[(&str, i64)], #[case] expected: bool) {
        assert_eq!(resources(asked).fits_in(&resources(free)), expected);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(name in "cpu|memory|pods|hugepages-2Mi", amount in any::<i64>()) {
            // Millicores beyond i64 cannot be had, so the range of cpu is the same as of the others.
            let amount = amount.max(-i64::MAX);
            prop_assert_eq!(parse_quantity(&name, &print_quantity(&name, amount)), Some(amount));
        }

        #[test]
        fn any_text_is_a_quantity_or_not(name in "cpu|memory", text in ".{0,40}|[-+]?[0-9.]{0,50}([numkKMGTPE]i?|[eE][-+]?[0-9]{0,12})?") {
            let _ = parse_quantity(&name, &text);
        }
    }
}
