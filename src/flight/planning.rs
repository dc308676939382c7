//! Planning a statement: what needs no call, so that it can be done on another thread than the one that answers.

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

/// Bytes of parameters with which a simple statement is planned where it was asked for.
const MAX_SIMPLE_PARAMETERS: usize = 4 << 10;

/// A statement that is to be planned.
pub(super) struct Unplanned {
    /// What it is planned in.
    pub session: QuerySession,
    pub sql: String,
    /// An Arrow IPC stream; empty for none.
    pub parameters: Vec<u8>,
    /// The call, for errors.
    pub request: Uuid,
}

/// What came of planning a statement.
pub(super) enum Planning {
    /// It changes the session, and has no plan.
    Set(SessionOption),
    /// It has a plan.
    Made(Made),
    /// It has parameters that are not bound yet.
    Described(Description),
}

/// The schemas of a statement as a client gets them. They are encoded where the statement is planned, since they grow with
/// it: a statement may name thousands of columns.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// The schema of the answer, as an encapsulated IPC message.
    pub schema: Bytes,
    /// The schema of the parameters that are not bound, in the same form.
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

/// A plan.
pub(super) struct Made {
    pub query: Arc<OptimisedQuery>,
    /// Whether the plan itself is the answer.
    pub explains: bool,
    /// Whether it means the same when it is run again.
    pub is_repeatable: bool,
    pub schema: SchemaRef,
    pub description: Description,
}

impl Unplanned {
    /// The statement, if it is certain that neither parsing nor planning it takes longer than a moment: then that is done by
    /// whoever answers.
    pub fn simple(&self) -> Option<Statement> {
        (self.parameters.len() <= MAX_SIMPLE_PARAMETERS)
            .then(|| Statement::parse_simple(&self.sql))
            .flatten()
    }

    /// Plans the statement, which is parsed if it was not yet.
    pub async fn plan(self, parsed: Option<Statement>) -> Result<Planning, Status> {
        let (query, explains) = match self.parsed(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(Planning::Set(option)),
        };
        self.make(&query, explains).await.map(Planning::Made)
    }

    /// Plans the statement if it has no parameters, and otherwise says what they are.
    pub async fn describe(self, parsed: Option<Statement>) -> Result<Planning, Status> {
        let (query, explains) = match self.parsed(parsed)? {
            Ok(query) => query,
            Err(option) => return Ok(Planning::Set(option)),
        };
        if query.parameters() == 0 {
            // What is wrong is said now.
            return self.make(&query, explains).await.map(Planning::Made);
        }
        let failed = |error| status::of_query(&error, &self.sql, self.request);
        let plan = self.session.plan(&query, &[]).await.map_err(failed)?;
        let types = QuerySession::parameter_types(&plan).map_err(failed)?;
        let told = query.told_types();
        let parameters = (1..=query.parameters()).map(|number| {
            let name = format!("${number}");
            let known = types.get(&name).cloned().flatten();
            // Where SQL does not say what is wanted, text will do.
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

    /// The query, and whether its plan is the answer; or what is set.
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

    /// Plans `query` with the parameters that are bound.
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

/// The type that a parameter is described as. Instants are in milliseconds: the JDBC driver, up to 18.3, sends
/// milliseconds whatever the unit that was asked for. Other clients send instants in the unit that they have.
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
