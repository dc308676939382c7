//! Generates valid messages: every command, action and call of Flight SQL, with parameters and readings of all types.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::array::{new_empty_array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt,
    TableDefinitionOptions, TicketStatementQuery,
};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, FlightData, FlightDescriptor, FlightEndpoint,
    FlightInfo, HandshakeRequest, SchemaAsIpc, Ticket,
};
use fastrand::Rng;
use prost::Message;

use crate::input::{Bytes, Caller, Input};
use crate::send::SERVICE;
use crate::words::{Kind, word};

/// Administration orders that do not change the accounts of the fuzzer's own callers.
const ORDERS: [&str; 8] = [
    r#"{"order":"users","organisation":null}"#,
    r#"{"order":"keys","organisation":null,"user":null}"#,
    r#"{"order":"user","email":"nobody@operators.example"}"#,
    r#"{"order":"create_key","user":"nobody@operators.example","name":"x","expires_at":"2031-01-01T00:00:00Z","may_ingest":true}"#,
    r#"{"order":"change_user","email":"nobody@operators.example","role":"admin","name":"x","may_ingest":true}"#,
    r#"{"order":"set_user_active","email":"nobody@operators.example","active":false}"#,
    r#"{"order":"remove_user","email":"robot@boilers.example"}"#,
    r#"{"order":"revoke_key","id":"0123456789abcdef"}"#,
];

/// Generates a unary call that is valid, or nearly so.
pub fn call(random: &mut Rng, caller: Caller, sql: &str) -> Input {
    let (path, message) = match random.u8(..20) {
        0..=6 => {
            let path = ["GetFlightInfo", "GetSchema", "PollFlightInfo"][random.usize(..3)];
            let descriptor = FlightDescriptor::new_cmd(command(random, sql));
            (path, descriptor.encode_to_vec())
        }
        7..=10 => {
            let ticket = Ticket::new(command(random, sql));
            ("DoGet", ticket.encode_to_vec())
        }
        11..=16 => ("DoAction", action(random, sql).encode_to_vec()),
        17 => {
            let message = HandshakeRequest {
                protocol_version: random.u64(..3),
                payload: "ada:secret".into(),
            };
            ("Handshake", message.encode_to_vec())
        }
        18 => {
            let expression = "all".into();
            let path = ["ListFlights", "ListActions"][random.usize(..2)];
            (path, Criteria { expression }.encode_to_vec())
        }
        _ => {
            let service = b"\x0a\x23arrow.flight.protocol.FlightService".to_vec();
            return Input::call(caller, "/grpc.health.v1.Health/Check", vec![service]);
        }
    };
    Input::call(caller, &format!("{SERVICE}{path}"), vec![message])
}

/// Generates a DoPut or DoExchange call: a stream of readings or parameters.
pub fn stream(random: &mut Rng, caller: Caller, sql: &str) -> Input {
    let (path, command, data) = match random.u8(..10) {
        0..=5 => ("DoPut", ingest(random), readings(random)),
        6 => ("DoExchange", ingest(random), readings(random)),
        _ => {
            let columns = random.usize(..4);
            ("DoPut", command(random, sql), parameters(random, columns))
        }
    };
    let mut messages = data;
    let first = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(command)),
        ..FlightData::default()
    };
    match messages.first_mut() {
        Some(message) => message.0.extend(first.encode_to_vec()),
        None => messages.push(Bytes(first.encode_to_vec())),
    }
    Input {
        messages,
        ..Input::call(caller, &format!("{SERVICE}{path}"), Vec::new())
    }
}

fn odd_text(random: &mut Rng) -> String {
    match random.u8(..3) {
        0 => word(random, "text").to_owned(),
        1 => word(random, "pieces").to_owned(),
        _ => "data\\_%".to_owned(),
    }
}

fn perhaps(random: &mut Rng) -> Option<String> {
    random.bool().then(|| odd_text(random))
}

