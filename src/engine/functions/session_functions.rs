//! Functions that name the schema, the database and the user of the session, which drivers and tools ask for.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::engine::schema_names::CATALOG;

/// The user of sessions at this machine, which have no account.
const LOCAL_USER: &str = "operator";

/// Registers `current_schema` and `current_database` with a session.
pub(in crate::engine) fn register(state: &mut SessionState) -> Result<()> {
    let schema = SessionFunction::new("current_schema", &[], None);
    let database = Some(CATALOG.to_owned());
    let database = SessionFunction::new("current_database", &["current_catalog"], database);
    for function in [schema, database] {
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

/// Registers `current_user` with the session of a user; `None` for a session at this machine.
pub(in crate::engine) fn register_user(
    state: &mut SessionState,
    user: Option<String>,
) -> Result<()> {
    let user = user.unwrap_or_else(|| LOCAL_USER.to_owned());
    let function = SessionFunction::new("current_user", &["session_user"], Some(user));
    state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    Ok(())
}

/// A function that returns a text about the session. It is stable rather than immutable, so that users do not share plans
/// with it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionFunction {
    name: &'static str,
    aliases: Vec<String>,
    /// The text; `None` for the default schema, which is among the session's options.
    text: Option<String>,
    signature: Signature,
}

impl SessionFunction {
    fn new(name: &'static str, aliases: &[&str], text: Option<String>) -> Self {
        Self {
            name,
            aliases: aliases.iter().copied().map(str::to_owned).collect(),
            text,
            signature: Signature::nullary(Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let default = || call.config_options.catalog.default_schema.clone();
        let text = self.text.clone().unwrap_or_else(default);
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))))
    }
}
