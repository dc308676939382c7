//! The clauses of tables and joins in `FROM`.

use datafusion::sql::sqlparser::ast::{
    FunctionArg, Join, JoinConstraint, JoinOperator, TableAlias, TableAliasColumnDef, TableFactor,
    TableFunctionArgs, TableSampleKind, TableSampleModifier, TableVersion, TableWithJoins,
};

use super::refusal::{Checked, refuse, refuse_if};

/// Checks the joins of `FROM`. The tables are visited separately.
pub(super) fn check_tables(tables: &[TableWithJoins]) -> Checked {
    tables.iter().try_for_each(|table| {
        let TableWithJoins { relation: _, joins } = table;
        joins.iter().try_for_each(check_join)
    })
}

/// Checks a join, without its table.
pub(super) fn check_join(join: &Join) -> Checked {
    let Join {
        relation: _,
        global,
        join_operator,
    } = join;
    refuse_if(*global, "GLOBAL before JOIN", "leave it out")?;
    match join_operator {
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::CrossJoin(JoinConstraint::None) => Ok(()),
        JoinOperator::CrossJoin(_) => refuse("CROSS JOIN with a condition", "use JOIN … ON"),
        JoinOperator::Semi(_) => refuse("SEMI JOIN", "use LEFT SEMI JOIN, or EXISTS in WHERE"),
        JoinOperator::Anti(_) => refuse("ANTI JOIN", "use LEFT ANTI JOIN, or NOT EXISTS in WHERE"),
        JoinOperator::CrossApply => refuse("CROSS APPLY", "use CROSS JOIN LATERAL (…)"),
        JoinOperator::OuterApply => refuse("OUTER APPLY", "use LEFT JOIN LATERAL (…) ON true"),
        JoinOperator::AsOf {
            match_condition: _,
            constraint: _,
        } => refuse(
            "ASOF JOIN",
            "join on the condition, and use QUALIFY row_number() OVER (PARTITION BY … ORDER BY … DESC) = 1",
        ),
        JoinOperator::StraightJoin(_) => refuse("STRAIGHT_JOIN", "use JOIN"),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
            refuse("ARRAY JOIN", "use CROSS JOIN UNNEST(…)")
        }
    }
}

/// Checks an alias of a table.
pub(super) fn check_alias(alias: Option<&TableAlias>) -> Checked {
    let Some(TableAlias {
        explicit: _,
        name: _,
        columns,
        at,
    }) = alias
    else {
        return Ok(());
    };
    for TableAliasColumnDef { name: _, data_type } in columns {
        refuse_if(
            data_type.is_some(),
            "a type of a column in an alias",
            "use CAST in the SELECT list",
        )?;
    }
    refuse_if(
        at.is_some(),
        "AT in an alias",
        "use UNNEST and row_number()",
    )
}

/// Checks the clauses of a table in `FROM`.
pub(super) fn check_factor(factor: &TableFactor) -> Checked {
    match factor {
        TableFactor::Table {
            name: _,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            check_alias(alias.as_ref())?;
            check_arguments(args.as_ref())?;
            refuse_if(
                !with_hints.is_empty(),
                "WITH (…) after a table, such as NOLOCK",
                "leave it out: queries lock nothing",
            )?;
            check_version(version.as_ref())?;
            check_ordinality(*with_ordinality)?;
            refuse_if(
                !partitions.is_empty(),
                "PARTITION after a table",
                "use a condition in WHERE",
            )?;
            refuse_if(
                json_path.is_some(),
                "a path after a table",
                "select the fields",
            )?;
            check_sample(sample.as_ref())?;
            refuse_if(!index_hints.is_empty(), "an index hint", "leave it out")
        }
        TableFactor::Derived {
            lateral: _,
            subquery: _,
            alias,
            sample,
        } => {
            check_alias(alias.as_ref())?;
            check_sample(sample.as_ref())
        }
        TableFactor::Function {
            lateral: _,
            name: _,
            args,
            with_ordinality,
            alias,
        } => {
            check_alias(alias.as_ref())?;
            check_ordinality(*with_ordinality)?;
            let is_named = |arg: &FunctionArg| !matches!(arg, FunctionArg::Unnamed(_));
            refuse_if(
                args.iter().any(is_named),
                "a named argument of a table function",
                "give the arguments in their order, without names",
            )
        }
        TableFactor::UNNEST {
            alias,
            array_exprs: _,
            with_offset,
            with_offset_alias: _,
            with_ordinality,
        } => {
            check_alias(alias.as_ref())?;
            check_ordinality(*with_ordinality)?;
            refuse_if(*with_offset, "WITH OFFSET", "use row_number() OVER ()")
        }
        // The joins in parentheses are no part of the list in `FROM`.
        TableFactor::NestedJoin {
            table_with_joins,
            alias,
        } => {
            check_alias(alias.as_ref())?;
            check_tables(std::slice::from_ref(table_with_joins))
        }
        other => check_other_factor(other),
    }
}