fn command(random: &mut Rng, sql: &str) -> Vec<u8> {
    let (catalog, db_schema, table) = (perhaps(random), perhaps(random), "data_d".to_owned());
    let query = sql.to_owned();
    let any = match random.u8(..18) {
        0 | 1 => CommandGetTables {
            catalog: None,
            db_schema_filter_pattern: db_schema,
            table_name_filter_pattern: perhaps(random),
            table_types: vec!["TABLE".to_owned(); random.usize(..3)],
            include_schema: random.bool(),
        }
        .as_any(),
        2 => CommandGetDbSchemas {
            catalog,
            db_schema_filter_pattern: db_schema,
        }
        .as_any(),
        3 => CommandGetCatalogs {}.as_any(),
        4 => CommandGetTableTypes {}.as_any(),
        5 => CommandGetSqlInfo {
            info: vec![random.u32(..), random.u32(..600), 0, 8],
        }
        .as_any(),
        6 => CommandGetXdbcTypeInfo {
            data_type: random.bool().then(|| random.i32(-200..200)),
        }
        .as_any(),
        7 => CommandGetPrimaryKeys {
            catalog,
            db_schema,
            table,
        }
        .as_any(),
        8 => CommandGetExportedKeys {
            catalog,
            db_schema,
            table,
        }
        .as_any(),
        9 => CommandGetImportedKeys {
            catalog,
            db_schema,
            table,
        }
        .as_any(),
        10 => CommandGetCrossReference {
            pk_catalog: catalog,
            pk_db_schema: db_schema,
            pk_table: table.clone(),
            fk_catalog: None,
            fk_db_schema: None,
            fk_table: table,
        }
        .as_any(),
        11 => CommandStatementSubstraitPlan::default().as_any(),
        12 => CommandPreparedStatementQuery {
            prepared_statement_handle: query.into(),
        }
        .as_any(),
        13 => CommandPreparedStatementUpdate {
            prepared_statement_handle: query.into(),
        }
        .as_any(),
        14 => TicketStatementQuery {
            statement_handle: query.into(),
        }
        .as_any(),
        15 => CommandStatementUpdate {
            query,
            transaction_id: None,
        }
        .as_any(),
        _ => CommandStatementQuery {
            query,
            transaction_id: random.bool().then(|| "t".into()),
        }
        .as_any(),
    };
    any.encode_to_vec()
}

fn action(random: &mut Rng, sql: &str) -> Action {
    let query = sql.to_owned();
    match random.u8(..10) {
        0 | 1 => {
            let request = ActionCreatePreparedStatementRequest {
                query,
                transaction_id: None,
            };
            Action::new("CreatePreparedStatement", request.as_any().encode_to_vec())
        }
        2 => {
            let request = ActionClosePreparedStatementRequest {
                prepared_statement_handle: query.into(),
            };
            Action::new("ClosePreparedStatement", request.as_any().encode_to_vec())
        }
        3 => {
            let ticket = Ticket::new(command(random, sql));
            let info = FlightInfo::new().with_endpoint(FlightEndpoint::new().with_ticket(ticket));
            let request = CancelFlightInfoRequest::new(info);
            Action::new("CancelFlightInfo", request.encode_to_vec())
        }
        4 | 5 => Action::new("SetSessionOptions", options(random)),
        6 => Action::new("GetSessionOptions", Vec::new()),
        7 => {
            let request = ActionBeginTransactionRequest {};
            Action::new("BeginTransaction", request.as_any().encode_to_vec())
        }
        8 => Action::new("CloseSession", Vec::new()),
        _ => {
            let order = ORDERS[random.usize(..ORDERS.len())];
            Action::new("plantlake.Administer", order.as_bytes().to_vec())
        }
    }
}

/// Generates an encoded map with one session option, from its name to a text value.
fn options(random: &mut Rng) -> Vec<u8> {
    let names = ["catalog", "schema", "time_zone", "TimeZone", "other"];
    let name = names[random.usize(..names.len())];
    let values = ["UTC", "Europe/Berlin", "+99:99", "account", "plantlake", ""];
    let value = values[random.usize(..values.len())];
    let field = |number: u8, content: &[u8]| {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    };
    let value = field(2, &field(1, value.as_bytes()));
    field(1, &[field(1, name.as_bytes()), value].concat())
}

fn ingest(random: &mut Rng) -> Vec<u8> {
    let options = TableDefinitionOptions {
        if_not_exist: random.i32(..4),
        if_exists: random.i32(..5),
    };
    let command = CommandStatementIngest {
        table_definition_options: random.bool().then_some(options),
        table: "raw_readings".to_owned(),
        schema: random.bool().then(|| "public".to_owned()),
        catalog: None,
        temporary: random.u8(..10) == 0,
        transaction_id: None,
        options: Default::default(),
    };
    command.as_any().encode_to_vec()
}

/// Generates readings. A column may have another type, and another may be duplicated.
fn readings(random: &mut Rng) -> Vec<Bytes> {
    let rows = random.usize(..5);
    let ids = vec!["11111111-0000-4000-8000-000000000001"; rows];
    let instant = DataType::Timestamp(TimeUnit::Microsecond, None);
    let micros = Int64Array::from(vec![1_714_521_600_000_000; rows]);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(ids))),
        ("timestamp", cast(&micros, &instant).unwrap()),
        ("value", cast(&micros, &DataType::Float64).unwrap()),
    ];
    if random.bool() {
        let at = random.usize(..columns.len());
        columns[at].1 = column(random, rows);
    }
    if random.u8(..5) == 0 {
        let (name, _) = columns[random.usize(..columns.len())];
        columns.push((name, column(random, rows)));
    }
    let columns = columns
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values))
        .collect();
    messages(random, columns, rows)
}

