//! Planning of statements, without the call, so that it can run on another thread than the one that handles the call.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use tonic::Status;
use uuid::Uuid;

use super::parameters::{BoundRows, undecodable};
use crate::engine::{OptimisedQuery, Query, QueryError, QuerySession, SessionOption, Statement};
use crate::server::errors::status;
use crate::server::wire::wire_types::{parameter_schema, result_schema, schema_bytes};

/// The maximum size of the parameters, in bytes, with which a simple statement is planned on the thread that handles the
/// call.
const MAX_SIMPLE_PARAMETER_BYTES: usize = 4 << 10;

/// A statement that is to be planned.
pub(in crate::server) struct PlanRequest {
    /// The session in which it is planned.
    pub session: QuerySession,
    pub sql: String,
    /// The bound parameters as an Arrow IPC stream; empty for none.
    pub parameters: Vec<u8>,
    /// Whether timestamps of the result have no time zone.
    pub zoneless_timestamps: bool,
    /// The id of the call, for errors.
    pub request: Uuid,
}

/// The outcome of planning a statement.
pub(in crate::server) enum PlanOutcome {
    /// The statement changes the session, and has no plan.
    Set(SessionOption),
    /// The statement has a plan.
    Planned(OptimisedPlan),
    /// The statement has parameters that are not bound yet.
    Described(Description),
}

/// The encoded schemas of a statement. They are encoded where the statement is planned, because they grow with it: a
/// statement may name thousands of columns.
#[derive(Debug, Clone)]
pub(in crate::server) struct Description {
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
pub(in crate::server) struct OptimisedPlan {
    pub query: Arc<OptimisedQuery>,
    /// Whether the plan itself is the result (`EXPLAIN`).
    pub is_explain: bool,
    /// Whether the plan means the same when it is run again.
    pub is_repeatable: bool,
    /// The rows of parameters after the one of the plan; none for at most one row.
    pub further: Option<Arc<FurtherRows>>,
    pub schema: SchemaRef,
    pub description: Description,
}

/// Rows of parameters. For each after the first one, the query is planned when its turn comes, so that one plan is in memory
/// at a time.
pub(in crate::server) struct FurtherRows {
    pub query: Query,
    pub rows: BoundRows,
}

impl PlanRequest {
    /// Returns the parsed statement, if neither parsing nor planning it can take longer than a moment. The thread that
    /// handles the call then plans it.
    pub fn parse_simple(&self) -> Option<Statement> {
        (self.parameters.len() <= MAX_SIMPLE_PARAMETER_BYTES)
            .then(|| Statement::parse_simple(&self.sql))
            .flatten()
    }

    /// Plans the statement, and parses it if `parsed` is none.
    pub async fn plan(self, parsed: Option<Statement>) -> Result<PlanOutcome, Status> {
        let (query, explains) = match self.parse(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(PlanOutcome::Set(option)),
        };
        self.optimise(&query, explains)
            .await
            .map(PlanOutcome::Planned)
    }

    /// Plans the statement if it has no parameters, and otherwise returns their schema and that of the result.
    pub async fn describe(self, parsed: Option<Statement>) -> Result<PlanOutcome, Status> {
        let (query, explains) = match self.parse(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(PlanOutcome::Set(option)),
        };
        if query.parameter_count() == 0 {
            // Planning it completely reports errors now.
            return self
                .optimise(&query, explains)
                .await
                .map(PlanOutcome::Planned);
        }
        let failed = |error| status::from_query_error(&error, &self.sql, self.request);
        let plan = self.session.plan(&query, &[]).await.map_err(failed)?;
        let types = QuerySession::parameter_types(&plan).map_err(failed)?;
        let declared_types = query.known_parameter_types();
        let parameters = (1..=query.parameter_count()).map(|number| {
            let name = format!("${number}");
            let known = types.get(&name).cloned().flatten();
            // A parameter without a known type is described as text.
            let kind = known.or_else(|| declared_types.get(&number).cloned());
            let kind = kind.unwrap_or(DataType::Utf8);
            Field::new(name, described_type(kind), true)
        });
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        let zoneless = self.zoneless_timestamps;
        let schema = match explains {
            true => result_schema(&QuerySession::explain_schema(), zoneless)?,
            false => result_schema(plan.schema().as_arrow(), zoneless)?,
        };
        let description = Description::new(&schema, &parameter_schema(&parameters))?;
        Ok(PlanOutcome::Described(description))
    }

    /// Returns the query and whether its plan is the result, or the option that the statement sets.
    fn parse(
        &self,
        parsed: Option<Statement>,
    ) -> Result<Result<(Query, bool), SessionOption>, Status> {
        let failed = |error| status::from_query_error(&error, &self.sql, self.request);
        let statement = match parsed {
            Some(statement) => statement,
            None => Statement::parse(&self.sql).map_err(failed)?,
        };
        match statement {
            Statement::Query(query) => Ok(Ok((query, false))),
            Statement::Explain(explain) if explain.is_plain => Ok(Ok((explain.query, true))),
            Statement::Explain(_) => Err(failed(QueryError::UnsupportedExplain)),
            Statement::Set(option) => Ok(Err(option)),
        }
    }

    /// Plans `query` with the bound parameters.
    async fn optimise(&self, query: &Query, explains: bool) -> Result<OptimisedPlan, Status> {
        let rows = BoundRows::decode(&self.parameters)?;
        let values = rows.values(0).map_err(|error| undecodable(&error))?;
        check_parameter_count(query, &values)?;
        if explains && rows.count() > 1 {
            return Err(Status::invalid_argument(format!(
                "EXPLAIN takes one row of parameters, and {} were bound; bind one",
                rows.count()
            )));
        }
        let further = (rows.count() > 1).then(|| {
            let query = query.clone();
            Arc::new(FurtherRows { query, rows })
        });
        let failed = |error| status::from_query_error(&error, &self.sql, self.request);
        let plan = self.session.plan(query, &values).await.map_err(failed)?;
        let is_repeatable = !query.has_computed_arguments() && QuerySession::is_repeatable(&plan);
        let optimised = self.session.optimise(&plan).map_err(failed)?;
        let zoneless = self.zoneless_timestamps;
        let schema = match explains {
            true => result_schema(&QuerySession::explain_schema(), zoneless)?,
            false => result_schema(optimised.schema(), zoneless)?,
        };
        Ok(OptimisedPlan {
            query: Arc::new(optimised),
            is_explain: explains,
            is_repeatable,
            further,
            description: Description::new(&schema, &Schema::empty())?,
            schema,
        })
    }
}

/// Returns the type as which a parameter is described. Timestamps are described in milliseconds: the JDBC driver, up to
/// 18.3, sends milliseconds whatever unit was requested. Other clients send timestamps in their own unit.
fn described_type(kind: DataType) -> DataType {
    match kind {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
        other => other,
    }
}

fn check_parameter_count(query: &Query, values: &[ScalarValue]) -> Result<(), Status> {
    let expected = query.parameter_count();
    if expected == values.len() {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "the statement has {expected} parameters, and {} values are bound to them",
        values.len()
    )))
}
