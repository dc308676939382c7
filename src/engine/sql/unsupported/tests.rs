use crate::engine::sql::statement::Statement;

/// Statements with a clause that the planner does not read, and the beginning of the error.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT 1 FROM t TABLESAMPLE BERNOULLI (1)", "TABLESAMPLE"),
    ("SELECT 1 FROM t TABLESAMPLE (5 ROWS)", "TABLESAMPLE"),
    (
        "SELECT 1 FROM (SELECT 1) AS t TABLESAMPLE (5 ROWS)",
        "TABLESAMPLE",
    ),
    ("SELECT 1 FROM t SAMPLE (1)", "SAMPLE"),
    ("SELECT 1 FROM t WITH (NOLOCK)", "WITH (…) after a table"),
    ("SELECT 1 FROM t PARTITION (p)", "PARTITION after a table"),
    ("SELECT 1 FROM t WITH ORDINALITY", "WITH ORDINALITY"),
    (
        "SELECT 1 FROM (SELECT 1 FROM t FOR UPDATE SKIP LOCKED)",
        "FOR UPDATE",
    ),
    ("SELECT 1 FROM t FOR SHARE", "FOR SHARE"),
    ("SELECT 1 FROM t GROUP BY 1 FOR JSON AUTO", "FOR JSON"),
    ("SELECT 1 FROM t GROUP BY 1 FOR XML PATH", "FOR XML"),
    ("SELECT 1 FROM t SETTINGS max_threads = 1", "SETTINGS"),
    ("SELECT 1 FROM t FORMAT JSON", "FORMAT"),
    ("SELECT 1 FROM t PREWHERE a > 1", "PREWHERE"),
    ("SELECT 1 FROM t PREWHERE a > 1 WHERE a > 0", "PREWHERE"),
    (
        "SELECT 1 FROM t START WITH a = 1 CONNECT BY a = a",
        "CONNECT BY or START WITH",
    ),
    (
        "SELECT a FROM t FETCH FIRST 10 PERCENT ROWS ONLY",
        "FETCH … PERCENT",
    ),
    (
        "SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES",
        "FETCH … WITH TIES",
    ),
    (
        "SELECT a FROM t LIMIT 1 FETCH FIRST 3 ROWS ONLY",
        "FETCH after LIMIT",
    ),
    ("SELECT TOP 3 a FROM t", "TOP"),
    ("SELECT a FROM t LIMIT 2 BY a", "LIMIT … BY"),
    ("SELECT a FROM t ORDER BY a WITH FILL", "WITH FILL"),
    ("SELECT a FROM t ORDER BY a INTERPOLATE (b)", "INTERPOLATE"),
    ("SELECT a FROM t GROUP BY a WITH ROLLUP", "WITH ROLLUP"),
    ("SELECT a FROM t GROUP BY a WITH CUBE", "WITH CUBE"),
    ("SELECT a FROM t GROUP BY a WITH TOTALS", "WITH TOTALS"),
    ("SELECT a FROM t CLUSTER BY a", "CLUSTER BY"),
    ("SELECT a FROM t DISTRIBUTE BY a", "DISTRIBUTE BY"),
    ("SELECT a FROM t SORT BY a", "SORT BY"),
    ("SELECT a FROM t LATERAL VIEW explode(b) x", "LATERAL VIEW"),
    (
        "SELECT a FROM t GLOBAL JOIN u ON true",
        "GLOBAL before JOIN",
    ),
    (
        "SELECT a FROM (t GLOBAL JOIN u ON true)",
        "GLOBAL before JOIN",
    ),
    (
        "SELECT a FROM t ASOF JOIN u MATCH_CONDITION (t.a >= u.a) ON t.b = u.b",
        "ASOF JOIN",
    ),
    ("SELECT a FROM t CROSS APPLY (SELECT 1) x", "CROSS APPLY"),
    ("SELECT a FROM t OUTER APPLY (SELECT 1) x", "OUTER APPLY"),
    ("SELECT a FROM t SEMI JOIN u ON true", "SEMI JOIN"),
    ("SELECT a FROM t ANTI JOIN u ON true", "ANTI JOIN"),
    ("SELECT * FROM t PIVOT (sum(a) FOR b IN ('x'))", "PIVOT"),
    ("SELECT * FROM t UNPIVOT (a FOR b IN (x))", "UNPIVOT"),
    (
        "SELECT * FROM t AS x (a INT)",
        "a type of a column in an alias",
    ),
    ("SELECT * FROM UNNEST([1]) WITH OFFSET", "WITH OFFSET"),
    (
        "SELECT * FROM UNNEST([1]) WITH ORDINALITY",
        "WITH ORDINALITY",
    ),
    (
        "SELECT * RENAME (a AS b) FROM t",
        "RENAME after an asterisk",
    ),
    (
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x LIMIT 5) SELECT n FROM x",
        "LIMIT, OFFSET or FETCH in a common table expression of WITH RECURSIVE",
    ),
    (
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x ORDER BY 1) SELECT n FROM x",
        "ORDER BY in a common table expression of WITH RECURSIVE",
    ),
    ("SELECT 1 MINUS SELECT 2", "MINUS"),
    (
        "SELECT 1 INTERSECT BY NAME SELECT 2",
        "BY NAME after EXCEPT or INTERSECT",
    ),
    ("SELECT a RLIKE 'b' FROM t", "RLIKE or REGEXP"),
    ("SELECT a COLLATE \"C\" FROM t", "COLLATE"),
    ("SELECT CONVERT(a, INT) FROM t", "CONVERT"),
    ("SELECT ceil(a TO DAY) FROM t", "CEIL or FLOOR TO"),
    (
        "SELECT trim('xay', 'x', 'y')",
        "TRIM with more than two arguments",
    ),
    ("SELECT a LIKE ANY ('b') FROM t", "LIKE ANY"),
    ("SELECT abs(a) OVER () FROM t", "OVER for abs"),
    ("SELECT abs(DISTINCT a) FROM t", "DISTINCT for abs"),
    (
        "SELECT abs(a) FILTER (WHERE false) FROM t",
        "FILTER for abs",
    ),
    (
        "SELECT abs(a ORDER BY a) FROM t",
        "ORDER BY among the arguments for abs",
    ),
    (
        "SELECT abs(a) WITHIN GROUP (ORDER BY a) FROM t",
        "WITHIN GROUP for abs",
    ),
    (
        "SELECT abs(a) IGNORE NULLS FROM t",
        "IGNORE NULLS or RESPECT NULLS for abs",
    ),
    (
        "SELECT count(DISTINCT *) FROM t",
        "DISTINCT with an asterisk",
    ),
    ("SELECT count(t.*) FROM t", "t.* as an argument"),
    (
        "SELECT rank() IGNORE NULLS OVER (ORDER BY a) FROM t",
        "IGNORE NULLS or RESPECT NULLS for this",
    ),
    (
        "SELECT lag(DISTINCT a) OVER (ORDER BY a) FROM t",
        "DISTINCT in a window function",
    ),
    ("SELECT sum(a)(b) FROM t", "a second list of arguments"),
    (
        "SELECT percentile_cont(a, 0.5 ORDER BY b) FROM t",
        "ORDER BY among the arguments of a percentile",
    ),
    (
        "SELECT string_agg(a, ',' ORDER BY a LIMIT 1) FROM t",
        "LIMIT among the arguments",
    ),
    (
        "SELECT listagg(a, ',') WITHIN GROUP (ORDER BY a) FROM t",
        "the function listagg",
    ),
    (
        "SELECT time_bucket('1 hour', a) FROM t",
        "the function time_bucket",
    ),
    (
        "FROM t |> AGGREGATE count(*) GROUP BY a DESC",
        "ASC, DESC or NULLS in |> AGGREGATE",
    ),
    (
        "FROM t |> TABLESAMPLE BERNOULLI (1 PERCENT)",
        "|> TABLESAMPLE",
    ),
    (
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM t TABLESAMPLE (1 ROWS))",
        "TABLESAMPLE",
    ),
    (
        "WITH x AS (SELECT 1 FROM t SAMPLE (1)) SELECT * FROM x",
        "SAMPLE",
    ),
    ("SELECT 1 UNION ALL SELECT 1 FROM t SAMPLE (1)", "SAMPLE"),
    ("EXPLAIN SELECT 1 FROM t SAMPLE (1)", "SAMPLE"),
];

