//! Planning of statements, without the call, so that it can run on another thread than the one that handles the call.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use tonic::Status;
use uuid::Uuid;

use super::actions::schema_bytes;
use super::edge::{answer_schema, table_schema};
use super::parameters::bound_values;
use super::status;
use crate::engine::{OptimisedQuery, Query, QueryError, QuerySession, SessionOption, Statement};

/// The maximum size of the parameters, in bytes, with which a simple statement is planned on the thread that handles the
/// call.
const MAX_SIMPLE_PARAMETERS: usize = 4 << 10;

/// A statement that is to be planned.
pub(super) struct Unplanned {
    /// The session in which it is planned.
    pub session: QuerySession,
    pub sql: String,
    /// The bound parameters as an Arrow IPC stream; empty for none.
    pub parameters: Vec<u8>,
    /// The id of the call, for errors.
    pub request: Uuid,
}

/// The outcome of planning a statement.
pub(super) enum Planning {
    /// The statement changes the session, and has no plan.
    Set(SessionOption),
    /// The statement has a plan.
    Made(Made),
    /// The statement has parameters that are not bound yet.
    Described(Description),
}

/// The encoded schemas of a statement. They are encoded where the statement is planned, because they grow with it: a
/// statement may name thousands of columns.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// The schema of the result, as an encapsulated IPC message.
    pub schema: Bytes,
    /// The schema of the unbound parameters, as an encapsulated IPC message.
    pub parameters: Bytes,
}

impl Description {
    /// Encodes the schemas.
    pub fn new(schema: &Schema, parameters: &Schema) -> Result<Self, Status> {
        Ok(Self {
            schema: schema_bytes(schema)?,
            parameters: schema_bytes(parameters)?,
        })
    }
}

/// An optimised plan and its schemas.
pub(super) struct Made {
    pub query: Arc<OptimisedQuery>,
    /// Whether the plan itself is the result (`EXPLAIN`).
    pub explains: bool,
    /// Whether the plan means the same when it is run again.
    pub is_repeatable: bool,
    pub schema: SchemaRef,
    pub description: Description,
}

impl Unplanned {
    /// Returns the parsed statement, if neither parsing nor planning it can take longer than a moment. The thread that
    /// handles the call then plans it.
    pub fn simple(&self) -> Option<Statement> {
        (self.parameters.len() <= MAX_SIMPLE_PARAMETERS)
            .then(|| Statement::parse_simple(&self.sql))
            .flatten()
    }

    /// Plans the statement, and parses it if `parsed` is none.
    pub async fn plan(self, parsed: Option<Statement>) -> Result<Planning, Status> {
        let (query, explains) = match self.parsed(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(Planning::Set(option)),
        };
        self.make(&query, explains).await.map(Planning::Made)
    }

    /// Plans the statement if it has no parameters, and otherwise returns their schema and that of the result.
    pub async fn describe(self, parsed: Option<Statement>) -> Result<Planning, Status> {
        let (query, explains) = match self.parsed(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(Planning::Set(option)),
        };
        if query.parameters() == 0 {
            // Planning it completely reports errors now.
            return self.make(&query, explains).await.map(Planning::Made);
        }
        let failed = |error| status::of_query(&error, &self.sql, self.request);
        let plan = self.session.plan(&query, &[]).await.map_err(failed)?;
        let types = QuerySession::parameter_types(&plan).map_err(failed)?;
        let told = query.told_types();
        let parameters = (1..=query.parameters()).map(|number| {
            let name = format!("${number}");
            let known = types.get(&name).cloned().flatten();
            // A parameter without a known type is described as text.
            let kind = known.or_else(|| told.get(&number).cloned());
            let kind = kind.unwrap_or(DataType::Utf8);
            Field::new(name, as_described(kind), true)
        });
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        let schema = match explains {
            true => answer_schema(&QuerySession::explain_schema())?,
            false => answer_schema(plan.schema().as_arrow())?,
        };
        let description = Description::new(&schema, &table_schema(&parameters))?;
        Ok(Planning::Described(description))
    }

    /// Returns the query and whether its plan is the result, or the option that the statement sets.
    fn parsed(
        &self,
        parsed: Option<Statement>,
    ) -> Result<Result<(Query, bool), SessionOption>, Status> {
        let failed = |error| status::of_query(&error, &self.sql, self.request);
        let statement = match parsed {
            Some(statement) => statement,
            None => Statement::parse(&self.sql).map_err(failed)?,
        };
        match statement {
            Statement::Query(query) => Ok(Ok((query, false))),
            Statement::Explain(explain) if explain.is_plain => Ok(Ok((explain.query, true))),
            Statement::Explain(_) => Err(failed(QueryError::ExplainsTooMuch)),
            Statement::Set(option) => Ok(Err(option)),
        }
    }

    /// Plans `query` with the bound parameters.
    async fn make(&self, query: &Query, explains: bool) -> Result<Made, Status> {
        let values = bound_values(&self.parameters)?;
        check_count(query, &values)?;
        let failed = |error| status::of_query(&error, &self.sql, self.request);
        let plan = self.session.plan(query, &values).await.map_err(failed)?;
        let is_repeatable = !query.has_computed_arguments() && QuerySession::is_repeatable(&plan);
        let optimised = self.session.optimise(&plan).map_err(failed)?;
        let schema = match explains {
            true => answer_schema(&QuerySession::explain_schema())?,
            false => answer_schema(optimised.schema())?,
        };
        Ok(Made {
            query: Arc::new(optimised),
            explains,
            is_repeatable,
            description: Description::new(&schema, &Schema::empty())?,
            schema,
        })
    }
}

/// Returns the type as which a parameter is described. Timestamps are described in milliseconds: the JDBC driver, up to
/// 18.3, sends milliseconds whatever unit was requested. Other clients send timestamps in their own unit.
fn as_described(kind: DataType) -> DataType {
    match kind {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
        other => other,
    }
}

fn check_count(query: &Query, values: &[ScalarValue]) -> Result<(), Status> {
    let wanted = query.parameters();
    if wanted == values.len() {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "the statement has {wanted} parameters, and {} values are bound to them",
        values.len()
    )))
}
