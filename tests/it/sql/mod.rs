//! Tests of SQL: runs the files of `statements/` on a server, with the client of the arrow-flight crate. The first
//! line of a file names the organisation of the caller: `# as NAME`.
//!
//! `UPDATE_STATEMENTS=1 cargo test --test it sql::` writes the actual results into the files, so that `git diff` shows the
//! changes.

mod client;
mod place;
mod plant;
mod protocol;

use std::path::{Path, PathBuf};

use sqllogictest::Runner;

use crate::sql::client::Asker;
use crate::sql::plant::Plant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_return_the_results_in_their_files() {
    let plant = Plant::start();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt/statements");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let first = text.lines().next().unwrap();
        let organisation = first.strip_prefix("# as ").unwrap();
        let key = plant.key(organisation).to_owned();
        let mut runner = Runner::new(|| Asker::connect(plant.address(), key.clone()));
        runner.with_column_validator(sqllogictest::strict_column_validator);
        if std::env::var_os("UPDATE_STATEMENTS").is_some() {
            update(&mut runner, file).await;
        }
        if let Err(error) = runner.run_file_async(file).await {
            wrong.push(error.display(false).to_string());
        }
    }
    assert!(
        files.len() > 3 && wrong.is_empty(),
        "{}",
        wrong.join("\n\n")
    );
}

async fn update<M>(runner: &mut Runner<Asker, M>, file: &Path)
where
    M: sqllogictest::MakeConnection<Conn = Asker>,
{
    let updated = runner.update_test_file(
        file,
        " ",
        sqllogictest::default_validator,
        sqllogictest::default_normalizer,
        sqllogictest::strict_column_validator,
    );
    updated.await.unwrap();
}
