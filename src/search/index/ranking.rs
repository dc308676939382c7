//! The best results of an index, restricted to granted assets, with ties in the order of their ids.
//!
//! An index does not support two of these requirements directly. With many granted assets, a filter that lists them
//! costs more than a longer result from which the others are removed here. And if several results tie at the limit,
//! an index returns an arbitrary subset, so more results are requested until the first ids are certain.

use std::cmp::Ordering;

use crate::catalog::VisibleAssets;
use crate::model::AssetId;

/// The number of additional results that are requested to detect ties at the limit.
const TIE_MARGIN: usize = 32;
/// The factor by which a request grows if its results did not suffice.
const GROWTH_FACTOR: usize = 8;

/// The limits of requests to an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLimits {
    /// The maximum number of granted assets that a filter lists by default. Its cost grows with them, because an
    /// index looks up each one several times.
    pub max_listed: usize,
    /// The maximum number of results that are requested to resolve ties or to avoid a filter.
    pub max_results: usize,
}

/// A request to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RankingRequest {
    /// Whether a filter lists the granted assets. Otherwise, other assets are removed from the results.
    pub is_filtered: bool,
    /// The number of requested results.
    pub count: usize,
}

/// The state of a ranking, which can take several requests.
#[derive(Debug)]
pub(super) struct Ranking<'a> {
    granted: &'a VisibleAssets,
    limit: usize,
    bounds: RequestLimits,
    next: RankingRequest,
    results: Vec<(AssetId, f32)>,
}

impl<'a> Ranking<'a> {
    /// Creates a ranking of the best `limit` results of an index with `points` points.
    pub fn new(
        granted: &'a VisibleAssets,
        limit: usize,
        points: usize,
        bounds: RequestLimits,
    ) -> Self {
        let enough = limit.saturating_add(TIE_MARGIN);
        let asked = match granted {
            VisibleAssets::All => RankingRequest {
                is_filtered: false,
                count: enough,
            },
            VisibleAssets::Only(ids) => {
                // The number of results that contain `limit` granted assets if those are spread evenly, plus a
                // quarter.
                let spread = points.saturating_mul(limit) / ids.len().max(1);
                let count = spread.saturating_add(spread / 4).saturating_add(TIE_MARGIN);
                match ids.len() <= bounds.max_listed || count > bounds.max_results {
                    true => RankingRequest {
                        is_filtered: true,
                        count: enough,
                    },
                    false => RankingRequest {
                        is_filtered: false,
                        count: count.max(enough),
                    },
                }
            }
        };
        Self {
            granted,
            limit,
            bounds,
            next: asked,
            results: Vec::new(),
        }
    }

    /// Returns the next request.
    pub fn next_request(&self) -> RankingRequest {
        self.next
    }

    /// Accepts the results of a request. Returns whether the ranking is complete.
    pub fn accept(&mut self, answer: Vec<(AssetId, f32)>) -> bool {
        let is_all = answer.len() < self.next.count;
        let worst = answer
            .iter()
            .map(|(_, score)| *score)
            .min_by(f32::total_cmp);
        self.results = answer;
        self.results.retain(|(id, _)| self.granted.contains(*id));
        self.results.sort_unstable_by(best_first);
        if is_all {
            return true;
        }
        let last = self
            .limit
            .checked_sub(1)
            .and_then(|at| self.results.get(at));
        let Some((_, last)) = last else {
            if self.next.is_filtered || matches!(self.granted, VisibleAssets::All) {
                return true;
            }
            // Too few granted assets are among the best results.
            self.next = RankingRequest {
                is_filtered: true,
                count: self.limit.saturating_add(TIE_MARGIN),
            };
            return false;
        };
        if worst.is_some_and(|worst| worst < *last) || self.next.count >= self.bounds.max_results {
            return true;
        }
        self.next.count = self
            .next
            .count
            .saturating_mul(GROWTH_FACTOR)
            .min(self.bounds.max_results);
        false
    }

