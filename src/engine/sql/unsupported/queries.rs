//! The clauses of queries, `SELECT`s and pipe operators.

use datafusion::sql::sqlparser::ast::{
    Cte, ExprWithAlias, ExprWithAliasAndOrderBy, Fetch, ForClause, GroupByExpr,
    GroupByWithModifier, LimitClause, LockType, NamedWindowDefinition, NamedWindowExpr, Offset,
    OrderBy, OrderByExpr, OrderByKind, OrderByOptions, PipeOperator, Query, Select, SelectItem,
    SetExpr, SetOperator, SetQuantifier, WildcardAdditionalOptions, With,
};

use super::refusal::{Checked, refuse, refuse_if};
use super::tables::{check_alias, check_join, check_tables};

/// The remedy for clauses that change how a statement runs or how its result is written.
const LEAVE_OUT: &str = "leave it out";

/// Checks the clauses of a query, without those of queries inside.
pub(super) fn check_query(query: &Query) -> Checked {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if let Some(with) = with {
        check_with(with)?;
    }
    check_body(body)?;
    if let Some(OrderBy { kind, interpolate }) = order_by {
        refuse_if(
            interpolate.is_some(),
            "INTERPOLATE",
            "compute missing values in the SELECT list, such as with lag",
        )?;
        match kind {
            OrderByKind::All(OrderByOptions {
                asc: _,
                nulls_first: _,
            }) => {}
            OrderByKind::Expressions(sorts) => sorts.iter().try_for_each(check_sort)?,
        }
    }
    match limit_clause {
        Some(LimitClause::LimitOffset {
            limit: _,
            offset: None | Some(Offset { value: _, rows: _ }),
            limit_by,
        }) => {
            refuse_if(
                !limit_by.is_empty(),
                "LIMIT … BY",
                "use QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= …",
            )?;
        }
        Some(LimitClause::OffsetCommaLimit {
            offset: _,
            limit: _,
        })
        | None => {}
    }
    if let Some(fetch) = fetch {
        check_fetch(fetch, limit_clause.as_ref())?;
    }
    if let Some(lock) = locks.first() {
        let what = match lock.lock_type {
            LockType::Share => "FOR SHARE",
            LockType::Update => "FOR UPDATE",
        };
        refuse(
            what,
            "leave it out: a query reads one published state of the tables and locks nothing",
        )?;
    }
    match for_clause {
        Some(ForClause::Json { .. }) => refuse("FOR JSON", "let the client format the result")?,
        Some(ForClause::Xml { .. }) => refuse("FOR XML", "let the client format the result")?,
        Some(ForClause::Browse) => refuse("FOR BROWSE", LEAVE_OUT)?,
        None => {}
    }
    refuse_if(
        settings.is_some(),
        "SETTINGS",
        "leave it out; SET TIME ZONE and SET schema set options of the session",
    )?;
    refuse_if(
        format_clause.is_some(),
        "FORMAT",
        "let the client format the result",
    )?;
    pipe_operators.iter().try_for_each(check_pipe)
}

fn check_fetch(fetch: &Fetch, limit: Option<&LimitClause>) -> Checked {
    let Fetch {
        with_ties,
        percent,
        quantity: _,
    } = fetch;
    refuse_if(
        *with_ties,
        "FETCH … WITH TIES",
        "use QUALIFY rank() OVER (ORDER BY …) <= …",
    )?;
    refuse_if(
        *percent,
        "FETCH … PERCENT",
        "use QUALIFY percent_rank() OVER (ORDER BY …) <= …",
    )?;
    let has_limit = match limit {
        Some(LimitClause::LimitOffset { limit, .. }) => limit.is_some(),
        Some(LimitClause::OffsetCommaLimit { .. }) => true,
        None => false,
    };
    refuse_if(has_limit, "FETCH after LIMIT", "use one of them")
}

fn check_with(with: &With) -> Checked {
    let With {
        with_token: _,
        recursive,
        cte_tables,
    } = with;
    for table in cte_tables {
        let Cte {
            alias,
            query,
            from,
            // A hint that does not change the result.
            materialized: _,
            closing_paren_token: _,
        } = table;
        check_alias(Some(alias))?;
        refuse_if(
            from.is_some(),
            "FROM after a common table expression",
            LEAVE_OUT,
        )?;
        if *recursive {
            check_recursive(query)?;
        }
    }
    Ok(())
}

