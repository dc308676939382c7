//! Limits the number of grouping sets of a statement before it is planned: `CUBE` of twenty columns makes a million.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, GroupByWithModifier, Visit, Visitor,
};

use crate::engine::query_error::QueryError;
use crate::engine::statement_limits::MAX_GROUPING_SETS;

/// Returns an error if a `GROUP BY` of the statement has more than [`MAX_GROUPING_SETS`] sets.
pub(in crate::engine) fn check_grouping_sets(statement: &Parsed) -> Result<(), QueryError> {
    let mut found = GroupingSetCounter::default();
    let _: ControlFlow<()> = match statement {
        Parsed::Statement(statement) => Visit::visit(&**statement, &mut found),
        Parsed::Explain(explain) => return check_grouping_sets(&explain.statement),
        _ => return Ok(()),
    };
    match found.0 {
        sets if sets > MAX_GROUPING_SETS => Err(QueryError::TooManyGroupingSets { sets }),
        _ => Ok(()),
    }
}

/// The largest number of grouping sets of any `GROUP BY` visited so far.
#[derive(Default)]
struct GroupingSetCounter(usize);

impl Visitor for GroupingSetCounter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
        let (expressions, modifiers) = match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) => (expressions.as_slice(), modifiers),
            GroupByExpr::All(modifiers) => (&[] as &[Expr], modifiers),
        };
        let sets = product(expressions.iter().map(count_grouping_sets));
        let modified = product(modifiers.iter().map(|modifier| match modifier {
            GroupByWithModifier::Cube => subsets(expressions.len()),
            GroupByWithModifier::GroupingSets(sets) => count_grouping_sets(sets),
            _ => expressions.len() + 1,
        }));
        self.0 = self.0.max(sets.saturating_mul(modified));
        ControlFlow::Continue(())
    }
}

/// Returns the number of grouping sets that an element of `GROUP BY` makes.
fn count_grouping_sets(expression: &Expr) -> usize {
    match expression {
        Expr::Nested(inside) => count_grouping_sets(inside),
        Expr::Cube(columns) => subsets(columns.len()),
        Expr::Rollup(columns) => columns.len() + 1,
        Expr::GroupingSets(sets) => sets.len(),
        _ => 1,
    }
}

fn subsets(columns: usize) -> usize {
    let columns = u32::try_from(columns).unwrap_or(u32::MAX);
    1_usize.checked_shl(columns).unwrap_or(usize::MAX)
}

fn product(counts: impl Iterator<Item = usize>) -> usize {
    counts.fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use crate::engine::sql::statement::Statement;

    #[test]
    fn statement_with_too_many_grouping_sets_is_rejected() {
        let columns = |count: usize| vec!["x"; count].join(", ");
        for group_by in [
            format!("CUBE ({})", columns(20)),
            format!("CUBE ({}), CUBE ({})", columns(5), columns(5)),
            format!("ROLLUP ({}), ROLLUP ({})", columns(30), columns(30)),
            format!("CUBE ({})", columns(200)),
        ] {
            let sql = format!("SELECT count(*) FROM (SELECT * FROM data_d GROUP BY {group_by})");
            let refused = Statement::parse(&sql).unwrap_err().to_string();
            assert!(refused.contains("grouping sets"), "{sql}: {refused}");
        }
        for group_by in [
            "CUBE (a, b), c",
            "ROLLUP (a, b)",
            "GROUPING SETS ((a), (b), ())",
        ] {
            Statement::parse(&format!("SELECT 1 FROM data_d GROUP BY {group_by}")).unwrap();
        }
    }
}
