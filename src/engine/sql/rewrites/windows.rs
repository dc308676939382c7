//! Named windows. The planner looks up their names in the SELECT list only, and ignores the name of a window that another
//! one extends.

use datafusion::sql::sqlparser::ast::{
    Ident, NamedWindowDefinition, NamedWindowExpr, WindowSpec, WindowType,
};

use crate::engine::query_error::QueryError;

/// Replaces the name of a window by its definition.
pub(super) fn resolve(
    over: &mut Option<WindowType>,
    windows: &[NamedWindowDefinition],
) -> Result<(), QueryError> {
    let resolved = match over {
        Some(WindowType::NamedWindow(name)) => find(name, windows)?,
        Some(WindowType::WindowSpec(spec)) if spec.window_name.is_some() => {
            extended(spec, windows)?
        }
        _ => return Ok(()),
    };
    *over = Some(WindowType::WindowSpec(resolved));
    Ok(())
}

fn find(name: &Ident, windows: &[NamedWindowDefinition]) -> Result<WindowSpec, QueryError> {
    let normalised = normalise(name);
    let at = windows
        .iter()
        .position(|NamedWindowDefinition(known, _)| normalise(known) == normalised);
    let unknown = || QueryError::UnknownWindow {
        name: name.value.clone(),
    };
    let at = at.ok_or_else(unknown)?;
    match windows.get(at).map(|definition| &definition.1) {
        // A window may extend those that are defined before it.
        Some(NamedWindowExpr::WindowSpec(spec)) => {
            extended(spec, windows.get(..at).unwrap_or_default())
        }
        _ => Err(unknown()),
    }
}

fn normalise(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// Returns the definition with what it takes from the window that it names, by the rules of Postgres: that window gives
/// `PARTITION BY`, and may give `ORDER BY`, but must have no frame.
fn extended(
    spec: &WindowSpec,
    windows: &[NamedWindowDefinition],
) -> Result<WindowSpec, QueryError> {
    let Some(name) = &spec.window_name else {
        return Ok(spec.clone());
    };
    let base = find(name, windows)?;
    let conflict = [
        (!spec.partition_by.is_empty(), "PARTITION BY"),
        (
            !spec.order_by.is_empty() && !base.order_by.is_empty(),
            "a second ORDER BY",
        ),
        (base.window_frame.is_some(), "the frame of a named window"),
    ];
    if let Some((_, what)) = conflict.iter().find(|(is_given, _)| *is_given) {
        return Err(QueryError::Unsupported {
            what: format!("{what} in a window that extends {name}").into(),
            remedy: "write the whole definition in OVER (…)".into(),
        });
    }
    Ok(WindowSpec {
        window_name: None,
        partition_by: base.partition_by,
        order_by: match spec.order_by.is_empty() {
            true => base.order_by,
            false => spec.order_by.clone(),
        },
        window_frame: spec.window_frame.clone(),
    })
}
