//! The two passes over the input: the first reduces all files to minutes, the second decides conflicting minutes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;
use tracing::debug;

use super::file_tasks::{FileError, PassInput, ReplayableInput, for_each_file};
use super::pass::{FileOutcome, PreparedParts, Shared, lock};
use crate::model::AssetId;
use crate::rollup::assemble::{AssembledMinutes, find_conflicting};
use crate::rollup::conflicting::{ConflictingMinutes, RawReading, resolve};
use crate::rollup::file_reducer::{FileMinutes, FileReducer};
use crate::rollup::summary::MinuteRow;

/// Performs both passes over the input.
pub(super) async fn prepare(pass: &PassInput) -> Result<PreparedParts> {
    let mut first = reduce_files(pass).await?;
    let files = first.minutes.iter().map(|(_, file)| file);
    let contested = Arc::new(find_conflicting(&files.collect::<Vec<_>>()));
    let decided = if contested.is_empty() {
        HashMap::new()
    } else {
        decide_conflicting(pass, &mut first, &contested).await?
    };
    let FirstPass {
        mut minutes,
        outcomes,
        memory,
    } = first;
    minutes.sort_by_key(|(index, _)| *index);
    let assembled = AssembledMinutes::new(
        minutes.into_iter().map(|(_, file)| file).collect(),
        &contested,
        decided,
    );
    let mut outcome = lock(&pass.shared.outcome);
    outcome.files = outcomes;
    outcome.used = assembled.readings();
    outcome.minutes = assembled.minutes();
    drop(outcome);
    let parts = assembled.parts();
    debug!(parts = parts.len(), "minutes are assembled");
    Ok(PreparedParts {
        assembled,
        parts,
        _memory: memory,
    })
}

/// The results of the first pass.
struct FirstPass {
    /// The minutes of each file that was read, by its index.
    minutes: Vec<(usize, FileMinutes)>,
    /// The outcomes of all files.
    outcomes: Vec<FileOutcome>,
    memory: Vec<MemoryReservation>,
}

/// Performs the first pass over all files.
async fn reduce_files(pass: &PassInput) -> Result<FirstPass> {
    let count = pass.shared.request.tasks.len();
    let (taken, memory) = for_each_file(pass, (0..count).collect(), reduce_file).await?;
    let mut minutes = Vec::new();
    let mut outcomes: Vec<FileOutcome> = (0..count).map(|_| FileOutcome::default()).collect();
    for (index, result) in taken {
        match result {
            Ok(file) => {
                outcomes[index] = FileOutcome {
                    valid: file.valid,
                    left_out: file.left_out,
                    fault: None,
                };
                minutes.push((index, file));
            }
            Err(fault) => outcomes[index].fault = Some(fault),
        }
    }
    debug!(files = count, "all files are reduced to minutes");
    Ok(FirstPass {
        minutes,
        outcomes,
        memory,
    })
}

/// Performs the second pass over the files with conflicting minutes. Returns the rows of these minutes. If a file
/// fails, the outcomes are stored for the caller, and the pass fails.
async fn decide_conflicting(
    pass: &PassInput,
    first: &mut FirstPass,
    contested: &Arc<ConflictingMinutes>,
) -> Result<HashMap<AssetId, Vec<MinuteRow>>> {
    let again: Vec<usize> = first
        .minutes
        .iter()
        .filter(|(_, file)| contested.has_minute_of(file))
        .map(|(index, _)| *index)
        .collect();
    let wanted = Arc::clone(contested);
    let (mut read, more) = for_each_file(pass, again, move |shared, stream, index, reservation| {
        collect_conflicting(shared, stream, index, reservation, Arc::clone(&wanted))
    })
    .await?;
    first.memory.extend(more);
    read.sort_by_key(|(index, _)| *index);
    let mut readings = Vec::new();
    let mut faults = false;
    for (index, result) in read {
        match result {
            Ok(mut raw) => readings.append(&mut raw),
            Err(fault) => {
                first.outcomes[index].fault = Some(fault);
                faults = true;
            }
        }
    }
    if faults {
        // The minutes of the file from the first pass must not be used; the caller runs again without the file.
        lock(&pass.shared.outcome).files = std::mem::take(&mut first.outcomes);
        return Err(DataFusionError::Execution(
            "a raw file failed on its second reading".to_owned(),
        ));
    }
    Ok(resolve(readings))
}

/// Performs the first pass over one file.
async fn reduce_file(
    shared: Arc<Shared>,
    file: ReplayableInput,
    index: usize,
    memory: Arc<MemoryReservation>,
) -> std::result::Result<FileMinutes, FileError> {
    let request = &shared.request;
    let mut intake = FileReducer::new(request.cell, request.plausible, &request.tasks[index]);
    let mut stream = file.stream()?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(FileError::File)?;
        intake.push(&batch);
        (request.on_readings)(batch.num_rows() as u64);
        if intake.is_unsorted() {
            intake = FileReducer::new(request.cell, request.plausible, &request.tasks[index])
                .with_sorting(request.sort_readings);
            stream = file.stream()?;
        }
        if let Err(error) = memory.try_resize(intake.bytes()) {
            lock(&shared.seen_assets).extend(intake.assets());
            return Err(FileError::Memory(error));
        }
    }
    let minutes = intake.finish();
    memory
        .try_resize(minutes.bytes())
        .map_err(FileError::Memory)?;
    lock(&shared.seen_assets).extend(minutes.assets.iter().map(|(asset, _)| *asset));
    Ok(minutes)
}

/// Performs the second pass over one file. Returns its valid readings in conflicting minutes, in row order.
async fn collect_conflicting(
    shared: Arc<Shared>,
    file: ReplayableInput,
    _: usize,
    memory: Arc<MemoryReservation>,
    contested: Arc<ConflictingMinutes>,
) -> std::result::Result<Vec<RawReading>, FileError> {
    let window = shared.request.cell.window();
    let mut readings = Vec::new();
    let mut stream = file.stream()?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(FileError::File)?;
        let ids = batch.column(0).as_dictionary::<Int32Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        let texts = ids.values().as_string::<i32>();
        let assets: Vec<Option<AssetId>> = (0..texts.len())
            .map(|entry| {
                if texts.is_valid(entry) {
                    AssetId::parse(texts.value(entry)).ok()
                } else {
                    None
                }
            })
            .map(|asset| asset.filter(|asset| contested.minutes_of_asset(*asset).is_some()))
            .collect();
        for row in 0..batch.num_rows() {
            if !ids.is_valid(row) || !times.is_valid(row) || !values.is_valid(row) {
                continue;
            }
            let (time, value) = (times.value(row), values.value(row));
            let Some(asset) = assets[ids.keys().value(row) as usize] else {
                continue;
            };
            if value.is_finite()
                && shared.request.plausible.contains(time)
                && window.contains(time)
                && contested.contains(asset, time)
            {
                readings.push(RawReading { asset, time, value });
            }
        }
        // Reserves 2.5 times the size: for the readings, for their copy in the merge of all files, and half for the
        // sort.
        memory
            .try_resize(readings.capacity() * size_of::<RawReading>() * 5 / 2)
            .map_err(FileError::Memory)?;
    }
    Ok(readings)
}
