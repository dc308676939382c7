//! BERT, the architecture of both models: embeddings, then layers of attention and of a feed-forward network.
//!
//! For 20 texts of 64 tokens and six layers of 384 dimensions on two cores, `candle_transformers::models::bert` takes
//! 410 ms. This implementation takes 160 ms, of which two thirds are matrix products:
//!
//! - Texts are concatenated ([`Batch`]) without padding. No computation is spent on padding, and the result of a text
//!   does not depend on the other texts. Only attention, which relates the tokens of one text, processes the texts
//!   one by one.
//! - Each core has a batch of its own ([`super::batches`]).
//! - The operations other than matrix products are in [`super::operations`]. Query, key and value are one product.
//! - A cross-encoder computes the last layer for the first token of each text only.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use serde::Deserialize;

use super::batches::Batch;
use super::device::device;
use super::error::ModelError;
use super::files::{CONFIG, Files, WEIGHTS};
use super::operations::{BiasedLayerNorm, add_bias, add_bias_gelu, softmax};
use crate::search::cancellation::CancellationFlag;

/// The configuration of a model in `config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "exact_gelu")]
    hidden_act: String,
    pub max_position_embeddings: usize,
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    #[serde(default = "smallest")]
    layer_norm_eps: f64,
    position_embedding_type: Option<String>,
    /// The labels of a classifier.
    id2label: Option<BTreeMap<String, String>>,
}

fn exact_gelu() -> String {
    "gelu".to_owned()
}

fn two() -> usize {
    2
}

fn smallest() -> f64 {
    1e-12
}

impl Config {
    /// Reads the configuration, and rejects unsupported models.
    pub fn open(files: &Files) -> std::result::Result<Self, ModelError> {
        let content = files.read(CONFIG)?;
        // The kind comes first, because other kinds of models have other fields.
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let kind: Kind = files.json(CONFIG, &content)?;
        if kind.model_type.as_deref() != Some("bert") {
            let found = kind
                .model_type
                .map_or("missing".to_owned(), |kind| format!("{kind:?}"));
            let problem = format!("`model_type` is {found}, but only \"bert\" is supported");
            return Err(files.unsupported(CONFIG, problem));
        }
        let config: Self = files.json(CONFIG, &content)?;
        match config.find_problem() {
            Some(problem) => Err(files.unsupported(CONFIG, problem)),
            None => Ok(config),
        }
    }

    fn find_problem(&self) -> Option<String> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_hidden_layers", self.num_hidden_layers),
        ];
        // The limit is far beyond any BERT model, and small enough to avoid overflows.
        if let Some((field, size)) = sizes.iter().find(|(_, size)| !(1..=1 << 20).contains(size)) {
            return Some(format!(
                "`{field}` is {size}; it must be between 1 and 1048576"
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Some("`hidden_size` is not a multiple of `num_attention_heads`".to_owned());
        }
        if self.hidden_act != "gelu" {
            return Some(format!(
                "`hidden_act` is {:?}, but only \"gelu\" is supported",
                self.hidden_act
            ));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => None,
            Some(other) => Some(format!(
                "`position_embedding_type` is {other:?}, but only \"absolute\" is supported"
            )),
        }
    }

    /// Returns the number of labels of a classifier, if it is configured.
    pub fn labels(&self) -> Option<usize> {
        self.id2label.as_ref().map(BTreeMap::len)
    }
}

/// The tensors of a file by name.
pub(super) struct Tensors<'f> {
    files: &'f Files,
    all: VarBuilder<'f>,
    /// The prefix of the names of the transformer's tensors.
    root: &'static str,
}

