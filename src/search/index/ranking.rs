//! The best of what an index answers: only what is granted, equal ones in the order of their ids, and as many as there are.
//!
//! Two things an index cannot be asked for directly. Where many assets are granted, a list of them costs more than
//! looking further and leaving out the others here. And where several are equally good and not all fit, an index takes any of
//! them: so it is asked for more, until it is clear which ids are the first.

use std::cmp::Ordering;

use crate::catalog::Visible;
use crate::model::AssetId;

/// Asked for beyond what is needed, to see whether the last ones have equals.
const MORE: usize = 32;
/// How much more is asked for when it did not suffice.
const GROWTH: usize = 8;

/// How far it is gone for the best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// So many granted assets are named in the question at once. The cost grows with them: an index looks each of them up,
    /// several times.
    pub named: usize,
    /// No more are asked for to find out about equals, or in order not to name the granted assets.
    pub count: usize,
}

/// How an index is asked for its best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether the granted assets are named in the question; otherwise, those that are not are left out of the answer.
    pub named: bool,
    /// How many are asked for.
    pub count: usize,
}

/// Asks for the best, as often as it takes.
#[derive(Debug)]
pub(super) struct Ranking<'a> {
    granted: &'a Visible,
    limit: usize,
    bounds: Bounds,
    asked: Asked,
    got: Vec<(AssetId, f32)>,
}

impl<'a> Ranking<'a> {
    /// For the best `limit` of an index that has `points`.
    pub fn new(granted: &'a Visible, limit: usize, points: usize, bounds: Bounds) -> Self {
        let enough = limit.saturating_add(MORE);
        let asked = match granted {
            Visible::All => Asked {
                named: false,
                count: enough,
            },
            Visible::Only(ids) => {
                // As many as have the limit among them, were the granted ones spread evenly; and a quarter more.
                let spread = points.saturating_mul(limit) / ids.len().max(1);
                let count = spread.saturating_add(spread / 4).saturating_add(MORE);
                match ids.len() <= bounds.named || count > bounds.count {
                    true => Asked {
                        named: true,
                        count: enough,
                    },
                    false => Asked {
                        named: false,
                        count: count.max(enough),
                    },
                }
            }
        };
        Self {
            granted,
            limit,
            bounds,
            asked,
            got: Vec::new(),
        }
    }

    /// What to ask next.
    pub fn asked(&self) -> Asked {
        self.asked
    }

    /// Takes an answer, and says whether the best are known.
    pub fn take(&mut self, answer: Vec<(AssetId, f32)>) -> bool {
        let is_all = answer.len() < self.asked.count;
        let worst = answer
            .iter()
            .map(|(_, score)| *score)
            .min_by(f32::total_cmp);
        self.got = answer;
        self.got.retain(|(id, _)| self.granted.contains(*id));
        self.got.sort_unstable_by(best_first);
        if is_all {
            return true;
        }
        let last = self.limit.checked_sub(1).and_then(|at| self.got.get(at));
        let Some((_, last)) = last else {
            if self.asked.named || matches!(self.granted, Visible::All) {
                return true;
            }
            // The granted ones are not near the top.
            self.asked = Asked {
                named: true,
                count: self.limit.saturating_add(MORE),
            };
            return false;
        };
        if worst.is_some_and(|worst| worst < *last) || self.asked.count >= self.bounds.count {
            return true;
        }
        self.asked.count = self
            .asked
            .count
            .saturating_mul(GROWTH)
            .min(self.bounds.count);
        false
    }

    /// The best, when they are known.
    pub fn best(mut self) -> Vec<(AssetId, f32)> {
        self.got.truncate(self.limit);
        self.got
    }
}

fn best_first(a: &(AssetId, f32), b: &(AssetId, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}

/// A score of words to five digits. Equal documents differ beyond: their terms are added up in an order that depends on
/// where they are stored.
pub(super) fn five_digits(score: f32) -> f32 {
    const BEYOND: u32 = 0x1f;
    match score.is_finite() && score > 0.0 {
        true => f32::from_bits((score.to_bits() + BEYOND.div_ceil(2)) & !BEYOND),
        false => score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> AssetId {
        AssetId::from_bytes((number as u128).to_be_bytes())
    }

    /// Asks an index that breaks ties by whatever is last until the best are known; says how often.
    fn ask(
        index: &[(AssetId, f32)],
        granted: &Visible,
        limit: usize,
        most: usize,
    ) -> (Vec<(AssetId, f32)>, usize) {
        let bounds = Bounds {
            named: 8_000,
            count: most,
        };
        let mut ranking = Ranking::new(granted, limit, index.len(), bounds);
        for times in 1.. {
            let asked = ranking.asked();
            let mut answer: Vec<_> = index.to_vec();
            if asked.named {
                answer.retain(|(id, _)| granted.contains(*id));
            }
            answer.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
            answer.truncate(asked.count);
            if ranking.take(answer) {
                return (ranking.best(), times);
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn of_equals_the_first_ids_are_taken_however_many_there_are() {
        let index: Vec<_> = (0..5_000).map(|number| (id(number), 1.0)).collect();
        let (best, times) = ask(&index, &Visible::All, 10, 20_000);
        let expected: Vec<_> = (0..10).map(|number| (id(number), 1.0)).collect();
        assert_eq!(best, expected);
        assert!(times <= 4, "{times}");
        // Where that would be too many, they are any.
        assert_eq!(ask(&index, &Visible::All, 10, 1_000).0.len(), 10);
    }

    #[test]
    fn many_that_are_granted_are_found_near_the_top_or_by_name() {
        let index: Vec<_> = (0..40_000)
            .map(|number| (id(number), number as f32))
            .collect();
        let halves = |odd: usize| {
            Visible::Only(
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
        // All of them are at the end.
        let last = Visible::Only((0..10_000).map(id).collect());
        let (best, times) = ask(&index, &last, 3, 2_000);
        assert_eq!(times, 2);
        assert_eq!(best.first(), Some(&(id(9_999), 9_999.0)));
    }

    #[test]
    fn few_are_named_and_all_of_them_found() {
        let index: Vec<_> = (0..100).map(|number| (id(number), 0.5)).collect();
        let few = Visible::Only(vec![id(7), id(9), id(200)]);
        let (best, times) = ask(&index, &few, 10, 1_000);
        assert_eq!((best.len(), times), (2, 1));
        assert_eq!(ask(&index, &few, 1, 1_000).0, [(id(7), 0.5)]);
    }

    #[test]
    fn the_order_of_adding_up_does_not_show() {
        let parts = [0.1f32, 2.3, 4.7, 0.003, 1.9];
        let forward: f32 = parts.iter().sum();
        let backward: f32 = parts.iter().rev().sum();
        assert_eq!(five_digits(forward), five_digits(backward));
        assert!((five_digits(forward) - forward).abs() < 1e-4);
        assert_eq!(five_digits(0.0), 0.0);
    }
}