/// The planner reads only the two sides of a `UNION` in `WITH RECURSIVE`.
fn check_recursive(query: &Query) -> Checked {
    let SetExpr::SetOperation {
        op: SetOperator::Union,
        left: _,
        right: _,
        set_quantifier,
    } = &*query.body
    else {
        return Ok(());
    };
    let outer = "write it in the query that reads the common table expression";
    refuse_if(
        query.order_by.is_some(),
        "ORDER BY in a common table expression of WITH RECURSIVE",
        outer,
    )?;
    refuse_if(
        query.limit_clause.is_some() || query.fetch.is_some(),
        "LIMIT, OFFSET or FETCH in a common table expression of WITH RECURSIVE",
        "end the recursion with a condition in WHERE",
    )?;
    refuse_if(
        query.with.is_some(),
        "WITH in a common table expression of WITH RECURSIVE",
        "write its common table expressions beside it",
    )?;
    refuse_if(
        !query.pipe_operators.is_empty(),
        "|> in a common table expression of WITH RECURSIVE",
        outer,
    )?;
    let is_by_name = is_by_name(*set_quantifier);
    refuse_if(
        is_by_name,
        "UNION BY NAME in WITH RECURSIVE",
        "use UNION or UNION ALL with the columns in the same order",
    )
}

fn is_by_name(quantifier: SetQuantifier) -> bool {
    match quantifier {
        SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => true,
        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => false,
    }
}

fn check_body(body: &SetExpr) -> Checked {
    match body {
        SetExpr::SetOperation {
            op,
            set_quantifier,
            left,
            right,
        } => {
            check_set_operation(*op, *set_quantifier)?;
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Table(_) => refuse("TABLE as a query", "use SELECT * FROM …"),
        // Selects and queries are visited separately; statements that change data are refused elsewhere.
        SetExpr::Select(_)
        | SetExpr::Query(_)
        | SetExpr::Values(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_) => Ok(()),
    }
}

fn check_set_operation(operator: SetOperator, quantifier: SetQuantifier) -> Checked {
    match operator {
        SetOperator::Minus => refuse("MINUS", "use EXCEPT"),
        SetOperator::Union => Ok(()),
        SetOperator::Except | SetOperator::Intersect => refuse_if(
            is_by_name(quantifier),
            "BY NAME after EXCEPT or INTERSECT",
            "list the columns in the same order",
        ),
    }
}

/// Checks the clauses of a `SELECT`, without its expressions and queries inside.
pub(super) fn check_select(select: &Select) -> Checked {
    let Select {
        select_token: _,
        // Comments to an optimiser.
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor: _,
    } = select;
    refuse_if(
        select_modifiers.is_some(),
        "a modifier of SELECT such as STRAIGHT_JOIN",
        LEAVE_OUT,
    )?;
    refuse_if(top.is_some(), "TOP", "write LIMIT at the end")?;
    refuse_if(
        exclude.is_some(),
        "EXCLUDE after the SELECT list",
        "write it after the asterisk: SELECT * EXCLUDE (…)",
    )?;
    refuse_if(into.is_some(), "SELECT … INTO", LEAVE_OUT)?;
    refuse_if(
        !lateral_views.is_empty(),
        "LATERAL VIEW",
        "use CROSS JOIN UNNEST(…)",
    )?;
    refuse_if(prewhere.is_some(), "PREWHERE", "use WHERE")?;
    refuse_if(
        !connect_by.is_empty(),
        "CONNECT BY or START WITH",
        "use WITH RECURSIVE, or the table functions upstream, downstream and neighbours",
    )?;
    refuse_if(!cluster_by.is_empty(), "CLUSTER BY", LEAVE_OUT)?;
    refuse_if(!distribute_by.is_empty(), "DISTRIBUTE BY", LEAVE_OUT)?;
    refuse_if(!sort_by.is_empty(), "SORT BY", "use ORDER BY")?;
    refuse_if(
        value_table_mode.is_some(),
        "SELECT AS VALUE or AS STRUCT",
        "select the columns",
    )?;
    check_group_by(group_by)?;
    for NamedWindowDefinition(_, definition) in named_window {
        match definition {
            NamedWindowExpr::WindowSpec(_) => {}
            NamedWindowExpr::NamedWindow(_) => refuse(
                "WINDOW … AS another window",
                "repeat the definition in parentheses",
            )?,
        }
    }
    projection.iter().try_for_each(check_item)?;
    check_tables(from)
}

fn check_group_by(group_by: &GroupByExpr) -> Checked {
    let modifiers = match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    match modifiers.first() {
        None => Ok(()),
        Some(GroupByWithModifier::Rollup) => refuse("WITH ROLLUP", "use GROUP BY ROLLUP (…)"),
        Some(GroupByWithModifier::Cube) => refuse("WITH CUBE", "use GROUP BY CUBE (…)"),
        Some(GroupByWithModifier::Totals) => {
            refuse("WITH TOTALS", "use GROUP BY GROUPING SETS ((…), ())")
        }
        Some(GroupByWithModifier::GroupingSets(_)) => refuse(
            "GROUPING SETS after other columns of GROUP BY",
            "use GROUP BY GROUPING SETS (…) alone",
        ),
    }
}

fn check_item(item: &SelectItem) -> Checked {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { expr: _, alias: _ } => Ok(()),
        SelectItem::ExprWithAliases {
            expr: _,
            aliases: _,
        } => refuse("several aliases of one expression", "select each part"),
        SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => {
            check_wildcard(options)
        }
    }
}

