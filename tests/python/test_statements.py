"""Statements as clients and tools write them, against the answers of Postgres and DuckDB to the same text."""

from __future__ import annotations

import datetime as dt
import itertools

import adbc_driver_manager
import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databases import psql
from oracles import connection, cursor, plant, postgres  # noqa: F401
from server import Plant

pytestmark = pytest.mark.local_only

ROWS = "(VALUES (1, 'a', 10), (2, 'b', NULL), (3, 'c%d', 30), (4, NULL, 40), (5, 'a_b', 10)) AS t (i, s, n)"

# The same text is sent to both.
AS_IN_POSTGRES = [
    # Literals.
    "SELECT 'it''s', E'it\\'s\\t', $$it's$$, $q$a$$b$q$, 'a' AS \"x\"\"y\"",
    "SELECT U&'\\0041bc'",
    # Rows of values.
    f"SELECT i FROM {ROWS} WHERE (i, n) IN ((1, 10), (2, 20), (3, 30)) ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE (i, n) NOT IN ((1, 10), (2, 20)) ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE NOT ((i, n) IN ((1, 10), (2, 20))) ORDER BY i",
    f"SELECT i, (i, n) = (1, 10), (i, n) <> (2, 20), (i, n) IN ((1, 10), (2, 20)) FROM {ROWS} ORDER BY i",
    f"SELECT i, (n, i) < (10, 3), (n, i) >= (30, 3), (n, i, s) > (10, 1, 'a') FROM {ROWS} ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE (n, i) IN (SELECT n, max(i) FROM {ROWS} GROUP BY n) ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE (n, i) NOT IN (SELECT n, max(i) FROM {ROWS} WHERE n > 20 GROUP BY n) ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE NOT ((n, i) IN (SELECT n, min(i) FROM {ROWS} GROUP BY n)) OR i = 2 ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE (n, i) NOT IN (SELECT n, i FROM {ROWS} WHERE false) ORDER BY i",
    # Patterns.
    f"SELECT i FROM {ROWS} WHERE s LIKE '%!%%' ESCAPE '!' OR s ILIKE 'A!_%' ESCAPE '!' ORDER BY i",
    f"SELECT i FROM {ROWS} WHERE s NOT LIKE 'c%' ESCAPE '' ORDER BY i",
    "SELECT 'a\\b' LIKE 'a\\b' ESCAPE '', 'a!b' LIKE 'a!!b' ESCAPE '!', 'a\\b' LIKE 'a_b' ESCAPE '!'",
    f"SELECT i, s SIMILAR TO '%(a|d)%', s SIMILAR TO 'a', s NOT SIMILAR TO '[a-b]', s SIMILAR TO '_+' FROM {ROWS} ORDER BY i",
    "SELECT 'a.c' SIMILAR TO 'a.c', 'abc' SIMILAR TO 'a.c', 'ab' SIMILAR TO 'a|ab', 'a%' SIMILAR TO 'a!%' ESCAPE '!'",
    f"SELECT i, s SIMILAR TO substr('xa%', 2), s LIKE substr('xa!_%', 2) ESCAPE '!' FROM {ROWS} ORDER BY i",
    # Limits.
    f"SELECT i FROM {ROWS} ORDER BY i FETCH FIRST 2 ROWS ONLY",
    f"SELECT i FROM {ROWS} ORDER BY i OFFSET 1 ROW FETCH NEXT ROW ONLY",
    f"SELECT max(i) FROM (SELECT i FROM {ROWS} ORDER BY i FETCH FIRST 3 ROWS ONLY) AS x",
    # Equal names.
    f"SELECT count(*), count(*), sum(i), count(*) FROM {ROWS}",
    f"SELECT i, i, s AS i FROM {ROWS} ORDER BY 1 LIMIT 2",
    "SELECT 1, 2, 1, 'a', 'a'",
    f"SELECT t.*, i FROM {ROWS} ORDER BY 1 LIMIT 1",
    "SELECT 1 AS a, 2 AS a UNION ALL SELECT 3, 4 ORDER BY 1",
    f"SELECT n, CAST(n AS TEXT), CAST(n AS BIGINT) FROM {ROWS} ORDER BY i",
    # Named windows.
    f"SELECT i, sum(i) OVER (w ORDER BY i) FROM {ROWS} WINDOW w AS (PARTITION BY n) ORDER BY i",
    f"SELECT i FROM {ROWS} WINDOW w AS (PARTITION BY n ORDER BY i DESC) ORDER BY count(*) OVER w, i",
    f"SELECT i, sum(i) OVER (w ROWS 1 PRECEDING) FROM {ROWS} WINDOW v AS (PARTITION BY n), w AS (v ORDER BY i) ORDER BY i",
    # Casts to integers round: constants and decimals half away from zero, doubles half to even.
    "SELECT CAST(2.5 AS INT), CAST(3.5 AS BIGINT), CAST(-2.5 AS INT), CAST(0.4 AS SMALLINT), 1e3::int",
    """SELECT CAST(x AS INT) AS a, x::bigint AS b, CAST(x AS INT) + 1 AS c, sum(CAST(x AS INT)) OVER () AS d
    FROM (VALUES (CAST(2.5 AS DOUBLE PRECISION)), (3.5), (-2.5), (0.49999999999999994), (7)) AS t (x) ORDER BY t.x""",
    """SELECT CAST(x AS INT) AS a, x::bigint AS b
    FROM (VALUES (CAST(2.5 AS DECIMAL(4, 2))), (3.49), (-2.5), (99.99), (0.5)) AS t (x) ORDER BY t.x""",
    # Functions and types.
    "SELECT mod(-7, 3), mod(7, -3), sign(-3.5) < 0, upper('a')",
    "SELECT CAST('abcdef' AS VARCHAR(3)), CAST('ab' AS VARCHAR(3)), 'abcdef'::character varying(2)",
    "SELECT to_char(TIMESTAMP '2024-03-05 13:02:03.004005', 'YYYY-MM-DD HH24:MI:SS.US|FMDD.FMMM.YY|HH12 AM|DDD|IYYY-IW-ID')",
    "SELECT to_char(DATE '2024-03-05', 'Dy, DD Mon YYYY'), to_char(DATE '2024-03-05', 'FMDay FMMonth \"of\" YYYY')",
    "SELECT coalesce(to_char(TIMESTAMP '2024-03-05 13:02:03', f), 'none') FROM (VALUES ('YYYY'), ('MM\"T\"DD'), (NULL)) AS t (f) ORDER BY f",
    "SELECT LOCALTIMESTAMP IS NOT NULL, CURRENT_DATE IS NOT NULL, current_schema() = 'public', current_schema = 'public'",
]

