//! Metadata commands: catalogs, schemas, tables, keys, types. Each result is made from the caller's own session, so it
//! names nothing that the caller may not see.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::{
    Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
};
use datafusion::logical_expr::TableType;
use tonic::Status;
use uuid::Uuid;

use super::like_pattern::is_like;
use super::sql_info::{SQL_INFO, XDBC_TYPES};
use crate::engine::{CATALOG, INFORMATION_SCHEMA, PUBLIC, QueryError, QuerySession};
use crate::server::errors::status;
use crate::server::middleware::Call;
use crate::server::state::server::Server;
use crate::server::wire::column_metadata::TableName;
use crate::server::wire::wire_types::table_schema;
use datafusion::common::Constraint;

/// The type of a table.
const TABLE: &str = "TABLE";
/// The type of a table, as some tools call it.
const BASE_TABLE: &str = "BASE TABLE";
const VIEW: &str = "VIEW";

impl Server {
    /// Returns the result of a metadata command; none if the command is of another kind.
    pub(in crate::server) async fn describe(
        &self,
        call: &Call,
        command: &Command,
    ) -> Result<Option<RecordBatch>, Status> {
        let failed = |error: FlightError| {
            status::hidden_error(&error, call.id, "cannot return the metadata")
        };
        let known_to_fail = |error: &FlightError| {
            status::hidden_error(error, call.id, "cannot return the metadata")
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
                let wanted = known_info_ids(command.info, known).map_err(failed)?;
                known.record_batch(wanted).map_err(failed)?
            }
            Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo { data_type }) => {
                let known = XDBC_TYPES.as_ref().map_err(known_to_fail)?;
                known.record_batch(data_type).map_err(failed)?
            }
            Command::CommandGetPrimaryKeys(command) => self.primary_keys(call, command).await?,
            // There are no foreign keys.
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
        if is_own_catalog(command.catalog.as_deref()) {
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
        let options = self.session_options(call)?;
        let session = self.session(call, &options, None)?;
        // Views are planned to determine their columns.
        let timer = self.engine.scheduler().timer();
        let tables = list_tables(session, command, options.zoneless_timestamps, call.id);
        self.run_on_planning_threads(call, &timer, tables).await
    }

    async fn primary_keys(
        &self,
        call: &Call,
        command: CommandGetPrimaryKeys,
    ) -> Result<RecordBatch, Status> {
        let options = self.sessions.options(call.principal());
        let session = self.session(call, &options, None)?;
        // The table may be a view, which is planned.
        let timer = self.engine.scheduler().timer();
        let keys = list_primary_keys(session, command, call.id);
        self.run_on_planning_threads(call, &timer, keys).await
    }
}

/// Returns the primary key of the table that the command names.
async fn list_primary_keys(
    session: QuerySession,
    command: CommandGetPrimaryKeys,
    request: Uuid,
) -> Result<RecordBatch, Status> {
    let wanted = command.db_schema.as_deref().unwrap_or(PUBLIC);
    let schemas = session.schemas();
    let schema = schemas.iter().find(|(name, _)| name == wanted);
    let mut columns: Vec<(String, i32)> = Vec::new();
    if let Some((_, schema)) = schema
        && is_own_catalog(command.catalog.as_deref())
    {
        let of_query = |error| status::from_query_error(&QueryError::from(error), "", request);
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
    rows.map_err(|error| status::hidden_error(&error, request, "cannot return the metadata"))
}

/// Returns the known ids among `ids`, each once. Returns an empty set, which stands for all, if `ids` is empty. If none is
/// known, returns the first, which selects nothing. The crate searches all entries for each id, and a client may send
/// millions of ids.
fn known_info_ids(ids: Vec<u32>, known: &SqlInfoData) -> Result<BTreeSet<u32>, FlightError> {
    let Some(&first) = ids.first() else {
        return Ok(BTreeSet::new());
    };
    let all = known.record_batch([])?;
    let names = all.column(0).as_primitive_opt::<UInt32Type>();
    let names: BTreeSet<u32> = names
        .into_iter()
        .flat_map(|names| names.values().iter().copied())
        .collect();
    let mut wanted: BTreeSet<u32> = ids.into_iter().filter(|id| names.contains(id)).collect();
    if wanted.is_empty() {
        // An empty set would stand for everything.
        wanted.insert(first);
    }
    Ok(wanted)
}

/// Returns the tables of the session that match the command.
async fn list_tables(
    session: QuerySession,
    command: CommandGetTables,
    zoneless: bool,
    request: Uuid,
) -> Result<RecordBatch, Status> {
    let failed =
        |error: FlightError| status::hidden_error(&error, request, "cannot return the metadata");
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
    if !is_own_catalog(command.catalog.as_deref()) {
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
            let of_query = |error| status::from_query_error(&QueryError::from(error), "", request);
            let Some(table) = schema.table(&name).await.map_err(of_query)? else {
                continue;
            };
            // Clients ask for a type of table: everything that is not a view is a TABLE.
            let kind = match table.table_type() {
                TableType::View => VIEW,
                _ => TABLE,
            };
            if wants(kind) {
                let full_name = TableName {
                    catalog: CATALOG,
                    schema: &schema_name,
                    table: &name,
                };
                let described = table_schema(&table.schema(), &full_name, zoneless);
                found
                    .append(CATALOG, &schema_name, &name, kind, &described)
                    .map_err(failed)?;
            }
        }
    }
    found.build().map_err(failed)
}

/// Whether a catalog filter matches the only catalog.
fn is_own_catalog(catalog: Option<&str>) -> bool {
    catalog.is_none_or(|catalog| catalog == CATALOG)
}

/// Returns the schema of primary keys, as FlightSql.proto defines it.
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

/// Returns the schema of exported keys, imported keys and cross references, as FlightSql.proto defines it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_info_ids_of_many_ids_returns_each_known_id_once() {
        let known = SQL_INFO.as_ref().unwrap();
        let ids: Vec<u32> = (0..2_000_000).chain(0..2_000_000).collect();
        let all = known.record_batch([]).unwrap();
        let wanted = known_info_ids(ids, known).unwrap();
        assert_eq!(wanted.len(), all.num_rows());
        assert_eq!(known.record_batch(wanted).unwrap(), all);
        let unknown = known_info_ids(vec![u32::MAX, u32::MAX], known).unwrap();
        assert_eq!(unknown.len(), 1);
        assert_eq!(known.record_batch(unknown).unwrap().num_rows(), 0);
        assert!(known_info_ids(Vec::new(), known).unwrap().is_empty());
    }
}
