//! A text's word pieces.

use rayon::prelude::*;
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use super::ModelError;
use super::bert::Config;
use super::files::{CONFIG, Files, TOKENIZER};

/// Bytes of a text that are looked at. No model reads so many, unless they are nearly all blanks.
const LONGEST_TEXT: usize = 1 << 17;
/// With less, no text is left beside the marks around it.
const LEAST_TOKENS: usize = 8;

/// Turns texts into word pieces.
#[derive(Debug)]
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// How many there may be of a text or a pair, the marks around them included.
    most: usize,
}

/// The word pieces of a text, or of a pair.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Their numbers in the vocabulary.
    pub ids: Vec<u32>,
    /// To which of the two texts each belongs.
    pub types: Vec<u32>,
}

impl Tokens {
    /// The tokenizer of a model, which reads so many word pieces of a text, or of a pair, at most.
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
                "has {} word pieces, and the model {}: they do not belong together",
                largest + 1,
                config.vocab_size
            );
            return Err(files.damaged(TOKENIZER, problem));
        }
        if most < LEAST_TOKENS {
            let problem = format!("only {most} word pieces of a text would be read");
            return Err(files.unsupported(CONFIG, problem));
        }
        // What the file says of both is for its maker's purposes.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        let tokens = Self { tokenizer, most };
        let pair = tokens.raw("").and_then(|none| tokens.pair("", &none));
        for marks in [tokens.text(""), pair] {
            let marks = marks.map_err(|problem| files.damaged(TOKENIZER, problem))?;
            let types = marks
                .types
                .iter()
                .max()
                .map_or(0, |most| *most as usize + 1);
            if marks.ids.is_empty() || marks.ids.len() >= most {
                let problem = format!("puts {} marks around a text", marks.ids.len());
                return Err(files.unsupported(TOKENIZER, problem));
            }
            if types > config.type_vocab_size {
                let problem = format!(
                    "`type_vocab_size` is {}, and the tokenizer tells {types} apart",
                    config.type_vocab_size
                );
                return Err(files.unsupported(CONFIG, problem));
            }
        }
        Ok(tokens)
    }

    /// The word pieces of texts.
    pub fn of_texts(&self, texts: &[&str]) -> Result<Vec<Pieces>, String> {
        texts.par_iter().map(|text| self.text(text)).collect()
    }

    /// The word pieces of a query with each of the texts.
    pub fn of_pairs(&self, query: &str, texts: &[&str]) -> Result<Vec<Pieces>, String> {
        let query = self.raw(query)?;
        texts
            .par_iter()
            .map(|text| self.pair(text, &query))
            .collect()
    }

    fn text(&self, text: &str) -> Result<Pieces, String> {
        self.cut(self.raw(text)?, None)
    }

    fn pair(&self, text: &str, query: &Encoding) -> Result<Pieces, String> {
        self.cut(query.clone(), Some(self.raw(text)?))
    }

    /// All word pieces of a text, without marks.
    fn raw(&self, text: &str) -> Result<Encoding, String> {
        self.tokenizer
            .encode_fast(beginning(text), false)
            .map_err(first_line)
    }

    /// As many as may be, of the longer of the two first, with marks.
    ///
    /// The tokenizer would do it, too. But newer versions cut both before they compare them, and so share otherwise than models
    /// were made with.
    fn cut(&self, first: Encoding, second: Option<Encoding>) -> Result<Pieces, String> {
        let marks = self.tokenizer.get_post_processor();
        let marks = marks.map_or(0, |processor| processor.added_tokens(second.is_some()));
        let truncation = TruncationParams {
            max_length: self.most.saturating_sub(marks),
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        let (first, second) = truncate_encodings(first, second, &truncation).map_err(first_line)?;
        let whole = self
            .tokenizer
            .post_process(first, second, true)
            .map_err(first_line)?;
        Ok(Pieces {
            ids: whole.get_ids().to_vec(),
            types: whole.get_type_ids().to_vec(),
        })
    }
}

/// As much of a text as is looked at.
fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
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
    fn a_text_is_cut_between_characters() {
        let long = "é".repeat(LONGEST_TEXT);
        assert_eq!(beginning(&long).len(), LONGEST_TEXT);
        assert_eq!(beginning(&format!("a{long}")).len(), LONGEST_TEXT - 1);
        assert_eq!(beginning("short"), "short");
    }
}
