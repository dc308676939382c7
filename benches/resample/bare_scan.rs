//! The lower bound of run time for `benches/resample`: DataFusion reads the three columns of all raw files and discards
//! them. Prints the elapsed seconds.
//!
//! `cargo run --release --example bare_scan -- lake/raw`
#![expect(
    clippy::print_stdout,
    reason = "a peer to measure against, not a part of plantlake"
)]

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use plantlake::clock::Stopwatch;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .ok_or_else(|| anyhow::anyhow!("name the folder of the raw files"))?;
    let context = SessionContext::new_with_config(
        SessionConfig::new().with_target_partitions(std::thread::available_parallelism()?.get()),
    );
    let watch = Stopwatch::start();
    let frame = context
        .read_parquet(folder, ParquetReadOptions::default())
        .await?
        .select_columns(&["id", "timestamp", "value"])?;
    let mut rows = 0;
    let streams = frame.execute_stream_partitioned().await?;
    let readers = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch?.num_rows();
            }
            Ok::<_, datafusion::common::DataFusionError>(rows)
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        rows += reader.await??;
    }
    anyhow::ensure!(rows > 0, "no rows were read");
    println!("{:.6}", watch.seconds());
    Ok(())
}
