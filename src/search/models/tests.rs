//! Tests of damaged and unsupported models: each is rejected with a helpful error, and nothing panics.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::files::{CONFIG, FileHash, PINNED, RECORD, TOKENIZER, WEIGHTS, hashes};
use super::*;
use crate::search::cancellation::CancellationFlag;

/// Returns the folder of the small model with reference values.
fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/search/cross-encoder")
}

/// Returns a copy of the small model, which a test can damage.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_to(folder.path());
    folder
}

fn copy_to(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(original()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

fn change_json(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).unwrap(),
        Err(_) => json!({}),
    };
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn change_tensors(folder: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let path = folder.join(WEIGHTS);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

/// Checks that both models reject the folder with the same words.
#[track_caller]
fn refused(folder: &Path, words: &[&str]) {
    let as_bi_encoder = BiEncoder::load(folder).map(drop);
    let as_cross_encoder = CrossEncoder::load(folder).map(drop);
    for loaded in [as_bi_encoder, as_cross_encoder] {
        assert_error_contains(loaded, words);
    }
}

/// Checks that loading failed with an error on one line that contains `words`.
#[track_caller]
fn assert_error_contains(loaded: Result<(), ModelError>, words: &[&str]) {
    let error = loaded.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(!error.contains('\n'), "{error}");
}

fn tensor(tensors: &mut HashMap<String, Tensor>, name: &str) -> Tensor {
    tensors.remove(name).unwrap()
}

#[test]
fn models_with_intact_files_load_and_run() {
    let folder = copy();
    let cross = CrossEncoder::load(folder.path()).unwrap();
    let scores = cross.score(
        "reactor temperature",
        &["a pump", "", "a temperature sensor"],
        &CancellationFlag::default(),
    );
    assert_eq!(scores.unwrap().len(), 3);
    assert!(
        cross
            .score("", &[], &CancellationFlag::default())
            .unwrap()
            .is_empty()
    );
    let bi = BiEncoder::load(folder.path()).unwrap();
    assert_eq!((bi.dimensions(), bi.fingerprint().len()), (64, 64));
    assert_eq!(bi.fingerprint(), cross.fingerprint());
    let endless = "a very long text ".repeat(100_000);
    let vectors = bi
        .embed(
            &["", "a pump", &endless, "\u{0}\u{202e}"],
            &CancellationFlag::default(),
        )
        .unwrap();
    for vector in vectors {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(
            (length - 1.0).abs() < 1e-5 && vector.len() == 64,
            "{length}"
        );
    }
}

#[test]
fn results_of_a_text_are_independent_of_other_texts() {
    let folder = original();
    let cross = CrossEncoder::load(&folder).unwrap();
    let bi = BiEncoder::load(&folder).unwrap();
    let texts: Vec<String> = (0..150)
        .map(|at| "pressure of the reactor ".repeat(1 + at * 7 % 31))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let stop = CancellationFlag::default();
    let (vectors, scores) = (
        bi.embed(&texts, &stop).unwrap(),
        cross.score("pump", &texts, &stop).unwrap(),
    );
    for ((text, vector), score) in texts.iter().zip(&vectors).zip(&scores).step_by(13) {
        let alone = bi.embed(&[text], &stop).unwrap();
        let apart = alone[0]
            .iter()
            .zip(vector)
            .map(|(one, other)| (one - other).abs())
            .fold(0.0, f32::max);
        assert!(apart < 1e-6, "{apart}");
        let alone = cross.score("pump", &[text], &stop).unwrap();
        assert!((alone[0] - score).abs() < 1e-5, "{} {score}", alone[0]);
    }
}

#[test]
fn models_when_cancelled_return_stopped() {
    let stop = CancellationFlag::default();
    stop.cancel();
    let folder = original();
    let embedded = BiEncoder::load(&folder).unwrap().embed(&["a"], &stop);
    assert!(matches!(embedded, Err(ModelError::Cancelled)));
    let scored = CrossEncoder::load(&folder)
        .unwrap()
        .score("a", &["a"], &stop);
    assert!(matches!(scored, Err(ModelError::Cancelled)));
}

#[test]
fn load_with_missing_file_names_it() {
    for name in [CONFIG, TOKENIZER, WEIGHTS] {
        let folder = copy();
        fs::remove_file(folder.path().join(name)).unwrap();
        refused(
            folder.path(),
            &[name, "is missing", "plantlake models fetch"],
        );
    }
    let folder = copy();
    fs::rename(
        folder.path().join(WEIGHTS),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    refused(
        folder.path(),
        &[
            WEIGHTS,
            "is missing",
            "pytorch_model.bin is not read",
            "can run code",
        ],
    );
}

#[test]
fn load_with_damaged_config_names_the_field() {
    let folder = copy();
    for text in ["", "{", "[1]", "\u{0}\u{1}", "{\"model_type\": 7}"] {
        fs::write(folder.path().join(CONFIG), text).unwrap();
        refused(folder.path(), &[CONFIG]);
    }
    fs::write(folder.path().join(CONFIG), vec![0xff; 100]).unwrap();
    refused(folder.path(), &[CONFIG]);
    for (field, value, words) in [
        ("model_type", json!("roberta"), "roberta"),
        ("model_type", json!(null), "`model_type` is missing"),
        ("hidden_size", json!("large"), "`hidden_size`"),
        ("hidden_size", json!(0), "`hidden_size` is 0"),
        ("hidden_size", json!(66), "not a multiple"),
        (
            "hidden_size",
            json!(u64::MAX),
            "`hidden_size` is 18446744073709551615",
        ),
        ("hidden_size", json!(128), "does not match config.json"),
        (
            "vocab_size",
            json!(1499),
            "the vocabulary of the model has 1499",
        ),
        ("vocab_size", json!(1501), "word_embeddings"),
        (
            "num_attention_heads",
            json!(0),
            "`num_attention_heads` is 0",
        ),
        ("num_hidden_layers", json!(3), "encoder.layer.2"),
        ("intermediate_size", json!(127), "intermediate.dense"),
        ("max_position_embeddings", json!(5), "only 5 tokens"),
        ("max_position_embeddings", json!(64), "position_embeddings"),
        ("type_vocab_size", json!(1), "`type_vocab_size` is 1"),
        ("hidden_act", json!("gelu_new"), "gelu_new"),
        (
            "position_embedding_type",
            json!("relative_key"),
            "relative_key",
        ),
        ("layer_norm_eps", json!("small"), "`layer_norm_eps`"),
    ] {
        let folder = copy();
        change_json(folder.path(), CONFIG, |config| config[field] = value);
        refused(folder.path(), &[words]);
    }
}

#[test]
fn load_rejects_damaged_tokenizer() {
    let folder = copy();
    let whole = fs::read(folder.path().join(TOKENIZER)).unwrap();
    for content in [
        &b""[..],
        b"{}",
        b"garbage",
        b"[[[[",
        &whole[..whole.len() / 2],
        &[0xff; 50],
    ] {
        fs::write(folder.path().join(TOKENIZER), content).unwrap();
        refused(folder.path(), &[TOKENIZER, "is not a tokenizer"]);
    }
    fs::write(folder.path().join(TOKENIZER), &whole).unwrap();
    change_json(folder.path(), TOKENIZER, |tokenizer| {
        tokenizer["post_processor"] = Value::Null
    });
    refused(folder.path(), &["adds 0 special tokens to a text"]);
}

#[test]
fn load_rejects_damaged_weights() {
    let folder = copy();
    let path = folder.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let mut long = whole.clone();
    long.extend([0; 4]);
    let mut huge = whole.clone();
    huge[..8].fill(0xff);
    for content in [
        &b""[..],
        b"1234567",
        &whole[..100],
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        &long,
        &huge,
    ] {
        fs::write(&path, content).unwrap();
        refused(folder.path(), &[WEIGHTS, "plantlake models fetch"]);
    }
}

#[test]
fn load_names_missing_and_misshapen_tensors() {
    let names = [
        "bert.embeddings.token_type_embeddings.weight",
        "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.1.attention.self.key.weight",
        "bert.encoder.layer.0.attention.output.LayerNorm.weight",
        "bert.encoder.layer.0.intermediate.dense.bias",
        "bert.encoder.layer.1.output.dense.weight",
    ];
    for name in names {
        let folder = copy();
        change_tensors(folder.path(), |tensors| drop(tensor(tensors, name)));
        refused(folder.path(), &[WEIGHTS, "it has no tensor", name]);
        let folder = copy();
        change_tensors(folder.path(), |tensors| {
            let flat = tensor(tensors, name).flatten_all().unwrap();
            let cut = flat.narrow(0, 1, flat.elem_count() - 1).unwrap();
            tensors.insert(name.to_owned(), cut);
        });
        refused(folder.path(), &[WEIGHTS, name]);
    }
    let folder = copy();
    change_tensors(folder.path(), |tensors| {
        drop(tensor(tensors, "bert.embeddings.word_embeddings.weight"))
    });
    refused(folder.path(), &["is not a BERT model"]);
    for name in [
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
    ] {
        let folder = copy();
        change_tensors(folder.path(), |tensors| drop(tensor(tensors, name)));
        assert_error_contains(
            CrossEncoder::load(folder.path()).map(drop),
            &[WEIGHTS, name],
        );
        BiEncoder::load(folder.path()).unwrap();
    }
}

#[test]
fn load_rejects_unsupported_models() {
    let folder = copy();
    change_tensors(folder.path(), |tensors| {
        let weight = tensor(tensors, "classifier.weight");
        tensors.insert(
            "classifier.weight".to_owned(),
            weight.repeat((3, 1)).unwrap(),
        );
    });
    assert_error_contains(
        CrossEncoder::load(folder.path()).map(drop),
        &["3 labels", "one output"],
    );
    let folder = copy();
    let labels = json!({"0": "no", "1": "yes"});
    change_json(folder.path(), CONFIG, |config| config["id2label"] = labels);
    assert_error_contains(
        CrossEncoder::load(folder.path()).map(drop),
        &[CONFIG, "2 labels"],
    );
    let folder = copy();
    change_tensors(folder.path(), |tensors| {
        for (now, then) in [("weight", "gamma"), ("bias", "beta")] {
            let norm = tensor(tensors, &format!("bert.embeddings.LayerNorm.{now}"));
            tensors.insert(format!("bert.embeddings.LayerNorm.{then}"), norm);
        }
    });
    refused(folder.path(), &["`gamma`", "save it again"]);
    let folder = copy();
    fs::write(
        folder.path().join("modules.json"),
        r#"[{"type": "sentence_transformers.models.Dense"}]"#,
    )
    .unwrap();
    assert_error_contains(
        BiEncoder::load(folder.path()).map(drop),
        &["modules.json", "models.Dense"],
    );
    let folder = copy();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    change_json(folder.path(), "1_Pooling/config.json", |pooling| {
        pooling["pooling_mode_cls_token"] = json!(true)
    });
    assert_error_contains(
        BiEncoder::load(folder.path()).map(drop),
        &["1_Pooling/config.json", "mean of the tokens"],
    );
}

#[test]
fn load_converts_f16_weights_to_f32() {
    let folder = copy();
    let stop = CancellationFlag::default();
    let single = CrossEncoder::load(folder.path())
        .unwrap()
        .score("pump", &["a pump"], &stop)
        .unwrap();
    change_tensors(folder.path(), |tensors| {
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(DType::F16).unwrap();
        }
    });
    let half = CrossEncoder::load(folder.path())
        .unwrap()
        .score("pump", &["a pump"], &stop)
        .unwrap();
    assert!((single[0] - half[0]).abs() < 0.1, "{single:?} {half:?}");
}

#[test]
fn embed_truncates_texts_at_max_seq_length() {
    let folder = copy();
    let long = "pump valve ".repeat(100);
    let cut = |most: u64| {
        change_json(folder.path(), "sentence_bert_config.json", |config| {
            config["max_seq_length"] = json!(most)
        });
        let bi = BiEncoder::load(folder.path()).unwrap();
        bi.embed(
            &[&long, "pump valve pump valve pump valve"],
            &CancellationFlag::default(),
        )
        .unwrap()
    };
    // Including special tokens: six tokens of the text remain.
    let vectors = cut(8);
    assert_eq!(vectors[0], vectors[1]);
    let vectors = cut(20);
    assert_ne!(vectors[0], vectors[1]);
    change_json(folder.path(), "sentence_bert_config.json", |config| {
        config["max_seq_length"] = json!(2)
    });
    assert_error_contains(BiEncoder::load(folder.path()).map(drop), &["only 2 tokens"]);
}

/// Returns a folder of models with a recorded cross-encoder.
fn recorded() -> (TempDir, ModelSettings, PathBuf) {
    let models = tempfile::tempdir().unwrap();
    let settings = ModelSettings {
        folder: models.path().to_owned(),
        bi_encoder: "org/bi".to_owned(),
        cross_encoder: "org/cross".to_owned(),
    };
    let folder = settings.model_folder(ModelUse::CrossEncoder);
    copy_to(&folder);
    let record = files::Record {
        model: "org/cross".to_owned(),
        from: "here".to_owned(),
        fetched_at: crate::clock::now(),
        files: hashes(&folder).unwrap(),
    };
    fs::write(folder.join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();
    (models, settings, folder)
}

#[test]
fn models_reject_files_that_differ_from_the_record() {
    let (_models, settings, folder) = recorded();
    assert!(
        Models::new(settings.clone())
            .cross_encoder()
            .unwrap()
            .is_some()
    );
    assert!(matches!(
        settings.status(ModelUse::CrossEncoder),
        ModelStatus::Valid {
            dimensions: Some(64),
            ..
        }
    ));
    for name in [CONFIG, TOKENIZER, WEIGHTS, "tokenizer_config.json"] {
        let path = folder.join(name);
        let content = fs::read(&path).unwrap();
        let mut other = content.clone();
        // The length stays the same.
        *other.last_mut().unwrap() = b' ';
        fs::write(&path, &other).unwrap();
        let refused = Models::new(settings.clone()).cross_encoder().map(drop);
        assert_error_contains(
            refused,
            &[
                name,
                "differs from the fetched file",
                &FileHash::from_bytes(&other).sha256,
                &FileHash::from_bytes(&content).sha256,
            ],
        );
        assert!(matches!(
            settings.status(ModelUse::CrossEncoder),
            ModelStatus::Invalid(_)
        ));
        fs::write(&path, &content).unwrap();
    }
    fs::write(folder.join("sentence_bert_config.json"), "{}").unwrap();
    assert!(matches!(
        settings.status(ModelUse::CrossEncoder),
        ModelStatus::Invalid(_)
    ));
    fs::remove_file(folder.join("sentence_bert_config.json")).unwrap();
    fs::write(folder.join(RECORD), "{}").unwrap();
    assert_error_contains(
        Models::new(settings).cross_encoder().map(drop),
        &[RECORD, "is not a record"],
    );
}

#[test]
fn models_reject_unrecorded_files_and_wrong_pinned_weights() {
    let (_models, mut settings, folder) = recorded();
    assert!(
        Models::new(settings.clone())
            .bi_encoder()
            .unwrap()
            .is_none()
    );
    assert!(matches!(
        settings.status(ModelUse::BiEncoder),
        ModelStatus::Missing
    ));
    fs::remove_file(folder.join(RECORD)).unwrap();
    let models = Models::new(settings.clone());
    assert_error_contains(
        models.cross_encoder().map(drop),
        &["never recorded", "plantlake models fetch"],
    );
    settings.bi_encoder = PINNED.0.to_owned();
    copy_to(&settings.model_folder(ModelUse::BiEncoder));
    assert_error_contains(
        Models::new(settings).bi_encoder().map(drop),
        &[WEIGHTS, PINNED.1],
    );
}