impl<'f> Tensors<'f> {
    /// Opens the tensors of a mapped file.
    pub fn open(files: &'f Files, mapped: &'f [u8]) -> std::result::Result<Self, ModelError> {
        let all = VarBuilder::from_slice_safetensors(mapped, DType::F32, device());
        let all = all.map_err(|error| {
            let problem = format!(
                "is not in the safetensors format, or is truncated ({})",
                first_line(&error)
            );
            files.damaged(WEIGHTS, problem)
        })?;
        let has = |name: &str| all.contains_tensor(name);
        let words = "embeddings.word_embeddings.weight";
        let root = if has(words) {
            ""
        } else if has(&format!("bert.{words}")) {
            "bert."
        } else {
            return Err(files.unsupported(
                WEIGHTS,
                format!("it has no tensor {words}, so it is not a BERT model"),
            ));
        };
        if has(&format!("{root}embeddings.LayerNorm.gamma")) {
            let problem = "its norms are named `gamma` and `beta`, as in old conversions from TensorFlow; load the model with \
                           transformers and save it again";
            return Err(files.unsupported(WEIGHTS, problem));
        }
        Ok(Self { files, all, root })
    }

    /// Returns a tensor of the transformer.
    pub fn get(&self, shape: &[usize], name: &str) -> std::result::Result<Tensor, ModelError> {
        self.get_unprefixed(shape, &format!("{}{name}", self.root))
    }

    /// Returns a tensor outside the transformer.
    pub fn get_unprefixed(
        &self,
        shape: &[usize],
        name: &str,
    ) -> std::result::Result<Tensor, ModelError> {
        if !self.all.contains_tensor(name) {
            return Err(self
                .files
                .damaged(WEIGHTS, format!("it has no tensor {name}")));
        }
        self.all.get(shape, name).map_err(|error| {
            let problem = format!(
                "its tensor {name} does not match {CONFIG} ({})",
                first_line(&error)
            );
            self.files.damaged(WEIGHTS, problem)
        })
    }

    /// Returns the number of rows of a tensor outside the transformer, if it exists.
    pub fn rows(&self, name: &str) -> Option<usize> {
        let all = self
            .all
            .contains_tensor(name)
            .then(|| self.all.get_unchecked(name))?;
        all.ok()?.dims().first().copied()
    }

    /// Creates the error for a failure while tensors are combined.
    pub fn failed(&self, error: candle_core::Error) -> ModelError {
        self.files.damaged(WEIGHTS, first_line(&error))
    }
}

/// Returns the message of a candle error without its backtrace.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// A linear layer: a matrix product plus a bias.
#[derive(Debug)]
pub(super) struct Dense {
    /// The transposed matrix, with one row per input.
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    /// Creates the layer from tensors as they are stored in files, where the matrix is not transposed.
    pub fn new(weight: &Tensor, bias: Tensor) -> Result<Self> {
        let weight = weight.t()?;
        Ok(Self { weight, bias })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        add_bias(x.matmul(&self.weight)?, &self.bias)
    }

    /// Computes the given range of outputs only.
    fn forward_columns(&self, x: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        let weight = self.weight.narrow(1, columns.start, columns.len())?;
        let bias = self.bias.narrow(0, columns.start, columns.len())?;
        add_bias(x.matmul(&weight)?, &bias)
    }
}

