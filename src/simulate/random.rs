//! Pseudo-random numbers that depend only on the seed: never on time, threads or the machine.

use fastrand::Rng;
use uuid::Builder;

use crate::model::AssetId;

/// Mixes the bits of `x` with the finaliser of splitmix64: similar inputs give unrelated outputs.
pub(super) const fn mix_bits(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns a short digest of `bytes` (FNV-1a), which shows whether a file was changed. It does not protect against
/// deliberate changes.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the key of the object `name` in the plant of `seed`; all its properties are derived from the key.
///
/// The key is derived from the name instead of a counter, so that objects that a small and a large plant of one seed
/// share have the same id in both.
pub(super) fn key(seed: u64, name: &str) -> u64 {
    mix_bits(mix_bits(seed) ^ fingerprint(name.as_bytes()))
}

/// Returns the id for `key`, a UUID of version 4.
pub(super) fn asset_id(key: u64) -> AssetId {
    let (high, low) = (mix_bits(key ^ 1), mix_bits(key ^ 2));
    let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
    Builder::from_random_bytes(bytes).into_uuid().into()
}

/// Returns a generator for one purpose of the object with `key`; the generators of different purposes are
/// independent.
pub(super) fn generator(key: u64, purpose: &str) -> Rng {
    Rng::with_seed(mix_bits(key ^ fingerprint(purpose.as_bytes())))
}

/// Returns an approximately normal number with mean 0 and standard deviation 1, within ±3.5: the sum of four uniform
/// 16-bit numbers from one draw. It is much cheaper than an exact method. The missing tails are those that the filter
/// of a real sensor removes.
#[inline]
pub(super) fn gauss(rng: &mut Rng) -> f64 {
    const MEAN: f64 = 2.0 * 65_535.0;
    // Each uniform number has the variance (65536² - 1) / 12, so the variance of the sum is a third of 65536².
    const PER_DEVIATION: f64 = 1.732_050_807_568_877_2 / 65_536.0;
    let bits = rng.u64(..);
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    (sum as f64 - MEAN) * PER_DEVIATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_stable_across_versions() {
        // If a new version of a dependency changes these numbers, every seed gives other data.
        assert_eq!(
            (
                key(1, "TT-101"),
                generator(1, "noise").u64(..),
                asset_id(1).to_string()
            ),
            (
                11_136_091_302_088_064_542,
                16_314_549_008_219_964_398,
                "e220a839-7b1d-4daf-9d0b-14e4db018fed".to_owned()
            )
        );
    }

    #[test]
    fn gauss_has_mean_zero_and_deviation_one() {
        let mut rng = generator(7, "test");
        let values: Vec<f64> = (0..1_000_000).map(|_| gauss(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / 1e6;
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / 1e6;
        assert!(
            mean.abs() < 0.005 && (variance - 1.0).abs() < 0.005,
            "{mean} {variance}"
        );
    }
}
