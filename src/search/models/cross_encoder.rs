//! The cross-encoder: scores how well a text answers a query, reading both together.

use std::path::{Path, PathBuf};

use candle_core::Result;
use serde::Deserialize;

use super::batches::{self, Batch};
use super::bert::{Bert, Config, Dense, Tensors, first_line};
use super::device::device;
use super::error::ModelError;
use super::files::{CONFIG, Files, TOKENIZER_CONFIG, WEIGHTS};
use super::tokenizer::ModelTokenizer;
use crate::search::cancellation::CancellationFlag;

/// The maximum number of tokens of a query and a text together.
const MAX_TOKENS: usize = 512;

/// A sequence classifier with one output, as `BertForSequenceClassification` saves it.
#[derive(Debug)]
pub struct CrossEncoder {
    folder: PathBuf,
    fingerprint: String,
    tokens: ModelTokenizer,
    bert: Bert,
    pooler: Dense,
    classifier: Dense,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    /// Can exceed all integers, which means "unlimited".
    model_max_length: Option<f64>,
}

impl CrossEncoder {
    /// Loads the model in a folder. Files are verified against the record of hashes, if there is one.
    pub fn load(folder: &Path) -> std::result::Result<Self, ModelError> {
        Self::open(&Files::open(folder)?)
    }

    pub(super) fn open(files: &Files) -> std::result::Result<Self, ModelError> {
        let config = Config::open(files)?;
        let one_label = |file, labels| match labels {
            None | Some(1) => Ok(()),
            Some(labels) => Err(files.unsupported(
                file,
                format!("the model has {labels} labels, but a cross-encoder must have one output"),
            )),
        };
        one_label(CONFIG, config.labels())?;
        let most = match files.read_optional(TOKENIZER_CONFIG)? {
            Some(content) => {
                files
                    .json::<TokenizerConfig>(TOKENIZER_CONFIG, &content)?
                    .model_max_length
            }
            None => None,
        };
        // The cast saturates.
        let most = most.map_or(MAX_TOKENS, |most| most as usize);
        let most = most.min(MAX_TOKENS).min(config.max_position_embeddings);
        let tokens = ModelTokenizer::open(files, &config, most)?;
        let (mapped, fingerprint) = files.weights()?;
        let tensors = Tensors::open(files, &mapped)?;
        one_label(WEIGHTS, tensors.rows("classifier.weight"))?;
        let hidden = config.hidden_size;
        let failed = |error| tensors.failed(error);
        Ok(Self {
            folder: files.folder().to_owned(),
            fingerprint,
            tokens,
            bert: Bert::load(&tensors, &config)?,
            pooler: Dense::new(
                &tensors.get(&[hidden, hidden], "pooler.dense.weight")?,
                tensors.get(&[hidden], "pooler.dense.bias")?,
            )
            .map_err(failed)?,
            classifier: Dense::new(
                &tensors.get_unprefixed(&[1, hidden], "classifier.weight")?,
                tensors.get_unprefixed(&[1], "classifier.bias")?,
            )
            .map_err(failed)?,
        })
    }

    /// Returns the SHA-256 of the weights, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns a logit for each text; a greater one means a better answer. The result of a text does not depend on
    /// the other texts.
    ///
    /// Blocks, and uses all cores. Cancellation takes effect within a fraction of a second.
    pub fn score(
        &self,
        query: &str,
        texts: &[&str],
        stop: &CancellationFlag,
    ) -> std::result::Result<Vec<f32>, ModelError> {
        let failed = |problem| ModelError::Run {
            folder: self.folder.clone(),
            problem,
        };
        device().with_context(|| {
            let pairs = self.tokens.tokenise_pairs(query, texts).map_err(failed)?;
            batches::run(&pairs, |batch| {
                let logits = self.logits(batch, stop);
                let logits = logits.map_err(|error| failed(first_line(&error)))?;
                logits.ok_or(ModelError::Cancelled)
            })
        })
    }

    fn logits(&self, batch: &Batch, stop: &CancellationFlag) -> Result<Option<Vec<f32>>> {
        let Some(first) = self.bert.first_states(batch, stop)? else {
            return Ok(None);
        };
        let pooled = self.pooler.forward(&first)?.tanh()?;
        self.classifier
            .forward(&pooled)?
            .flatten_all()?
            .to_vec1()
            .map(Some)
    }
}
