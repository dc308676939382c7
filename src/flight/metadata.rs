//! What there is: catalogs, schemas, tables, keys, types. Each answer is made from the caller's own session, so that it
//! names nothing that the caller may not see.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
};
use datafusion::logical_expr::TableType;
use tonic::Status;
use uuid::Uuid;

use super::call::Call;
use super::edge::table_schema;
use super::like::is_like;
use super::server::Server;
use super::sql_info::{SQL_INFO, TYPES};
use super::status;
use crate::engine::{CATALOG, INFORMATION_SCHEMA, PUBLIC, QueryError, QuerySession};
use datafusion::common::Constraint;

/// What tables are called.
const TABLE: &str = "TABLE";
/// The same, as some tools call it.
const BASE_TABLE: &str = "BASE TABLE";
const VIEW: &str = "VIEW";

impl Server {
    /// The answer to a command about what there is; none if the command is about something else.
    pub(super) async fn describe(
        &self,
        call: &Call,
        command: &Command,
    ) -> Result<Option<RecordBatch>, Status> {
        let failed = |error: FlightError| {
            status::hidden(&error, call.id, "the description could not be made")
        };
        let known_to_fail = |error: &FlightError| {
            status::hidden(error, call.id, "the description could not be made")
        };
        Ok(Some(match command.clone() {
            Command::CommandGetCatalogs(command) => {
                let mut catalogs = command.into_builder();
                catalogs.append(CATALOG);
                catalogs.build().map_err(failed)?
            }
            Command::CommandGetDbSchemas(command) => self.schemas(call, command).map_err(failed)?,
            Command::CommandGetTables(command) => self.tables(call, command).await?,
            Command::CommandGetTableTypes(command) => {
                let mut types = command.into_builder();
                types.append(TABLE);
                types.append(VIEW);
                types.build().map_err(failed)?
            }
            Command::CommandGetSqlInfo(command) => {
                let known = SQL_INFO.as_ref().map_err(known_to_fail)?;
                command.into_builder(known).build().map_err(failed)?
            }
            Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo { data_type }) => {
                let known = TYPES.as_ref().map_err(known_to_fail)?;
                known.record_batch(data_type).map_err(failed)?
            }
            Command::CommandGetPrimaryKeys(command) => self.primary_keys(call, &command).await?,
            // No table refers to another as far as a database is concerned.
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => RecordBatch::new_empty(references_schema()),
            _ => return Ok(None),
        }))
    }

    fn schemas(
        &self,
        call: &Call,
        command: CommandGetDbSchemas,
    ) -> Result<RecordBatch, FlightError> {
        let options = self.sessions.options(call.principal());
        let session = self.session(call, &options, None)?;
        let pattern = command.db_schema_filter_pattern.as_deref();
        let mut found = CommandGetDbSchemas {
            catalog: None,
            db_schema_filter_pattern: None,
        }
        .into_builder();
        if is_ours(command.catalog.as_deref()) {
            let names = session.schemas().into_iter().map(|(name, _)| name);
            for name in names.chain([INFORMATION_SCHEMA.to_owned()]) {
                if is_like(&name, pattern) {
                    found.append(CATALOG, name);
                }
            }
        }
        found.build()
    }

    async fn tables(&self, call: &Call, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let options = self.sessions.options(call.principal());
        let session = self.session(call, &options, None)?;
        // To say what columns a view has, it is planned.
        let timer = self.engine.lanes().timer();
        let tables = described_tables(session, command, call.id);
        self.on_planning_lane(call, &timer, tables).await
    }

    async fn primary_keys(
        &self,
        call: &Call,
        command: &CommandGetPrimaryKeys,
    ) -> Result<RecordBatch, Status> {
        let options = self.sessions.options(call.principal());
        let session = self.session(call, &options, None)?;
        let wanted = command.db_schema.as_deref().unwrap_or(PUBLIC);
        let schemas = session.schemas();
        let schema = schemas.iter().find(|(name, _)| name == wanted);
        let mut columns: Vec<(String, i32)> = Vec::new();
        if let Some((_, schema)) = schema
            && is_ours(command.catalog.as_deref())
        {
            let of_query = |error| status::of_query(&QueryError::from(error), "", call.id);
            if let Some(table) = schema.table(&command.table).await.map_err(of_query)?
                && let Some(constraints) = table.constraints()
            {
                for constraint in constraints.iter() {
                    if let Constraint::PrimaryKey(indices) = constraint {
                        let names = indices
                            .iter()
                            .map(|&index| table.schema().field(index).name().clone());
                        columns = names.zip(1..).collect();
                    }
                }
            }
        }
        let text =
            |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; columns.len()])) };
        let names: StringArray = columns
            .iter()
            .map(|(name, _)| Some(name.as_str()))
            .collect();
        let numbers: Int32Array = columns.iter().map(|(_, number)| Some(*number)).collect();
        let rows = RecordBatch::try_new(
            primary_keys_schema(),
            vec![
                text(CATALOG),
                text(wanted),
                text(&command.table),
                Arc::new(names),
                text(&format!("{}_key", command.table)),
                Arc::new(numbers),
            ],
        );
        rows.map_err(|error| status::hidden(&error, call.id, "the description could not be made"))
    }
}

/// The tables that the session has and the command asks for.
async fn described_tables(
    session: QuerySession,
    command: CommandGetTables,
    request: Uuid,
) -> Result<RecordBatch, Status> {
    let failed =
        |error: FlightError| status::hidden(&error, request, "the description could not be made");
    let mut found = CommandGetTables {
        include_schema: command.include_schema,
        ..CommandGetTables::default()
    }
    .into_builder();
    let wants = |kind: &str| {
        let types = &command.table_types;
        types.is_empty()
            || types
                .iter()
                .any(|wanted| wanted == kind || kind == TABLE && wanted == BASE_TABLE)
    };
    if !is_ours(command.catalog.as_deref()) {
        return found.build().map_err(failed);
    }
    for (schema_name, schema) in session.schemas() {
        if !is_like(&schema_name, command.db_schema_filter_pattern.as_deref()) {
            continue;
        }
        for name in schema.table_names() {
            if !is_like(&name, command.table_name_filter_pattern.as_deref()) {
                continue;
            }
            let of_query = |error| status::of_query(&QueryError::from(error), "", request);
            let Some(table) = schema.table(&name).await.map_err(of_query)? else {
                continue;
            };
            // What a tool of the trade calls a table is the type that it asks for.
            let kind = match table.table_type() {
                TableType::View => VIEW,
                _ => TABLE,
            };
            if wants(kind) {
                let described = table_schema(&table.schema());
                found
                    .append(CATALOG, &schema_name, &name, kind, &described)
                    .map_err(failed)?;
            }
        }
    }
    found.build().map_err(failed)
}

/// Whether a filter for catalogs lets ours through.
fn is_ours(catalog: Option<&str>) -> bool {
    catalog.is_none_or(|catalog| catalog == CATALOG)
}

/// As FlightSql.proto has it.
fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// As FlightSql.proto has it, for exported and imported keys and cross references alike.
fn references_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
