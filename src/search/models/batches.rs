//! Batches of texts for parallel execution.
//!
//! Each core computes its own batch from the first layer to the last. With a shared batch, the cores would wait for
//! each other several hundred times. At most as many batches as cores are in progress at a time, which bounds the
//! memory.

use std::ops::Range;

use rayon::prelude::*;

use super::device::device;
use super::error::ModelError;

/// The maximum number of tokens on all cores together. A layer needs about 20 KiB of memory per token.
const MAX_TOKENS_IN_FLIGHT: usize = 16_384;
/// The maximum number of tokens of a batch. A larger one gains nothing and takes longer to cancel.
const MAX_BATCH_TOKENS: usize = 2_048;

/// The tokens of a text or of a pair.
#[derive(Debug)]
pub(super) struct TokenisedText {
    /// The ids in the vocabulary.
    pub ids: Vec<u32>,
    /// For each token, the index of its text in the pair.
    pub types: Vec<u32>,
}

/// Texts concatenated without padding.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The indices of the texts in the input.
    texts: Vec<usize>,
    /// The range of each text's tokens.
    pub spans: Vec<Range<usize>>,
    /// The ids of all tokens.
    pub ids: Vec<u32>,
    /// For each token, the index of its text in a pair.
    pub types: Vec<u32>,
}

impl Batch {
    fn add(&mut self, text: usize, pieces: &TokenisedText) {
        let begin = self.ids.len();
        self.ids.extend(&pieces.ids);
        self.types.extend(&pieces.types);
        self.texts.push(text);
        self.spans.push(begin..self.ids.len());
    }
}

/// Runs a model on texts, on all cores. `run` returns one result for each text of a batch.
pub(super) fn run<T: Send>(
    texts: &[TokenisedText],
    run: impl Fn(&Batch) -> Result<Vec<T>, ModelError> + Sync,
) -> Result<Vec<T>, ModelError> {
    let cores = match device().is_cpu() {
        true => rayon::current_num_threads(),
        false => 1,
    };
    let mut made: Vec<(usize, T)> = Vec::with_capacity(texts.len());
    // Batches run in rounds: a core that waits within a batch would otherwise start another batch.
    for round in batches(texts, cores).chunks(cores) {
        let all: Vec<Vec<T>> = round.par_iter().map(&run).collect::<Result<_, _>>()?;
        for (batch, of_batch) in round.iter().zip(all) {
            made.extend(batch.texts.iter().copied().zip(of_batch));
        }
    }
    made.sort_unstable_by_key(|(text, _)| *text);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

/// Splits texts into batches with about the same numbers of tokens. The number of batches is a multiple of the cores,
/// unless there are fewer texts.
fn batches(texts: &[TokenisedText], cores: usize) -> Vec<Batch> {
    let total: usize = texts.iter().map(|pieces| pieces.ids.len()).sum();
    let most = (MAX_TOKENS_IN_FLIGHT / cores).clamp(1, MAX_BATCH_TOKENS);
    let count = cores * total.div_ceil(cores * most);
    let mut batches: Vec<Batch> = Vec::new();
    batches.resize_with(count.min(texts.len()), Batch::default);
    // The longest texts come first, and each goes to the smallest batch, which balances the sizes.
    let mut longest: Vec<(usize, &TokenisedText)> = texts.iter().enumerate().collect();
    longest.sort_by_key(|(_, pieces)| std::cmp::Reverse(pieces.ids.len()));
    for (text, pieces) in longest {
        if let Some(batch) = batches.iter_mut().min_by_key(|batch| batch.ids.len()) {
            batch.add(text, pieces);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lengths: impl IntoIterator<Item = usize>) -> Vec<TokenisedText> {
        let pieces = |length| TokenisedText {
            ids: vec![1; length],
            types: vec![0; length],
        };
        lengths.into_iter().map(pieces).collect()
    }

    #[test]
    fn batches_contain_every_text_once_and_are_balanced() {
        let mut random = fastrand::Rng::with_seed(1);
        for (count, cores) in [(0, 2), (1, 2), (3, 8), (20, 2), (1_000, 2), (1_000, 64)] {
            let texts = texts((0..count).map(|_| random.usize(2..=512)));
            let batches = batches(&texts, cores);
            assert!(batches.len() <= count);
            let mut seen: Vec<usize> = batches
                .iter()
                .flat_map(|batch| batch.texts.clone())
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
            for batch in &batches {
                for (text, span) in batch.texts.iter().zip(&batch.spans) {
                    assert_eq!(span.len(), texts[*text].ids.len());
                }
            }
            let sizes = || batches.iter().map(|batch| batch.ids.len());
            if count > cores {
                let (least, most) = (sizes().min().unwrap(), sizes().max().unwrap());
                assert!(
                    most - least <= 512 && most <= MAX_BATCH_TOKENS + 512,
                    "{least} to {most}"
                );
                assert!(
                    most * cores <= MAX_TOKENS_IN_FLIGHT + 512 * cores,
                    "{most} on {cores} cores"
                );
            }
        }
    }

    #[test]
    fn run_returns_results_in_order_of_texts() {
        let texts = texts((0..500).map(|at| 2 + at * 7 % 31));
        let lengths = run(&texts, |batch| {
            Ok(batch.spans.iter().map(Range::len).collect())
        })
        .unwrap();
        assert_eq!(
            lengths,
            texts.iter().map(|text| text.ids.len()).collect::<Vec<_>>()
        );
        let stopped = run(&texts, |_| Err::<Vec<()>, _>(ModelError::Cancelled));
        assert!(matches!(stopped, Err(ModelError::Cancelled)));
    }
}
