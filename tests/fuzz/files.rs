//! Raw Parquet files: generates valid ones of many kinds, damages their footers and pages, and reads them with plantlake in
//! this process.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use fastrand::Rng;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use plantlake::lake::Store;
use plantlake::lake::raw::{
    ColumnNames, RawFileError, RawFormat, ReadRequest, list_raw_files, read, survey,
};
use plantlake::model::Window;
use tonic::Status;

use crate::mutate::damage;
use crate::thrift::{self, Value};
use crate::wire::{CALL_TIMEOUT, Reply};

/// The number of rows after which reading stops: a damaged file may have very many valid rows.
const ENOUGH_ROWS: usize = 1 << 20;
const START: i64 = 1_714_521_600_000_000;

/// Returns a valid file.
pub fn file(random: &mut Rng) -> Vec<u8> {
    let rows = random.usize(1..400);
    let assets = random.usize(1..20);
    let texts = (0..rows).map(|row| format!("{:08}-0000-4000-8000-000000000001", row % assets));
    let texts = StringArray::from_iter_values(texts);
    let ids: ArrayRef = match random.u8(..6) {
        0 => Arc::new(BinaryArray::from_iter_values((0..rows).map(|_| [7; 16]))),
        1 => cast(&texts, &DataType::LargeUtf8).unwrap(),
        2 => cast(&texts, &DataType::Utf8View).unwrap(),
        3 => {
            let kind = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
            cast(&texts, &kind).unwrap()
        }
        4 => cast(&texts, &DataType::LargeBinary).unwrap(),
        _ => Arc::new(texts),
    };
    let step = random.i64(1..10_000_000_000);
    let times = (0..rows).map(|row| START + step * i64::try_from(row).unwrap());
    let values = (0..rows).map(|_| random.f64());
    let batch = RecordBatch::try_from_iter([
        ("id", ids),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)) as _,
        ),
        (
            "value",
            Arc::new(Float64Array::from_iter_values(values.collect::<Vec<_>>())) as _,
        ),
    ]);
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let properties = properties(random);
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn properties(random: &mut Rng) -> WriterProperties {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ];
    let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let statistics = [EnabledStatistics::Page, EnabledStatistics::Chunk];
    let mut builder = WriterProperties::builder()
        .set_compression(codecs[random.usize(..codecs.len())])
        .set_writer_version(versions[random.usize(..2)])
        .set_statistics_enabled(statistics[random.usize(..2)])
        .set_dictionary_enabled(random.bool())
        .set_data_page_row_count_limit(random.usize(5..200))
        .set_write_batch_size(5)
        .set_max_row_group_row_count(Some(random.usize(20..400)));
    if random.bool() {
        let id = ColumnPath::from("id");
        let encodings = [
            Encoding::PLAIN,
            Encoding::DELTA_BYTE_ARRAY,
            Encoding::DELTA_LENGTH_BYTE_ARRAY,
        ];
        builder = builder
            .set_column_encoding(id, encodings[random.usize(..3)])
            .set_column_encoding(ColumnPath::from("timestamp"), Encoding::DELTA_BINARY_PACKED);
    }
    builder.build()
}

