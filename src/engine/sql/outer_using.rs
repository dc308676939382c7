//! Refuses `RIGHT JOIN` and `FULL JOIN` with `USING` or `NATURAL`: DataFusion takes the joined column from the left side, where it
//! is null in rows of the right side only (apache/datafusion#22881).

use std::ops::ControlFlow;

use datafusion::common::{DataFusionError, plan_datafusion_err};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, Visit, Visitor,
};

/// Returns an error if an outer join of the statement needs a column that is merged of both sides.
pub(in crate::engine) fn check_outer_joins(statement: &Parsed) -> Result<(), DataFusionError> {
    let found = match statement {
        Parsed::Statement(statement) => Visit::visit(&**statement, &mut OuterJoins),
        Parsed::Explain(explain) => return check_outer_joins(&explain.statement),
        _ => return Ok(()),
    };
    match found {
        ControlFlow::Break(remedy) => Err(plan_datafusion_err!(
            "an outer join with USING or NATURAL is supported for LEFT JOIN only: {remedy}"
        )),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Stops at the first unsupported join, with what to use instead.
struct OuterJoins;

impl Visitor for OuterJoins {
    type Break = &'static str;

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Self::Break> {
        select.from.iter().try_for_each(check_joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => check_joins(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_joins(tables: &TableWithJoins) -> ControlFlow<&'static str> {
    tables.joins.iter().try_for_each(|join| {
        let (constraint, remedy) = match &join.join_operator {
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (
                constraint,
                "exchange the two tables, or join ON a.x = b.x and select b.x",
            ),
            JoinOperator::FullOuter(constraint) => (
                constraint,
                "join ON a.x = b.x and select coalesce(a.x, b.x)",
            ),
            _ => return ControlFlow::Continue(()),
        };
        match constraint {
            JoinConstraint::Using(_) | JoinConstraint::Natural => ControlFlow::Break(remedy),
            JoinConstraint::On(_) | JoinConstraint::None => ControlFlow::Continue(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::engine::sql::statement::Statement;

    #[test]
    fn outer_join_that_merges_columns_is_refused() {
        for join in [
            "a RIGHT JOIN b USING (x)",
            "a FULL OUTER JOIN b USING (x)",
            "a NATURAL RIGHT JOIN b",
            "c, (a NATURAL FULL JOIN b)",
        ] {
            for query in [
                format!("SELECT * FROM {join}"),
                format!("EXPLAIN WITH q AS (SELECT 1 FROM {join}) SELECT * FROM q"),
                format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM {join})"),
            ] {
                let refused = Statement::parse(&query).unwrap_err();
                let refused = format!("{:#}", anyhow::Error::from(refused));
                assert!(refused.contains("LEFT JOIN only"), "{query}: {refused}");
            }
        }
        for join in [
            "a LEFT JOIN b USING (x)",
            "a NATURAL JOIN b",
            "a FULL JOIN b ON a.x = b.x",
        ] {
            Statement::parse(&format!("SELECT * FROM {join}")).unwrap();
        }
    }
}
