//! `plantlake query`: read-only SQL on the published tables.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use crate::app;
use crate::cli::admin_target::ServerArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{ReplacedFile, Table, human, result_file};
use crate::cli::run_command::{Context, RunCommand};
use crate::engine::QueryError;
use crate::lake::Store;
use crate::model::text_from;

/// The maximum number of rows that a table shows; more rows need a file.
const MAX_SHOWN_ROWS: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  List the tables, and describe one:
      plantlake query \"SHOW TABLES\"
      plantlake query \"DESCRIBE data_h\"

  A month of hours of one asset:
      plantlake query \"SELECT timestamp, value, count FROM data_h
        WHERE asset_id = 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'
          AND timestamp >= '2026-01-01' AND timestamp < '2026-02-01' ORDER BY timestamp\"

  All minutes of a day, as Parquet (--format json writes one object per line):
      plantlake query \"SELECT * FROM data_min WHERE date = '2026-01-31'\" --format parquet --output day.parquet

  Yesterday's mean of every pressure sensor of a unit, by name:
      plantlake query \"SELECT a.name, d.value, a.specifications FROM data_d d JOIN assets a ON a.id = d.asset_id
        WHERE a.type = 'pressure sensor' AND a.location LIKE '%Unit 100%'
          AND d.timestamp >= now() - INTERVAL '2 days' ORDER BY a.name\"

  From a file or a pipe:
      plantlake query - < report.sql

  On a server, as a user of an organisation:
      plantlake query \"SELECT * FROM data_d\" --server grpc+tls://history.example.com:50051 --as ada@northfield.example";

/// Run read-only SQL on the tables
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct QueryArgs {
    /// One SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE; `-` reads it from standard input
    sql: String,
    /// The format of the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// The format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people; fits the terminal
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Json,
    /// A Parquet file
    Parquet,
}

/// The error that the file of the result cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to {path}")]
struct OutputFailed {
    path: PathBuf,
    source: std::io::Error,
}

impl RunCommand for QueryArgs {
    fn is_machine_output(&self) -> bool {
        self.format != Format::Table
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        // Read before the SQL: the secret is the first line of standard input.
        let server = self.server.connect(&context).await?;
        let mut sql = self.sql;
        if sql == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            sql = text_from(bytes).context("cannot read the SQL from standard input")?;
        }
        let rows = match server {
            Some(server) => server.query(&sql).await?,
            None => run_local_query(&context, &sql).await?,
        };
        let Some(path) = &self.output else {
            if self.format == Format::Table {
                print_rows(&context, rows).await?;
                return Ok(Exit::Success);
            }
            if self.format == Format::Parquet && std::io::stdout().is_terminal() {
                return Err(Exit::Usage.wrap(anyhow::anyhow!(
                    "cannot write Parquet to a terminal; name a file with --output, or pipe the output"
                )));
            }
            let mut out = context.terminal.writer();
            write_rows(self.format, rows, &mut out).await?;
            out.flush()?;
            return Ok(Exit::Success);
        };
        let failed = |source| OutputFailed {
            path: path.clone(),
            source,
        };
        let mut file = ReplacedFile::create(path).map_err(failed)?;
        write_rows(self.format, rows, &mut file).await?;
        file.finish().map_err(failed)?;
        Ok(Exit::Success)
    }
}

async fn write_rows(
    format: Format,
    rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    match format {
        Format::Csv => result_file::write_csv(rows, out).await,
        Format::Json => result_file::write_json::<LineDelimited>(rows, out).await,
        Format::Parquet => result_file::write_parquet(rows, out).await,
        Format::Table => {
            let (table, _) = read_table(rows).await?;
            Ok(out.write_all(table.render(None).as_bytes())?)
        }
    }
}

/// Runs a query on the local tables.
pub(super) async fn run_local_query(
    context: &Context,
    sql: &str,
) -> anyhow::Result<SendableRecordBatchStream> {
    let settings = &context.settings;
    let lake = Store::open_existing_lake(&settings.lake, settings.storage.options())?;
    let session = app::local_session(settings, &lake).await?;
    if session.run() == 0 {
        context.terminal.note(&format!(
            "nothing is published in {} yet, so its tables are empty; run `plantlake resample`, or set another `--lake`",
            settings.lake
        ));
    }
    let frame = session.sql(sql).await.map_err(|error| match error {
        error @ QueryError::NotReadOnly { .. } => Exit::Usage.wrap(error),
        error => error.into(),
    })?;
    Ok(frame.execute_stream().await.map_err(QueryError::from)?)
}

/// Prints a result as a table.
pub(super) async fn print_rows(
    context: &Context,
    stream: SendableRecordBatchStream,
) -> anyhow::Result<()> {
    let (table, rows) = read_table(stream).await?;
    context.terminal.table(&table)?;
    if rows > MAX_SHOWN_ROWS {
        context.terminal.note(&format!(
            "The first {} of {} rows; --format csv, json or parquet gives all.",
            human::count(MAX_SHOWN_ROWS as u64),
            human::count(rows as u64)
        ));
    }
    Ok(())
}

/// Returns the first rows as a table, and the total number of rows.
async fn read_table(mut stream: SendableRecordBatchStream) -> anyhow::Result<(Table, usize)> {
    let schema = stream.schema();
    let mut table = Table::new(schema.fields().iter().map(|field| field.name().clone()))
        .numbers(numeric_columns(&schema));
    let fields = schema.fields().iter();
    let options: Vec<_> = fields
        .map(|field| table_format(field.data_type()))
        .collect();
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        let formatters = batch
            .columns()
            .iter()
            .zip(&options)
            .map(|(column, options)| ArrayFormatter::try_new(column, options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows().min(MAX_SHOWN_ROWS.saturating_sub(rows)) {
            let cells = formatters.iter().zip(schema.fields());
            let cells = cells.map(|(formatter, field)| {
                let text = formatter.value(row).try_to_string();
                text.with_context(|| format!("cannot show row {row}, column {:?}", field.name()))
            });
            table.row(cells.collect::<Result<Vec<_>, _>>()?);
        }
        rows += batch.num_rows();
    }
    Ok((table, rows))
}

/// Returns how a column of this type is shown. An instant in another zone than UTC is shown with its offset.
fn table_format(kind: &DataType) -> FormatOptions<'static> {
    let is_utc = match kind {
        DataType::Timestamp(_, Some(zone)) => ["UTC", "Etc/UTC", "Z", "+00:00"].contains(&&**zone),
        _ => true,
    };
    let options = FormatOptions::default().with_display_error(false);
    options.with_timestamp_tz_format(Some(match is_utc {
        true => "%Y-%m-%dT%H:%M:%S%.fZ",
        false => "%Y-%m-%dT%H:%M:%S%.f%:z",
    }))
}

fn numeric_columns(schema: &SchemaRef) -> Vec<usize> {
    let columns = schema.fields().iter().enumerate();
    columns
        .filter(|(_, field)| {
            field.data_type().is_numeric() && !matches!(field.data_type(), DataType::Null)
        })
        .map(|(index, _)| index)
        .collect()
}

/// Prints a result as one JSON array.
pub(super) async fn print_json_list(
    context: &Context,
    rows: SendableRecordBatchStream,
) -> anyhow::Result<Exit> {
    let mut out = context.terminal.writer();
    result_file::write_json::<JsonArray>(rows, &mut out).await?;
    writeln!(out)?;
    out.flush()?;
    Ok(Exit::Success)
}