#[test]
fn clause_that_the_planner_does_not_read_is_refused_by_name() {
    for (sql, beginning) in REFUSED {
        let refused = match Statement::parse(sql) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{sql}: not refused"),
        };
        assert!(refused.starts_with(beginning), "{sql}: {refused}");
        assert!(refused.contains(" is not supported; "), "{sql}: {refused}");
        assert!(!refused.contains("Ident"), "{sql}: {refused}");
    }
}

#[test]
fn clause_that_the_planner_reads_is_accepted() {
    for sql in [
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST LIMIT 1 OFFSET 2 ROWS",
        "SELECT a FROM t ORDER BY 1 OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY",
        "SELECT a, count(*) FILTER (WHERE b > 1) FROM t GROUP BY ALL HAVING count(*) > 1",
        "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1",
        "SELECT * EXCLUDE (a) REPLACE (1 AS b) FROM t LEFT SEMI JOIN u ON t.a = u.a",
        "SELECT string_agg(DISTINCT a, ',' ORDER BY a), lag(a) IGNORE NULLS OVER (ORDER BY b) FROM t",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a DESC) FROM t",
        "SELECT sum(DISTINCT a), sum(a) OVER w FROM t WINDOW w AS (ORDER BY b ROWS 3 PRECEDING)",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT n FROM x",
        "FROM t |> WHERE a > 1 |> AGGREGATE count(*) AS n GROUP BY a |> ORDER BY n DESC |> LIMIT 3",
        "SELECT * FROM t CROSS JOIN LATERAL (SELECT max(a) FROM u WHERE u.b = t.b) x, UNNEST([1])",
        "SELECT 1 UNION ALL BY NAME SELECT 2 EXCEPT ALL SELECT 3",
        "SELECT * FROM t CROSS JOIN u NATURAL JOIN (v LEFT JOIN w USING (a))",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "DESCRIBE t",
    ] {
        Statement::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn refusal_marks_the_clause_in_the_text() {
    let sql = "SELECT 'TABLESAMPLE'\nFROM t TABLESAMPLE (1 ROWS)";
    let excerpt = Statement::parse(sql).unwrap_err().excerpt(sql).unwrap();
    assert!(
        excerpt.starts_with("line 2: FROM t TABLESAMPLE"),
        "{excerpt}"
    );
    let marked = excerpt.lines().last().unwrap();
    assert_eq!(marked.len(), "line 2: FROM t ".len() + 1, "{excerpt}");
    let sql = "SELECT listagg(a)";
    let excerpt = Statement::parse(sql).unwrap_err().excerpt(sql).unwrap();
    assert!(excerpt.ends_with("               ^"), "{excerpt}");
}