# In Postgres, the parameter is `$1`.
WITH_PARAMETER = [
    ("SELECT 'it''s' || ?", "!"),
    ("SELECT '''' || ?", "x"),
    ("SELECT count(*) FROM (VALUES ('x'' OR ''1''=''1')) AS t (s) WHERE s = 'x'' OR ''1''=''1' AND 'p' = ?", "p"),
    ("SELECT count(*) FROM (VALUES ('y')) AS t (s) WHERE s = 'x'' OR ''1''=''1' AND 'p' = ?", "p"),
    ('SELECT 1 AS "a""b", ? AS n', "5"),
    ("SELECT E'it\\'s' || ?", "!"),
    ("SELECT E'a\\\\n' || ?", "!"),
    ("SELECT $$it's ?$$ || ?", "!"),
    ("SELECT U&'\\0041' || ?", "!"),
    ("SELECT ? AS n -- it's ?", "1"),
    ("SELECT /* ? ' */ ?", "1"),
    ("SELECT 'a?b' || ? || '?'", "é"),
    ("SELECT '100%' LIKE ? ESCAPE '!'", "100!%"),
    ("SELECT 'ab' SIMILAR TO ?", "a(b|c)"),
    ("SELECT i FROM (VALUES (1), (2)) AS t (i) WHERE (i, 'x') IN ((2, ?))", "x"),
]


def answer(cursor, sql: str, parameters: tuple | None = None) -> list[str]:
    """The rows as psql prints them. Equal names are no obstacle."""
    cursor.execute(sql, parameters)
    table = cursor.fetch_arrow_table()
    columns = [[shown(value) for value in column.to_pylist()] for column in table.columns]
    return ["|".join(row) for row in zip(*columns)] or [""]


