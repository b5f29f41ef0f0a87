//! A logarithm that has the same bits on every machine.
//!
//! Weighted rendezvous compares logarithms of hashes. The standard library takes them from the platform, which may round
//! differently: two balancers would then, once in a long while, send a key to different backends. IEEE additions,
//! multiplications and divisions round alike everywhere.

const MANTISSA_BITS: u32 = 52;

/// The bits of the square root of one half: mantissas are brought above it, so that the series converges fast.
const HALF_SQRT_2: u64 = 0x3fe6_a09e_667f_3bcd;

/// `-ln(x)` for `x` from 2^-1000 to 1, to a relative error of 1e-13.
///
/// With `x = m * 2^e` and `s = (m - 1) / (m + 1)`, it is `-e ln 2 - 2 (s + s^3/3 + s^5/5 + ...)`.
#[inline]
pub(super) fn negative_ln(x: f64) -> f64 {
    let bits = x.to_bits().wrapping_sub(HALF_SQRT_2);
    #[allow(clippy::cast_possible_wrap, reason = "the exponent's bits; the sign is shifted along")]
    let exponent = (bits as i64) >> MANTISSA_BITS;
    let mantissa = f64::from_bits((bits & ((1 << MANTISSA_BITS) - 1)).wrapping_add(HALF_SQRT_2));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let odd = 1.0 / 13.0 + z * (1.0 / 15.0 + z * (1.0 / 17.0));
    let series =
        1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z * odd)))));
    #[allow(clippy::cast_precision_loss, reason = "an exponent has 11 bits")]
    let exponent = exponent as f64;
    // From 0, so that the logarithm of 1 has no sign: callers compare the bits.
    0.0 - (exponent * std::f64::consts::LN_2 + 2.0 * s * series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn agrees_with_the_platform() {
        let mut rng = Rng::new(1);
        let near_one = (1..60).map(|bits| 1.0 - 0.5_f64.powi(bits));
        let small = (0..1_000).map(|bits| 0.5_f64.powi(bits) * 0.75);
        let any = (0..10_000).map(|_| (1 + rng.below(1 << 53)) as f64 / (1_u64 << 53) as f64);
        for x in near_one.chain(small).chain(any) {
            let (ours, theirs) = (negative_ln(x), -x.ln());
            assert!((ours - theirs).abs() <= 1e-13 * theirs, "-ln({x}) is {theirs}, not {ours}");
        }
        assert_eq!(negative_ln(1.0).to_bits(), 0.0_f64.to_bits());
    }
}
