//! The fusion of two rankings.

use std::collections::HashMap;

use crate::model::AssetId;

/// The rank constant; the value of the paper. A larger one reduces the weight of the first ranks.
const RANK_CONSTANT: f64 = 60.0;

/// Merges two rankings by reciprocal rank fusion (Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms
/// Condorcet*, SIGIR 2009). The score of an asset is the sum of 1 / (60 + its rank) over the lists that contain it.
/// The result is sorted by descending score; ties are sorted by id.
pub(super) fn fuse(lists: [&[(AssetId, f32)]; 2]) -> Vec<(AssetId, f64)> {
    let mut scores: HashMap<AssetId, f64> = HashMap::new();
    for list in lists {
        for (rank, (id, _)) in (1_u32..).zip(list) {
            *scores.entry(*id).or_default() += 1.0 / (RANK_CONSTANT + f64::from(rank));
        }
    }
    let mut fused: Vec<_> = scores.into_iter().collect();
    fused.sort_unstable_by(|(one, one_score), (other, other_score)| {
        other_score.total_cmp(one_score).then(one.cmp(other))
    });
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuse_ranks_shared_assets_first_and_ties_by_id() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|byte| AssetId::from_bytes([byte; 16]));
        let fused = fuse([&[(d, 0.9), (b, 0.8)], &[(a, 7.0), (b, 3.0), (c, 1.0)]]);
        let expected = [
            (b, 2.0 / 62.0),
            (a, 1.0 / 61.0),
            (d, 1.0 / 61.0),
            (c, 1.0 / 63.0),
        ];
        assert_eq!(fused, expected);
        assert_eq!(fuse([&[], &[]]), []);
    }
}