fn check_wildcard(options: &WildcardAdditionalOptions) -> Checked {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike: _,
        opt_exclude: _,
        opt_except: _,
        opt_replace: _,
        opt_rename,
        opt_alias,
    } = options;
    refuse_if(
        opt_rename.is_some(),
        "RENAME after an asterisk",
        "list the columns with AS",
    )?;
    refuse_if(
        opt_alias.is_some(),
        "an alias of an asterisk",
        "list the columns with AS",
    )
}

/// Checks an element of `ORDER BY`.
pub(super) fn check_sort(sort: &OrderByExpr) -> Checked {
    let OrderByExpr {
        expr: _,
        options: OrderByOptions {
            asc: _,
            nulls_first: _,
        },
        with_fill,
    } = sort;
    refuse_if(
        with_fill.is_some(),
        "WITH FILL",
        "join with generate_series(…), which gives each time",
    )
}

fn check_pipe(operator: &PipeOperator) -> Checked {
    let not_as_pipe = |what: &'static str| refuse(what, "write an ordinary query");
    match operator {
        PipeOperator::Limit { expr: _, offset: _ }
        | PipeOperator::Where { expr: _ }
        | PipeOperator::As { alias: _ } => Ok(()),
        PipeOperator::OrderBy { exprs } => exprs.iter().try_for_each(check_sort),
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => {
            exprs.iter().try_for_each(check_item)
        }
        PipeOperator::Aggregate {
            full_table_exprs,
            group_by_expr,
        } => full_table_exprs
            .iter()
            .chain(group_by_expr)
            .try_for_each(check_pipe_aggregate),
        PipeOperator::Union {
            set_quantifier,
            queries: _,
        } => check_set_operation(SetOperator::Union, *set_quantifier),
        PipeOperator::Intersect {
            set_quantifier,
            queries: _,
        } => check_set_operation(SetOperator::Intersect, *set_quantifier),
        PipeOperator::Except {
            set_quantifier,
            queries: _,
        } => check_set_operation(SetOperator::Except, *set_quantifier),
        PipeOperator::Join(join) => check_join(join),
        PipeOperator::Set { assignments: _ } => not_as_pipe("|> SET"),
        PipeOperator::Drop { columns: _ } => not_as_pipe("|> DROP"),
        PipeOperator::TableSample { sample: _ } => not_as_pipe("|> TABLESAMPLE"),
        PipeOperator::Rename { mappings: _ } => not_as_pipe("|> RENAME"),
        PipeOperator::Call {
            function: _,
            alias: _,
        } => not_as_pipe("|> CALL"),
        PipeOperator::Pivot { .. } => not_as_pipe("|> PIVOT"),
        PipeOperator::Unpivot { .. } => not_as_pipe("|> UNPIVOT"),
    }
}

fn check_pipe_aggregate(item: &ExprWithAliasAndOrderBy) -> Checked {
    let ExprWithAliasAndOrderBy {
        expr: ExprWithAlias { expr: _, alias: _ },
        order_by: OrderByOptions { asc, nulls_first },
    } = item;
    refuse_if(
        asc.is_some() || nulls_first.is_some(),
        "ASC, DESC or NULLS in |> AGGREGATE",
        "use |> ORDER BY",
    )
}
