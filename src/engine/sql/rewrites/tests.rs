use datafusion::sql::parser::Statement as Parsed;

use crate::engine::sql::statement::Statement;

fn rewritten(sql: &str) -> String {
    match Statement::parse(sql) {
        Ok(Statement::Query(query)) => match query.parsed {
            Parsed::Statement(statement) => statement.to_string(),
            other => panic!("{sql}: {other}"),
        },
        other => panic!("{sql}: {other:?}"),
    }
}

fn refused(sql: &str) -> String {
    match Statement::parse(sql) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{sql}: not refused"),
    }
}

/// The texts are those of sqlparser, which prints the tree.
#[test]
fn statement_is_rewritten_in_its_tree() {
    for (sql, expected) in [
        ("SELECT ?, '?', ? -- ?", "SELECT $1, '?', $2"),
        ("SELECT 'it''s' || ?", "SELECT 'it''s' || $1"),
        (
            "SELECT 1 AS \"a\"\"b\", ? AS n",
            "SELECT 1 AS \"a\"\"b\", $1 AS n",
        ),
        (r"SELECT E'it\'s\n' || ?", "SELECT 'it''s\n' || $1"),
        ("SELECT N'it''s' || ?", "SELECT 'it''s' || $1"),
        (r"SELECT U&'\0041' || ?", "SELECT 'A' || $1"),
        ("SELECT $$it's$$ || ?", "SELECT $$it's$$ || $1"),
        (
            "SELECT 1 ORDER BY 1 OFFSET 2 ROWS FETCH NEXT ? ROWS ONLY",
            "SELECT 1 ORDER BY 1 LIMIT $1 OFFSET 2 ROWS",
        ),
        ("SELECT 1 FETCH FIRST ROW ONLY", "SELECT 1 LIMIT 1"),
        ("FROM t", "SELECT * FROM t"),
        (
            "SELECT a LIKE '%100!%%' ESCAPE '!' AS x",
            r"SELECT a LIKE '%100\%%' AS x",
        ),
        (
            "SELECT a LIKE ? ESCAPE '!' AS x",
            "SELECT a LIKE like_pattern($1, '!') AS x",
        ),
        (
            "SELECT a LIKE 'b' ESCAPE '\\' AS x",
            "SELECT a LIKE 'b' AS x",
        ),
        (
            "SELECT a NOT SIMILAR TO 'b%' AS x",
            "SELECT (a !~ '^(?s:b.*)$') AS x",
        ),
        (
            "SELECT (a, b) IN ((1, 2), (3, 4)) AS x",
            "SELECT (a = 1 AND b = 2 OR a = 3 AND b = 4) AS x",
        ),
        (
            "SELECT (a, b) <> (1, 2) AS x",
            "SELECT (NOT (a = 1 AND b = 2)) AS x",
        ),
        (
            "SELECT (a, b) >= (1, 2) AS x",
            "SELECT (a > 1 OR (a = 1 AND (b >= 2))) AS x",
        ),
        ("SELECT year(a) AS y", "SELECT date_part('year', a) AS y"),
        (
            "SELECT year(a)",
            "SELECT date_part('year', a) AS \"year(a)\"",
        ),
        ("SELECT mod(a, 2) * 3 AS m", "SELECT (a % 2) * 3 AS m"),
        ("SELECT ucase(a) AS u", "SELECT upper(a) AS u"),
        ("SELECT {fn LOG(a)} AS l", "SELECT ln(a) AS l"),
        (
            "SELECT {fn TIMESTAMPADD(SQL_TSI_QUARTER, -2, a)} AS t",
            "SELECT (a - INTERVAL '6 month') AS t",
        ),
        (
            "SELECT {fn CONVERT(a, SQL_VARCHAR)} AS t",
            "SELECT CAST(a AS VARCHAR) AS t",
        ),
        (
            "SELECT * FROM {oj a LEFT JOIN b ON a.x = b.x}",
            "SELECT * FROM a LEFT JOIN b ON a.x = b.x",
        ),
        (
            "SELECT {d '2024-01-01'} AS d, {fn EXTRACT(DAY FROM a)} AS e",
            "SELECT {d '2024-01-01'} AS d, EXTRACT(DAY FROM a) AS e",
        ),
        (
            "SELECT CAST(a AS VARCHAR(3)) AS v, CAST(b AS FLOAT(53)) AS f",
            "SELECT left(CAST(a AS VARCHAR), 3) AS v, CAST(b AS DOUBLE PRECISION) AS f",
        ),
        ("SELECT current_schema AS s", "SELECT current_schema() AS s"),
        (
            "SELECT 1 FROM t WINDOW w AS (PARTITION BY a), v AS (w ORDER BY b) ORDER BY sum(c) OVER (v ROWS 1 PRECEDING)",
            "SELECT 1 FROM t WINDOW w AS (PARTITION BY a), v AS (w ORDER BY b) ORDER BY sum(c) OVER (PARTITION BY a ORDER BY b ROWS 1 PRECEDING)",
        ),
    ] {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

#[test]
fn rows_in_a_query_become_exists() {
    let positive = rewritten("SELECT 1 FROM t WHERE (a, b) IN (SELECT x, y FROM u)");
    assert_eq!(
        positive,
        "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM (SELECT x, y FROM u) AS \"compared rows\" (\"column 1\", \"column 2\") WHERE \"compared rows\".\"column 1\" = a AND \"compared rows\".\"column 2\" = b)"
    );
    for sql in [
        "SELECT 1 FROM t WHERE (a, b) NOT IN (SELECT x, y FROM u)",
        "SELECT 1 FROM t WHERE NOT ((a, b) IN (SELECT x, y FROM u))",
    ] {
        assert!(rewritten(sql).contains("IS NOT FALSE"), "{sql}");
    }
    let selected = refused("SELECT (a, b) IN (SELECT x, y FROM u) FROM t");
    assert!(selected.contains("use EXISTS"), "{selected}");
}

#[test]
fn statement_that_cannot_be_rewritten_is_refused() {
    let nested = format!(
        "SELECT {}1, 2{}",
        "date_diff('month', ".repeat(12),
        ", 3)".repeat(12)
    );
    let rows = format!("SELECT (1, 2) IN ({})", vec!["(1, 2)"; 600].join(", "));
    for (sql, text) in [
        (
            "SELECT a LIKE 'b!' ESCAPE '!'",
            "must not end with the escape character",
        ),
        (
            "SELECT a LIKE 'b' ESCAPE '!!'",
            "give one character in quotes",
        ),
        ("SELECT sum(a) OVER w FROM t", "there is no window w"),
        (
            "SELECT 1 FROM t ORDER BY sum(a) OVER w",
            "there is no window w",
        ),
        (
            "SELECT sum(a) OVER (w ORDER BY b) FROM t WINDOW w AS (ORDER BY c)",
            "a second ORDER BY in a window that extends w",
        ),
        (
            "SELECT (1, 2) = (1, 2, 3)",
            "the comparison of 2 with 3 values",
        ),
        (
            "SELECT date_diff('fortnight', a, b)",
            "the unit 'fortnight'",
        ),
        ("SELECT {fn WEEK(a)}", "{fn WEEK}"),
        (&rows, "IN with 600 rows"),
        (&nested, "an operand of this size"),
    ] {
        let refused = refused(sql);
        assert!(refused.contains(text), "{sql}: {refused}");
    }
}