def shown(value: object) -> str:
    return {None: "", True: "t", False: "f"}[value] if value is None or isinstance(value, bool) else str(value)


@pytest.mark.parametrize("sql", AS_IN_POSTGRES)
def test_statement_is_answered_as_in_postgres(cursor, postgres: str, sql: str) -> None:
    assert answer(cursor, sql) == psql(postgres, sql).split("\n")


@pytest.mark.parametrize(("sql", "value"), WITH_PARAMETER)
def test_statement_with_parameter_is_answered_as_in_postgres(cursor, postgres: str, sql: str, value: str) -> None:
    # The parameter is the last `?` outside of comments at the end and of the text '?'.
    at = next(at for at in reversed(range(len(sql))) if sql[at] == "?" and is_parameter(sql, at))
    prepared = f"PREPARE s (text) AS {sql[:at]}$1{sql[at + 1:]}\n; EXECUTE s ('{value}')"
    assert answer(cursor, sql, (value,)) == psql(postgres, prepared).split("\n")


def is_parameter(sql: str, at: int) -> bool:
    """Whether `?` is outside of texts and comments, for the statements above."""
    return "--" not in sql[:at] and sql[at - 1 : at] in (" ",) and sql[at + 1 : at + 2] in ("", " ", ")")


QUOTED = st.text(st.sampled_from("a'\"?$\\é%-/* \n"), max_size=8)


@given(parts=st.lists(QUOTED, min_size=1, max_size=4), name=QUOTED.filter(bool))
@settings(max_examples=60, deadline=None)
def test_texts_beside_parameters_stay_as_written(cursor, parts: list[str], name: str) -> None:
    """Each text is a literal and, after it, a parameter: the answer must be the texts."""
    literals = ["'" + part.replace("'", "''") + "'" for part in parts]
    selected = ", ".join(itertools.chain.from_iterable((literal, "?") for literal in literals))
    quoted = '"' + name.replace('"', '""') + '"'
    cursor.execute(f"SELECT {selected}, 1 AS {quoted}", tuple(parts))
    table = cursor.fetch_arrow_table()
    found = [column.to_pylist()[0] for column in table.columns]
    assert found == [*itertools.chain.from_iterable((part, part) for part in parts), 1]
    assert table.column_names[-1] == name


def test_error_position_is_that_of_the_text(cursor) -> None:
    sql = "SELECT 'it''s', ?, ?, valeu FROM data_h"
    with pytest.raises(adbc_driver_manager.ProgrammingError) as error:
        cursor.execute(sql, (1, 2))
    *_, line, mark = str(error.value).split(" (InvalidArg")[0].splitlines()
    assert line == f"line 1: {sql}"
    assert mark.index("^") - len("line 1: ") == sql.index("valeu")


AS_IN_DUCKDB = [
    "SELECT year(t), month(t), day(t), hour(t), minute(t), second(t), quarter(t), dayofyear(t) FROM ts",
    *(f"SELECT date_diff('{unit}', t, u), datediff('{unit}', u, t) FROM ts"
      for unit in ("second", "minute", "hour", "day", "week", "month", "quarter", "year")),
    "SELECT last_day(CAST(t AS DATE)), strftime(t, '%Y-%m'), mod(7, 4) FROM ts",
    "SELECT approx_count_distinct(t) FROM ts",
    "SELECT count(*) AS n, count(*) AS n FROM ts",
]


@pytest.mark.parametrize("sql", AS_IN_DUCKDB)
def test_statement_is_answered_as_in_duckdb(cursor, sql: str) -> None:
    times = ", ".join(
        f"(TIMESTAMP '{one:%Y-%m-%d %H:%M:%S}', TIMESTAMP '{other:%Y-%m-%d %H:%M:%S}')"
        for one, other in [
            (dt.datetime(2024, 1, 31, 23, 59, 59), dt.datetime(2024, 2, 1)),
            (dt.datetime(2023, 12, 31, 12), dt.datetime(2025, 3, 2, 11, 30, 1)),
            (dt.datetime(2024, 2, 29), dt.datetime(2020, 2, 29, 5)),
        ]
    )
    sql = f"WITH ts (t, u) AS (VALUES {times}) {sql}"
    assert answer(cursor, sql) == ["|".join(map(shown, row)) for row in duckdb.sql(sql).fetchall()]


