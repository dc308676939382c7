//! The bi-encoder: computes the embedding of a text. Texts with similar meanings have similar embeddings.

use std::path::{Path, PathBuf};

use candle_core::{DType, Result, Tensor};
use serde::Deserialize;

use super::batches::{self, Batch};
use super::bert::{Bert, Config, Tensors, first_line};
use super::device::device;
use super::error::ModelError;
use super::files::{Files, MODULES, POOLING, SENTENCE_CONFIG};
use super::tokenizer::ModelTokenizer;
use crate::search::cancellation::CancellationFlag;

/// The maximum number of tokens of a text, if the model does not configure one.
const MAX_TOKENS: usize = 256;

/// A sentence transformer: the mean of the hidden states of a text's tokens, normalised to length 1.
#[derive(Debug)]
pub struct BiEncoder {
    folder: PathBuf,
    fingerprint: String,
    dimensions: usize,
    tokens: ModelTokenizer,
    bert: Bert,
}

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

impl Pooling {
    fn is_mean(&self) -> bool {
        self.pooling_mode_mean_tokens
            && !self.pooling_mode_cls_token
            && !self.pooling_mode_max_tokens
            && !self.pooling_mode_mean_sqrt_len_tokens
            && !self.pooling_mode_weightedmean_tokens
            && !self.pooling_mode_lasttoken
    }
}

impl BiEncoder {
    /// Loads the model in a folder. Files are verified against the record of hashes, if there is one.
    pub fn load(folder: &Path) -> std::result::Result<Self, ModelError> {
        Self::open(&Files::open(folder)?)
    }

    pub(super) fn open(files: &Files) -> std::result::Result<Self, ModelError> {
        let config = Config::open(files)?;
        check_modules(files)?;
        let most = match files.read_optional(SENTENCE_CONFIG)? {
            Some(content) => {
                files
                    .json::<SentenceConfig>(SENTENCE_CONFIG, &content)?
                    .max_seq_length
            }
            None => None,
        };
        let most = most
            .unwrap_or(MAX_TOKENS)
            .min(config.max_position_embeddings);
        let tokens = ModelTokenizer::open(files, &config, most)?;
        let (mapped, fingerprint) = files.weights()?;
        let bert = Bert::load(&Tensors::open(files, &mapped)?, &config)?;
        Ok(Self {
            folder: files.folder().to_owned(),
            fingerprint,
            dimensions: config.hidden_size,
            tokens,
            bert,
        })
    }

    /// Returns the number of dimensions of the embeddings of the model in these files.
    pub(super) fn dimensions_of(files: &Files) -> std::result::Result<usize, ModelError> {
        Ok(Config::open(files)?.hidden_size)
    }

    /// Returns the SHA-256 of the weights, in hexadecimal. It distinguishes embeddings of this model from those of
    /// others.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the number of dimensions of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Returns an embedding of length 1 for each text. The result of a text does not depend on the other texts.
    ///
    /// Blocks, and uses all cores. Cancellation takes effect within a fraction of a second.
    pub fn embed(
        &self,
        texts: &[&str],
        stop: &CancellationFlag,
    ) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
        let failed = |problem| ModelError::Run {
            folder: self.folder.clone(),
            problem,
        };
        device().with_context(|| {
            let texts = self.tokens.tokenise_texts(texts).map_err(failed)?;
            batches::run(&texts, |batch| {
                let means = self.means(batch, stop);
                let means = means.map_err(|error| failed(first_line(&error)))?;
                let means = means.ok_or(ModelError::Cancelled)?;
                Ok(means.into_iter().map(normalised).collect())
            })
        })
    }

    fn means(&self, batch: &Batch, stop: &CancellationFlag) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(states) = self.bert.states(batch, stop)? else {
            return Ok(None);
        };
        let means = batch
            .spans
            .iter()
            .map(|span| states.narrow(0, span.start, span.len())?.mean(0));
        let means = Tensor::stack(&means.collect::<Result<Vec<_>>>()?, 0)?;
        means.to_dtype(DType::F32)?.to_vec2().map(Some)
    }
}

/// Checks that the model has only the modules and the pooling that are implemented here.
fn check_modules(files: &Files) -> std::result::Result<(), ModelError> {
    if let Some(content) = files.read_optional(MODULES)? {
        let modules: Vec<Module> = files.json(MODULES, &content)?;
        let is_known = |module: &Module| {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            ["Transformer", "Pooling", "Normalize"].contains(&kind)
        };
        if let Some(other) = modules.iter().find(|module| !is_known(module)) {
            let problem = format!("unsupported module {}", other.kind);
            return Err(files.unsupported(MODULES, problem));
        }
    }
    if let Some(content) = files.read_optional(POOLING)?
        && !files.json::<Pooling>(POOLING, &content)?.is_mean()
    {
        let problem = "unsupported pooling; only the mean of the tokens is supported";
        return Err(files.unsupported(POOLING, problem));
    }
    Ok(())
}

/// Scales the vector to length 1.
fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let scale = squares.sqrt().max(1e-12).recip() as f32;
    for x in &mut vector {
        *x *= scale;
    }
    vector
}