/// Generates the messages of `count` parameters.
pub fn parameters(random: &mut Rng, count: usize) -> Vec<Bytes> {
    let rows = if random.u8(..8) == 0 {
        random.usize(..3)
    } else {
        1
    };
    let columns = (1..=count).map(|number| (format!("${number}"), column(random, rows)));
    let columns: Vec<_> = columns.collect();
    messages(random, columns, rows)
}

/// Encodes batches as Flight messages with compressed bodies.
fn compressed(
    schema: &Schema,
    batches: &[RecordBatch],
    compression: Option<CompressionType>,
) -> Result<Vec<FlightData>, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(compression)?;
    let mut data = vec![FlightData::from(SchemaAsIpc::new(schema, &options))];
    let mut tracker = DictionaryTracker::new(false);
    for batch in batches {
        let encoder = IpcDataGenerator::default();
        let mut context = Default::default();
        let (dictionaries, batch) = encoder.encode(batch, &mut tracker, &options, &mut context)?;
        data.extend(dictionaries.into_iter().map(FlightData::from));
        data.push(batch.into());
    }
    Ok(data)
}

fn messages(random: &mut Rng, columns: Vec<(String, ArrayRef)>, rows: usize) -> Vec<Bytes> {
    let codecs = [CompressionType::LZ4_FRAME, CompressionType::ZSTD];
    let compression = (random.u8(..3) == 0).then(|| codecs[random.usize(..2)]);
    let fields = columns.iter();
    let fields = fields.map(|(name, values)| Field::new(name, values.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let values = columns.into_iter().map(|(_, values)| values).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(schema.clone()), values, &options);
    let batches = [batch.unwrap()];
    let data = match &compression {
        None => batches_to_flight_data(&schema, batches.to_vec()),
        Some(_) => compressed(&schema, &batches, compression),
    };
    let data = data.unwrap_or_default();
    data.iter()
        .map(|data| Bytes(data.encode_to_vec()))
        .collect()
}

/// Generates a column of any type. Its values are null if the chosen text cannot be cast to the type.
fn column(random: &mut Rng, rows: usize) -> ArrayRef {
    let kind = kind(random, 2);
    if rows == 0 {
        return new_empty_array(&kind);
    }
    let text = match random.u8(..3) {
        0 => random.i64(..).to_string(),
        1 => "2024-05-01T00:00:00Z".to_owned(),
        _ => {
            let kind = Kind::ALL[random.usize(..Kind::ALL.len())];
            word(random, kind.name()).trim_matches('\'').to_owned()
        }
    };
    let texts = StringArray::from(vec![text; rows]);
    let values = cast(&texts, &kind);
    values.unwrap_or_else(|_| new_null_array(&kind, rows))
}

fn kind(random: &mut Rng, depth: usize) -> DataType {
    let inner = |random: &mut Rng| Arc::new(Field::new("item", kind(random, depth - 1), true));
    let plain = [
        DataType::Int64,
        DataType::Utf8,
        DataType::Float64,
        DataType::Boolean,
        DataType::UInt64,
        DataType::Int8,
        DataType::Float16,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(3),
        DataType::Null,
        DataType::Date32,
        DataType::Date64,
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Berlin".into())),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("Nowhere/Here".into())),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(38, 10),
        DataType::Decimal256(76, -5),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ];
    match random.u8(..30) {
        0 if depth > 0 => DataType::List(inner(random)),
        1 if depth > 0 => DataType::Struct(vec![inner(random)].into()),
        2 if depth > 0 => DataType::FixedSizeList(inner(random), random.i32(0..3)),
        3 if depth > 0 => DataType::LargeList(inner(random)),
        4 if depth > 0 => DataType::ListView(inner(random)),
        5 => DataType::Map(
            Arc::new(Field::new(
                "entries",
                DataType::Struct(
                    vec![
                        Field::new("keys", DataType::Utf8, false),
                        Field::new("values", DataType::Int64, true),
                    ]
                    .into(),
                ),
                false,
            )),
            false,
        ),
        6 => DataType::RunEndEncoded(
            Arc::new(Field::new("run_ends", DataType::Int32, false)),
            Arc::new(Field::new("values", DataType::Utf8, true)),
        ),
        _ => plain[random.usize(..plain.len())].clone(),
    }
}