    /// Returns the best results of a complete ranking.
    pub fn into_results(mut self) -> Vec<(AssetId, f32)> {
        self.results.truncate(self.limit);
        self.results
    }
}

fn best_first(a: &(AssetId, f32), b: &(AssetId, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}

/// Rounds a BM25 score to five digits. Equal documents differ in further digits, because their terms are added in an
/// order that depends on where they are stored.
pub(super) fn round_to_five_digits(score: f32) -> f32 {
    const ROUNDED_BITS: u32 = 0x1f;
    match score.is_finite() && score > 0.0 {
        true => f32::from_bits((score.to_bits() + ROUNDED_BITS.div_ceil(2)) & !ROUNDED_BITS),
        false => score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> AssetId {
        AssetId::from_bytes((number as u128).to_be_bytes())
    }

    /// Queries an index that breaks ties in descending order of ids until the ranking is complete. Returns the number
    /// of requests, too.
    fn ask(
        index: &[(AssetId, f32)],
        granted: &VisibleAssets,
        limit: usize,
        most: usize,
    ) -> (Vec<(AssetId, f32)>, usize) {
        let bounds = RequestLimits {
            max_listed: 8_000,
            max_results: most,
        };
        let mut ranking = Ranking::new(granted, limit, index.len(), bounds);
        for times in 1.. {
            let asked = ranking.next_request();
            let mut answer: Vec<_> = index.to_vec();
            if asked.is_filtered {
                answer.retain(|(id, _)| granted.contains(*id));
            }
            answer.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
            answer.truncate(asked.count);
            if ranking.accept(answer) {
                return (ranking.into_results(), times);
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn ranking_of_ties_returns_first_ids() {
        let index: Vec<_> = (0..5_000).map(|number| (id(number), 1.0)).collect();
        let (best, times) = ask(&index, &VisibleAssets::All, 10, 20_000);
        let expected: Vec<_> = (0..10).map(|number| (id(number), 1.0)).collect();
        assert_eq!(best, expected);
        assert!(times <= 4, "{times}");
        // Beyond the maximum, any of them are returned.
        assert_eq!(ask(&index, &VisibleAssets::All, 10, 1_000).0.len(), 10);
    }

    #[test]
    fn ranking_of_many_granted_falls_back_to_filter() {
        let index: Vec<_> = (0..40_000)
            .map(|number| (id(number), number as f32))
            .collect();
        let halves = |odd: usize| {
            VisibleAssets::Only(
                (0..40_000)
                    .filter(|n| n % 2 == odd)
                    .map(id)
                    .collect::<Vec<_>>(),
            )
        };
        let (best, times) = ask(&index, &halves(0), 3, 2_000);
        assert_eq!(times, 1);
        let ids: Vec<_> = best.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [id(39_998), id(39_996), id(39_994)]);
        // All granted assets are at the end.
        let last = VisibleAssets::Only((0..10_000).map(id).collect());
        let (best, times) = ask(&index, &last, 3, 2_000);
        assert_eq!(times, 2);
        assert_eq!(best.first(), Some(&(id(9_999), 9_999.0)));
    }

    #[test]
    fn ranking_of_few_granted_returns_all_by_filter() {
        let index: Vec<_> = (0..100).map(|number| (id(number), 0.5)).collect();
        let few = VisibleAssets::Only(vec![id(7), id(9), id(200)]);
        let (best, times) = ask(&index, &few, 10, 1_000);
        assert_eq!((best.len(), times), (2, 1));
        assert_eq!(ask(&index, &few, 1, 1_000).0, [(id(7), 0.5)]);
    }

    #[test]
    fn round_to_five_digits_hides_the_order_of_summation() {
        let parts = [0.1f32, 2.3, 4.7, 0.003, 1.9];
        let forward: f32 = parts.iter().sum();
        let backward: f32 = parts.iter().rev().sum();
        assert_eq!(
            round_to_five_digits(forward),
            round_to_five_digits(backward)
        );
        assert!((round_to_five_digits(forward) - forward).abs() < 1e-4);
        assert_eq!(round_to_five_digits(0.0), 0.0);
    }
}