/// Refuses the kinds of tables that the planner does not read.
fn check_other_factor(factor: &TableFactor) -> Checked {
    match factor {
        TableFactor::Table { .. }
        | TableFactor::Derived { .. }
        | TableFactor::Function { .. }
        | TableFactor::UNNEST { .. }
        | TableFactor::NestedJoin { .. } => Ok(()),
        TableFactor::TableFunction { expr: _, alias: _ } => {
            refuse("TABLE(…)", "write the call itself in FROM")
        }
        TableFactor::JsonTable { .. } => {
            refuse("JSON_TABLE", "use spec_value(…) and its relatives")
        }
        TableFactor::OpenJsonTable { .. } => {
            refuse("OPENJSON", "use spec_value(…) and its relatives")
        }
        TableFactor::Pivot { .. } => refuse(
            "PIVOT",
            "use aggregates with FILTER (WHERE …), one for each column",
        ),
        TableFactor::Unpivot { .. } => refuse("UNPIVOT", "use UNION ALL of one SELECT a column"),
        TableFactor::MatchRecognize { .. } => {
            refuse("MATCH_RECOGNIZE", "use window functions such as lag")
        }
        TableFactor::XmlTable { .. } => refuse("XMLTABLE", "read XML in the client"),
        TableFactor::SemanticView { .. } => refuse("SEMANTIC_VIEW", "use a SELECT"),
    }
}

fn check_arguments(arguments: Option<&TableFunctionArgs>) -> Checked {
    let Some(TableFunctionArgs { args: _, settings }) = arguments else {
        return Ok(());
    };
    refuse_if(
        settings.is_some(),
        "SETTINGS of a table function",
        "leave it out",
    )
}

fn check_ordinality(is_present: bool) -> Checked {
    refuse_if(
        is_present,
        "WITH ORDINALITY",
        "use row_number() OVER (ORDER BY …)",
    )
}

fn check_version(version: Option<&TableVersion>) -> Checked {
    let what = match version {
        None => return Ok(()),
        Some(TableVersion::ForSystemTimeAsOf(_)) => "FOR SYSTEM_TIME AS OF",
        Some(TableVersion::TimestampAsOf(_)) => "TIMESTAMP AS OF",
        Some(TableVersion::VersionAsOf(_)) => "VERSION AS OF",
        Some(TableVersion::Function(_)) => "AT or BEFORE after a table",
        Some(TableVersion::Changes { .. }) => "CHANGES",
    };
    refuse(
        what,
        "leave it out: queries read the versions of the tables that were published last",
    )
}

fn check_sample(sample: Option<&TableSampleKind>) -> Checked {
    let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) =
        sample
    else {
        return Ok(());
    };
    let what = match sample.modifier {
        TableSampleModifier::Sample => "SAMPLE",
        TableSampleModifier::TableSample => "TABLESAMPLE",
    };
    refuse(what, "use WHERE random() < 0.01 for one row in a hundred")
}
