//! Tokenisation of texts into word pieces.

use rayon::prelude::*;
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use super::batches::TokenisedText;
use super::bert::Config;
use super::error::ModelError;
use super::files::{CONFIG, Files, TOKENIZER};

/// The maximum number of bytes of a text that are tokenised. No model reads that many, unless nearly all of them are
/// blanks.
const MAX_TEXT_BYTES: usize = 1 << 17;
/// The minimum limit of tokens. With less, special tokens leave no room for text.
const MIN_TOKENS: usize = 8;

/// The tokenizer of a model.
#[derive(Debug)]
pub(super) struct ModelTokenizer {
    tokenizer: Tokenizer,
    /// The maximum number of tokens of a text or a pair, including special tokens.
    max_tokens: usize,
}

impl ModelTokenizer {
    /// Opens the tokenizer of a model that reads at most `most` tokens of a text or a pair.
    pub fn open(files: &Files, config: &Config, most: usize) -> Result<Self, ModelError> {
        let wrong = |error| {
            files.damaged(
                TOKENIZER,
                format!("is not a tokenizer ({})", first_line(error)),
            )
        };
        let mut tokenizer = Tokenizer::from_bytes(files.read(TOKENIZER)?).map_err(wrong)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= config.vocab_size {
            let problem = format!(
                "has {} tokens, but the vocabulary of the model has {}",
                largest + 1,
                config.vocab_size
            );
            return Err(files.damaged(TOKENIZER, problem));
        }
        if most < MIN_TOKENS {
            let problem =
                format!("the model reads only {most} tokens; the minimum is {MIN_TOKENS}");
            return Err(files.unsupported(CONFIG, problem));
        }
        // Padding and truncation in the file are settings of the model's author, and do not apply here.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        let tokens = Self {
            tokenizer,
            max_tokens: most,
        };
        let pair = tokens
            .encode("")
            .and_then(|none| tokens.tokenise_pair("", &none));
        for marks in [tokens.tokenise_text(""), pair] {
            let marks = marks.map_err(|problem| files.damaged(TOKENIZER, problem))?;
            let types = marks
                .types
                .iter()
                .max()
                .map_or(0, |most| *most as usize + 1);
            if marks.ids.is_empty() || marks.ids.len() >= most {
                let problem = format!("adds {} special tokens to a text", marks.ids.len());
                return Err(files.unsupported(TOKENIZER, problem));
            }
            if types > config.type_vocab_size {
                let problem = format!(
                    "`type_vocab_size` is {}, but the tokenizer has {types} types",
                    config.type_vocab_size
                );
                return Err(files.unsupported(CONFIG, problem));
            }
        }
        Ok(tokens)
    }

    /// Returns the tokens of each text.
    pub fn tokenise_texts(&self, texts: &[&str]) -> Result<Vec<TokenisedText>, String> {
        texts
            .par_iter()
            .map(|text| self.tokenise_text(text))
            .collect()
    }

    /// Returns the tokens of the query paired with each text.
    pub fn tokenise_pairs(
        &self,
        query: &str,
        texts: &[&str],
    ) -> Result<Vec<TokenisedText>, String> {
        let query = self.encode(query)?;
        texts
            .par_iter()
            .map(|text| self.tokenise_pair(text, &query))
            .collect()
    }

    fn tokenise_text(&self, text: &str) -> Result<TokenisedText, String> {
        self.truncate(self.encode(text)?, None)
    }

    fn tokenise_pair(&self, text: &str, query: &Encoding) -> Result<TokenisedText, String> {
        self.truncate(query.clone(), Some(self.encode(text)?))
    }

    /// Returns all tokens of a text, without special tokens.
    fn encode(&self, text: &str) -> Result<Encoding, String> {
        self.tokenizer
            .encode_fast(bounded_prefix(text), false)
            .map_err(first_line)
    }

    /// Truncates a text or a pair to the maximum, shortening the longer text first, and adds special tokens.
    ///
    /// The tokenizer can truncate by itself. But newer versions truncate both texts before comparing them, which
    /// divides the tokens differently from the models' training.
    fn truncate(&self, first: Encoding, second: Option<Encoding>) -> Result<TokenisedText, String> {
        let marks = self.tokenizer.get_post_processor();
        let marks = marks.map_or(0, |processor| processor.added_tokens(second.is_some()));
        let truncation = TruncationParams {
            max_length: self.max_tokens.saturating_sub(marks),
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        let (first, second) = truncate_encodings(first, second, &truncation).map_err(first_line)?;
        let whole = self
            .tokenizer
            .post_process(first, second, true)
            .map_err(first_line)?;
        Ok(TokenisedText {
            ids: whole.get_ids().to_vec(),
            types: whole.get_type_ids().to_vec(),
        })
    }
}

/// Returns the part of a text that is tokenised.
fn bounded_prefix(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES))
        .unwrap_or(text)
}

fn first_line(error: tokenizers::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_prefix_cuts_at_a_character_boundary() {
        let long = "é".repeat(MAX_TEXT_BYTES);
        assert_eq!(bounded_prefix(&long).len(), MAX_TEXT_BYTES);
        assert_eq!(
            bounded_prefix(&format!("a{long}")).len(),
            MAX_TEXT_BYTES - 1
        );
        assert_eq!(bounded_prefix("short"), "short");
    }
}
