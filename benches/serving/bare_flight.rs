//! The upper bound of throughput for `benches/serving`: a Flight SQL server that parses no SQL. It reads the Parquet files
//! of a folder into memory and returns all their rows for every query.
//!
//! `cargo run --release --example bare_flight -- target/bench-serving/flat/data_min`
#![expect(
    clippy::print_stdout,
    reason = "a peer to measure against, not a part of plantlake"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandPreparedStatementQuery, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc,
    Ticket,
};
use futures::{Stream, TryStreamExt, stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// The same allocator as in plantlake.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows per batch, as in plantlake.
const ROWS: usize = 8_192;
/// The maximum size of a Flight message in bytes, as in plantlake.
const MESSAGE: usize = 1 << 20;

/// The server, with the rows that it sends to every client.
struct Bare {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

type ResponseStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

impl Bare {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut batches = Vec::new();
        for path in parquet_files(folder)? {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)
                .and_then(|builder| builder.with_batch_size(ROWS).build())
                .with_context(|| path.display().to_string())?;
            for batch in reader {
                batches.push(batch?);
            }
        }
        let first = batches.first().context("no rows were found")?;
        let schema = first.schema();
        Ok(Self { schema, batches })
    }

    fn schema_as_ipc(&self) -> Result<IpcMessage, Status> {
        SchemaAsIpc::new(&self.schema, &IpcWriteOptions::default())
            .try_into()
            .map_err(|error| Status::internal(format!("the schema: {error}")))
    }
}

/// Returns the Parquet files of `folder` and its subfolders, sorted by path.
fn parquet_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[tonic::async_trait]
impl FlightSqlService for Bare {
    type FlightService = Self;

    async fn do_action_create_prepared_statement(
        &self,
        _query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let IpcMessage(dataset_schema) = self.schema_as_ipc()?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: "all".into(),
            dataset_schema,
            parameter_schema: Vec::new().into(),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        command: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let info = FlightInfo::new()
            .try_with_schema(&self.schema)
            .map_err(|error| Status::internal(format!("the schema: {error}")))?
            .with_descriptor(request.into_inner())
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket));
        Ok(Response::new(info))
    }

    async fn do_get_prepared_statement(
        &self,
        _command: CommandPreparedStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<ResponseStream>, Status> {
        let batches = self.batches.clone();
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(Arc::clone(&self.schema))
            .with_max_flight_data_size(MESSAGE)
            .build(stream::iter(batches.into_iter().map(Ok::<_, FlightError>)))
            .map_err(Status::from);
        Ok(Response::new(Box::pin(encoded)))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .context("name the folder of the Parquet files")?;
    let bare = Bare::read(Path::new(&folder))?;
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
    println!("listening on grpc://{}", incoming.local_addr()?);
    Server::builder()
        .add_service(FlightServiceServer::new(bare))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
