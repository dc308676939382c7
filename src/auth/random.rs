//! Random bytes.

use super::error::AuthError;

/// Returns random bytes from the operating system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthError::NoRandomness)?;
    Ok(bytes)
}