def test_jdbc_escapes_have_the_meaning_of_jdbc(cursor) -> None:
    for escaped, plain in [
        ("{fn UCASE('a')}", "'A'"),
        ("{fn LOG(10)}", "ln(10)"),
        ("{fn LOCATE('b', 'abc')}", "2"),
        ("{fn DAYOFWEEK({d '2024-03-03'})}", "1"),
        ("{fn DAYNAME({d '2024-03-03'})}", "'Sunday'"),
        ("{fn YEAR({ts '2024-10-27 00:00:00'})}", "2024"),
        ("{fn EXTRACT(MONTH FROM {TS '2024-10-27 00:00:00'})}", "10"),
        ("{fn TIMESTAMPADD(SQL_TSI_MONTH, -1, {ts '2024-03-31 00:00:00'})}", "TIMESTAMP '2024-02-29 00:00:00'"),
        ("{fn TIMESTAMPDIFF(SQL_TSI_HOUR, {ts '2024-01-01 00:30:00'}, {ts '2024-01-01 02:00:00'})}", "1"),
        ("{fn CONVERT('12', SQL_INTEGER)}", "12"),
        ("{fn SPACE(2)}", "'  '"),
        ("{fn INSERT('abcd', 2, 2, 'x')}", "'axd'"),
        ("{fn CONCAT('{', '}')}", "'{}'"),
        ("{fn USER()}", "current_user"),
        ("{fn DATABASE()}", "'plantlake'"),
        ("'100%' LIKE '100!%' {escape '!'}", "true"),
    ]:
        assert answer(cursor, f"SELECT {escaped} = {plain} AS x") == ["t"], escaped
    joined = "SELECT count(*) FROM {oj assets a LEFT OUTER JOIN data_d d ON d.asset_id = a.id}"
    assert answer(cursor, joined) == answer(cursor, joined.replace("{oj", "").replace("}", ""))


def test_current_user_differs_between_users_who_share_plans(plant: Plant) -> None:
    found = {plant.ask("SELECT current_user AS u, current_database() AS d", tenant).iloc[0]["u"] for tenant in plant.tenants}
    assert len(found) == len(plant.tenants)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT a.id, x.value FROM assets a CROSS JOIN LATERAL (SELECT value FROM data_h h WHERE h.asset_id = a.id "
         "ORDER BY timestamp LIMIT 1) x", "row_number() OVER"),
        ("SELECT (SELECT value FROM data_d d WHERE d.asset_id = a.id ORDER BY timestamp LIMIT 1) FROM assets a", "row_number() OVER"),
        ("SELECT id FROM assets a WHERE EXISTS (SELECT 1 FROM data_d d WHERE d.asset_id = a.id OFFSET 1)", "OFFSET in a sub-query"),
        ("SELECT id FROM assets a WHERE EXISTS (SELECT 1 FROM data_d d WHERE EXISTS (SELECT 1 FROM data_h h WHERE h.asset_id = a.id))",
         "is not a column of the query right around it"),
        ("SELECT count(*) FROM data_h TABLESAMPLE BERNOULLI (1)", "TABLESAMPLE is not supported; use WHERE random()"),
        ("SELECT max_by(timestamp, value) FROM data_h", "use last_value(x ORDER BY y NULLS FIRST)"),
        ("SELECT to_char(now(), 'MONTH')", "does not support the pattern MONTH"),
        ("SELECT name COLLATE \"C\" FROM assets", "COLLATE is not supported"),
    ],
)
def test_unsupported_statement_is_refused_before_it_runs(cursor, sql: str, text: str) -> None:
    with pytest.raises(adbc_driver_manager.Error) as error:
        cursor.execute(sql)
    shown = str(error.value)
    assert text in shown, shown
    assert not any(word in shown for word in ("Span(", "Ident", "OuterReferenceColumn", "ast node")), shown