/// Damages a file: its footer, a page header, a page, an index, or arbitrary bytes.
pub fn damage_file(random: &mut Rng, bytes: &mut Vec<u8>) {
    let parts = (random.u8(..10), footer_of(bytes));
    let (choice, Some((mut footer, at))) = parts else {
        return damage(random, bytes);
    };
    bytes.truncate(at);
    match choice {
        0..=3 => footer.damage(random),
        4..=7 => damage_page(random, bytes, &mut footer),
        8 => damage_index(random, bytes, &mut footer),
        _ => damage(random, bytes),
    }
    let start = bytes.len();
    footer.write(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap();
    bytes.extend(length.to_le_bytes());
    bytes.extend(b"PAR1");
    if random.u8(..50) == 0 {
        damage(random, bytes);
    }
}

fn footer_of(bytes: &[u8]) -> Option<(Value, usize)> {
    let (rest, tail) = bytes.split_last_chunk::<8>()?;
    let [a, b, c, d, ..] = *tail;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    let at = rest.len().checked_sub(length)?;
    Some((thrift::read(&mut &rest[at..])?, at))
}

/// Damages the pages of a random column chunk, appends them to the file, and points the footer to them.
fn damage_page(random: &mut Rng, bytes: &mut Vec<u8>, footer: &mut Value) {
    let (group, column) = (random.i16(..3), random.i16(..3));
    let meta = |field: i16| [4, group, 1, column, 3, field];
    let number = |footer: &Value, field| {
        let number = footer.integer(&meta(field));
        number.and_then(|it| usize::try_from(it).ok())
    };
    let (Some(data), Some(length)) = (number(footer, 9), number(footer, 7)) else {
        return footer.damage(random);
    };
    let start = number(footer, 11).unwrap_or(data);
    let end = start.saturating_add(length);
    let Some(mut rest) = bytes.get(start..end).map(<[u8]>::to_vec) else {
        return footer.damage(random);
    };
    let mut pages: Vec<(Value, Vec<u8>)> = Vec::new();
    while !rest.is_empty() {
        let mut cursor = rest.as_slice();
        let header = thrift::read(&mut cursor);
        let size = header.as_ref().and_then(|header| header.integer(&[3]));
        let size = size.and_then(|size| usize::try_from(size).ok());
        let (Some(header), Some(size)) = (header, size) else {
            break;
        };
        let size = size.min(cursor.len());
        pages.push((header, cursor[..size].to_vec()));
        rest = cursor[size..].to_vec();
    }
    if pages.is_empty() {
        return footer.damage(random);
    }
    let at = random.usize(..pages.len());
    match random.u8(..6) {
        0..=2 => pages[at].0.damage(random),
        3 | 4 => {
            damage(random, &mut pages[at].1);
            let size = i64::try_from(pages[at].1.len()).unwrap();
            pages[at].0.set(&[3], size);
        }
        _ => {
            let again = pages[at].clone();
            pages.extend(std::iter::repeat_n(again, random.usize(1..50)));
        }
    }
    let begins = bytes.len();
    let mut first = 0;
    for (index, (header, data)) in pages.iter().enumerate() {
        if index == 1 {
            first = bytes.len() - begins;
        }
        header.write(bytes);
        bytes.extend(data);
    }
    let has_dictionary = footer.integer(&meta(11)).is_some();
    let place = |offset: usize| i64::try_from(begins + offset).unwrap();
    footer.set(&meta(11), place(0));
    footer.set(&meta(9), place(if has_dictionary { first } else { 0 }));
    footer.set(&meta(7), i64::try_from(bytes.len() - begins).unwrap());
}

/// Damages the offset or column index of a column chunk, appends it to the file, and points the footer to it.
fn damage_index(random: &mut Rng, bytes: &mut Vec<u8>, footer: &mut Value) {
    let field = [4, 6][random.usize(..2)];
    let chunk = |field: i16| [4, 0, 1, 1, field];
    let place = |field| {
        let number = footer.integer(&chunk(field))?;
        usize::try_from(number).ok()
    };
    let (Some(offset), Some(length)) = (place(field), place(field + 1)) else {
        return footer.damage(random);
    };
    let Some(mut index) = bytes.get(offset..).and_then(|it| thrift::read(&mut &*it)) else {
        return footer.damage(random);
    };
    index.damage(random);
    let begins = bytes.len();
    index.write(bytes);
    // The length may be damaged already, so the allocation is bounded.
    let length = length.min(1 << 20);
    let longer = i64::try_from((bytes.len() - begins).max(length)).unwrap();
    bytes.resize(begins + usize::try_from(longer).unwrap(), 0);
    footer.set(&chunk(field), i64::try_from(begins).unwrap());
    footer.set(&chunk(field + 1), longer);
}

/// Surveys and reads a file as jobs and queries do, and returns the outcome in the form of a call's reply.
pub async fn take(bytes: Vec<u8>) -> Reply {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let outcome = runtime.unwrap().block_on(read_all(bytes));
        // The receiver is gone after a timeout.
        let _ = sender.send(outcome);
    });
    match tokio::time::timeout(CALL_TIMEOUT, receiver).await {
        Ok(Ok(Ok(()))) => Reply {
            status: Some(Status::ok("")),
            ..Reply::default()
        },
        Ok(Ok(Err(fault))) => Reply {
            status: Some(Status::invalid_argument(fault.to_string())),
            ..Reply::default()
        },
        Ok(Err(_)) => Reply {
            status: Some(Status::internal("reading a raw file panicked")),
            ..Reply::default()
        },
        Err(_) => Reply {
            hangs: true,
            ..Reply::default()
        },
    }
}

async fn read_all(bytes: Vec<u8>) -> Result<(), RawFileError> {
    let store = Store::open("memory://fuzz", &HashMap::new()).unwrap();
    let path = Path::from("a.parquet");
    let objects = store.objects();
    let put = objects.put(&path, PutPayload::from(bytes));
    put.await.unwrap();
    let file = list_raw_files(&store).await.unwrap().remove(0);
    let format = RawFormat {
        columns: ColumnNames {
            id: "id".to_owned(),
            timestamp: "timestamp".to_owned(),
            value: "value".to_owned(),
        },
        timezone: Tz::UTC,
        plausible: Window::ALL,
        marks_ambiguous: true,
    };
    survey(&store, &file, &format).await?;
    let later = Window {
        start: START + 20_000_000_000,
        end: START + 200_000_000_000,
    };
    for window in [Window::ALL, later] {
        let want = ReadRequest {
            window,
            untimed: false,
            batch_rows: 16_384,
        };
        let mut batches = read(&store, &file, &format, &want).await?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
            if rows > ENOUGH_ROWS {
                break;
            }
        }
    }
    Ok(())
}