/// The transformer.
#[derive(Debug)]
pub(super) struct Bert {
    word_embeddings: Tensor,
    /// The sum of type and position embeddings: for each type, a row for each position in a text.
    position_embeddings: Tensor,
    max_positions: usize,
    norm: BiasedLayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    pub fn load(tensors: &Tensors<'_>, config: &Config) -> std::result::Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let embeddings = |rows: usize, name: &str| {
            tensors.get(
                &[rows, hidden],
                &format!("embeddings.{name}_embeddings.weight"),
            )
        };
        let failed = |error| tensors.failed(error);
        let none = Tensor::zeros(hidden, DType::F32, device()).map_err(failed)?;
        let types = embeddings(config.type_vocab_size, "token_type")?;
        let places = embeddings(config.max_position_embeddings, "position")?;
        let seats = || {
            let sums = types.unsqueeze(1)?.broadcast_add(&places.unsqueeze(0)?)?;
            sums.reshape(((), hidden))
        };
        Ok(Self {
            word_embeddings: embeddings(config.vocab_size, "word")?,
            position_embeddings: seats().map_err(failed)?,
            max_positions: config.max_position_embeddings,
            norm: norm(tensors, &none, "embeddings", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| Layer::load(tensors, &format!("encoder.layer.{layer}"), config))
                .collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Returns the last hidden state of each token; none if it is cancelled.
    pub fn states(&self, batch: &Batch, stop: &CancellationFlag) -> Result<Option<Tensor>> {
        let mut x = self.embed(batch)?;
        for layer in &self.layers {
            if stop.is_cancelled() {
                return Ok(None);
            }
            x = layer.forward(&x, &batch.spans)?;
        }
        Ok(Some(x))
    }

    /// Returns the last hidden state of each text's first token; none if it is cancelled.
    pub fn first_states(&self, batch: &Batch, stop: &CancellationFlag) -> Result<Option<Tensor>> {
        let mut x = self.embed(batch)?;
        for (at, layer) in self.layers.iter().enumerate() {
            if stop.is_cancelled() {
                return Ok(None);
            }
            x = if at + 1 == self.layers.len() {
                layer.forward_first(&x, &batch.spans)?
            } else {
                layer.forward(&x, &batch.spans)?
            };
        }
        Ok(Some(x))
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let look_up = |table: &Tensor, rows: Vec<u32>| {
            table.index_select(&Tensor::new(rows, table.device())?, 0)
        };
        let mut seats = Vec::with_capacity(batch.ids.len());
        for span in &batch.spans {
            let types = batch.types.get(span.clone()).unwrap_or_default();
            let seat =
                |(place, kind): (usize, &u32)| *kind * self.max_positions as u32 + place as u32;
            seats.extend(types.iter().enumerate().map(seat));
        }
        let words = look_up(&self.word_embeddings, batch.ids.clone())?;
        self.norm
            .forward(words, &look_up(&self.position_embeddings, seats)?)
    }
}

fn norm(
    tensors: &Tensors<'_>,
    bias: &Tensor,
    name: &str,
    config: &Config,
) -> std::result::Result<BiasedLayerNorm, ModelError> {
    let get = |part: &str| tensors.get(&[config.hidden_size], &format!("{name}.LayerNorm.{part}"));
    let (weight, shift) = (get("weight")?, get("bias")?);
    BiasedLayerNorm::new(bias, &weight, &shift, config.layer_norm_eps)
        .map_err(|error| tensors.failed(error))
}

#[derive(Debug)]
struct Layer {
    heads: usize,
    /// Query, key and value, concatenated.
    inputs: Dense,
    /// The output projection of attention, without its bias, which is part of the norm.
    output: Tensor,
    output_norm: BiasedLayerNorm,
    up: Dense,
    /// The output projection of the feed-forward network, without its bias, which is part of the norm.
    down: Tensor,
    down_norm: BiasedLayerNorm,
}

impl Layer {
    fn load(
        tensors: &Tensors<'_>,
        name: &str,
        config: &Config,
    ) -> std::result::Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let weight = |to: usize, from: usize, part: &str| {
            tensors.get(&[to, from], &format!("{name}.{part}.weight"))
        };
        let bias = |of: usize, part: &str| tensors.get(&[of], &format!("{name}.{part}.bias"));
        let input = |part: &str| {
            let part = format!("attention.self.{part}");
            Ok((weight(hidden, hidden, &part)?, bias(hidden, &part)?))
        };
        let (query, key, value) = (input("query")?, input("key")?, input("value")?);
        // Attention scores are divided by the square root of the head size. Scaling the query weights once has the
        // same effect.
        let scale = (config.num_attention_heads as f64 / hidden as f64).sqrt();
        let inputs = || {
            let weights = Tensor::cat(&[(query.0 * scale)?, key.0, value.0], 0)?;
            Dense::new(
                &weights,
                Tensor::cat(&[(query.1 * scale)?, key.1, value.1], 0)?,
            )
        };
        let turned = |weight: Tensor| weight.t();
        let failed = |error| tensors.failed(error);
        Ok(Self {
            heads: config.num_attention_heads,
            inputs: inputs().map_err(failed)?,
            output: turned(weight(hidden, hidden, "attention.output.dense")?).map_err(failed)?,
            output_norm: norm(
                tensors,
                &bias(hidden, "attention.output.dense")?,
                &format!("{name}.attention.output"),
                config,
            )?,
            up: Dense::new(
                &weight(inner, hidden, "intermediate.dense")?,
                bias(inner, "intermediate.dense")?,
            )
            .map_err(failed)?,
            down: turned(weight(hidden, inner, "output.dense")?).map_err(failed)?,
            down_norm: norm(
                tensors,
                &bias(hidden, "output.dense")?,
                &format!("{name}.output"),
                config,
            )?,
        })
    }

    /// Returns the next states of all tokens.
    fn forward(&self, x: &Tensor, spans: &[Range<usize>]) -> Result<Tensor> {
        let inputs = self.split_heads(self.inputs.forward(x)?, 3)?;
        let part = |at: usize| inputs.narrow(1, at, 1)?.squeeze(1);
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        let found = attention(&query, &key, &value, spans, |at| spans.get(at).cloned())?;
        self.feed_forward(found, x)
    }

    /// Returns the next states of the texts' first tokens.
    fn forward_first(&self, x: &Tensor, spans: &[Range<usize>]) -> Result<Tensor> {
        let hidden = x.dim(1)?;
        let first: Vec<u32> = spans.iter().map(|span| span.start as u32).collect();
        let first = x.index_select(&Tensor::new(first, x.device())?, 0)?;
        let query = self
            .split_heads(self.inputs.forward_columns(&first, 0..hidden)?, 1)?
            .squeeze(1)?;
        let inputs = self.split_heads(self.inputs.forward_columns(x, hidden..3 * hidden)?, 2)?;
        let part = |at: usize| inputs.narrow(1, at, 1)?.squeeze(1);
        let found = attention(&query, &part(0)?, &part(1)?, spans, |at| Some(at..at + 1))?;
        self.feed_forward(found, &first)
    }

    /// Splits each row into `parts`, and each part into heads.
    fn split_heads(&self, rows: Tensor, parts: usize) -> Result<Tensor> {
        let (count, width) = rows.dims2()?;
        rows.reshape((count, parts, self.heads, width / parts / self.heads))
    }

    fn feed_forward(&self, found: Tensor, x: &Tensor) -> Result<Tensor> {
        let x = self.output_norm.forward(found.matmul(&self.output)?, x)?;
        let inner = add_bias_gelu(x.matmul(&self.up.weight)?, &self.up.bias)?;
        self.down_norm.forward(inner.matmul(&self.down)?, &x)
    }
}

/// Computes attention within each text, from `[rows, heads, size]` to `[rows, heads · size]`. `asking` returns the
/// rows of a text's queries.
fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    spans: &[Range<usize>],
    asking: impl Fn(usize) -> Option<Range<usize>> + Sync,
) -> Result<Tensor> {
    let rows = |of: &Tensor, rows: &Range<usize>| {
        let view = of.narrow(0, rows.start, rows.len())?.transpose(0, 1)?;
        // On a CPU the product needs no copy. The GPU library does not accept such views.
        match of.device().is_cpu() {
            true => Ok(view),
            false => view.contiguous(),
        }
    };
    let one = |at: usize| {
        let (Some(span), Some(asking)) = (spans.get(at), asking(at)) else {
            candle_core::bail!("no text {at}");
        };
        let scores = rows(query, &asking)?.matmul(&rows(key, span)?.transpose(1, 2)?)?;
        let found = softmax(scores)?.matmul(&rows(value, span)?)?;
        found.transpose(0, 1)?.flatten_from(1)
    };
    let found: Vec<Tensor> = match query.device() {
        Device::Cpu => (0..spans.len())
            .into_par_iter()
            .map(one)
            .collect::<Result<_>>()?,
        _ => (0..spans.len()).map(one).collect::<Result<_>>()?,
    };
    Tensor::cat(&found, 0)
}
