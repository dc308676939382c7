"""Values that are equal but have several forms: the zeros, NaN, and intervals of the same length. They must be one value wherever a
statement groups, joins, sorts, compares or searches."""

from __future__ import annotations

import itertools

import pytest

from oracles import connection, cursor, plant, postgres  # noqa: F401
from test_exact_results import assert_same, plantlake_rows, postgres_rows

SPECIALS = ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'0'", "'1.5'", "'-2'", "'1e308'"]
NUMBERS = ", ".join(f"({left}::double precision, {right}::double precision)" for left, right in itertools.product(SPECIALS, repeat=2))
PAIRS = f"(VALUES {NUMBERS}) AS t (x, y)"

# Expressions that may make a negative NaN.
MAKERS_OF_NAN = [
    "{x} + {y}",
    "{x} - {y}",
    "{x} * {y}",
    "{x} / {y}",
    "{x} % {y}",
    "-{x}",
    "-({x} / {y})",
    "-(-{x} - {y}) * 0",
    "({x} - {y}) / ({x} - {y}) + {y}",
    "{x} / {y} * -1",
    "'-NaN'::double precision + {x}",
    "cast('-nan' AS double precision)",
    "cast(cast({x} AS text) AS double precision)",
    "cast('-NaN' AS real) + {x}",
    "cast({x} / {y} AS real)",
    "CASE WHEN {x} > 1 THEN {x} - {x} ELSE {y} - {y} END",
    "coalesce(NULL, {x} - {y})",
    "nullif({x} / {y}, 1)",
    "greatest({x} / {y}, {y})",
    "least(-{x}, -{y})",
    "abs({x} / {y})",
    "power(abs({x}) + 1, {y})",
    "atan2({x}, {y})",
    "log({x}, {y})",
    "round({x} / {y})",
    "round({x} / {y}, 2)",
    "trunc({x} - {y})",
    "nanvl(-{x}, -{y})",
    "([{x} / {y}, -{x}])[2]",
    "array_sum([{x}, {y}])",
    "array_avg([{x}, {y}])",
    "array_product([{x}, {y}])",
    "array_max([-{x}, -{y}])",
    "array_min([-{x}, -{y}])",
    "inner_product([{x}, {y}], [{y}, {x}])",
    "cosine_distance([{x}, {y}], [{y}, {x}])",
    "array_distance([{x}, {y}], [{y}, {x}])",
    "(array_scale([{x}, {y}], {x}))[1]",
    "(array_subtract([{x}], [{y}]))[1]",
    *(
        f"{function}({{x}})"
        for function in (
            "cbrt", "ln", "log2", "log10", "exp", "sin", "cos", "tan", "cot", "asin", "acos", "atan", "sinh", "cosh",
            "tanh", "asinh", "acosh", "atanh", "ceil", "floor", "signum", "degrees", "radians", "- -ln",
        )
    ),
]  # fmt: skip
AGGREGATES = ["sum", "avg", "min", "max", "median", "stddev", "var_pop", "first_value", "approx_median"]
NAN = "'NaN'::double precision"


@pytest.mark.parametrize("maker", MAKERS_OF_NAN)
def test_every_nan_is_equal_to_nan_and_greater_than_numbers(cursor, maker: str) -> None:
    rows = f"(SELECT {maker.format(x='x', y='y')} AS z, x, y FROM {PAIRS}) AS q"
    [[unequal, less, values, first]] = plantlake_rows(
        cursor,
        f"""SELECT count(*) FILTER (WHERE isnan(z) AND (z <> {NAN} OR z NOT IN ({NAN}) OR z IS DISTINCT FROM {NAN})),
                   count(*) FILTER (WHERE isnan(z) AND (z < 1e300 OR z <= 'Infinity'::double precision)),
                   count(DISTINCT z) FILTER (WHERE isnan(z)),
                   count(*) FILTER (WHERE isnan(z))
            FROM {rows}""",
    )
    assert (unequal, less) == (0, 0)
    assert values == min(first, 1)
    if first:
        assert plantlake_rows(cursor, f"SELECT isnan(z), count(*) FROM {rows} WHERE isnan(z) GROUP BY z") == [["t", first]]
        assert plantlake_rows(cursor, f"SELECT isnan(max(z)) FROM {rows}") == [["t"]]
        assert plantlake_rows(cursor, f"SELECT isnan(max(z)) FROM {rows} GROUP BY x IS NULL") == [["t"]]
        assert plantlake_rows(cursor, f"SELECT isnan(z) FROM {rows} ORDER BY z DESC NULLS LAST LIMIT 1") == [["t"]]
        assert plantlake_rows(cursor, f"SELECT isnan(last_value(z ORDER BY z NULLS FIRST)) FROM {rows}") == [["t"]]
        assert plantlake_rows(cursor, f"SELECT count(*) FROM (SELECT DISTINCT z FROM {rows} WHERE isnan(z)) AS d") == [[1]]
        assert plantlake_rows(cursor, f"SELECT count(*) FROM {rows} JOIN (SELECT {NAN} AS n) AS r ON z = n") == [[first]]


@pytest.mark.parametrize("maker", MAKERS_OF_NAN)
def test_constant_nan_is_equal_to_nan(cursor, maker: str) -> None:
    """The optimiser evaluates them before the statement runs."""
    for x, y in itertools.product(["'NaN'", "'Infinity'", "'-Infinity'", "'0'", "'-2'"], repeat=2):
        constant = maker.format(x=f"({x}::double precision)", y=f"({y}::double precision)")
        [[is_nan, is_equal, is_listed]] = plantlake_rows(
            cursor, f"SELECT isnan({constant}), ({constant}) = {NAN}, ({constant}) IN (-1e77, {NAN})"
        )
        assert is_nan == is_equal == is_listed, constant


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregate_of_infinities_is_nan_in_one_form(cursor, aggregate: str) -> None:
    for grouping in ("", " GROUP BY y", " GROUP BY x IS NULL, y"):
        rows = f"(SELECT {aggregate}(x) AS z FROM (SELECT x, y FROM {PAIRS}) AS s{grouping}) AS q"
        assert plantlake_rows(cursor, f"SELECT count(*) FROM {rows} WHERE isnan(z) AND z IS DISTINCT FROM {NAN}") == [[0]]
    if aggregate == "approx_median":
        return  # It cannot be computed over a window that slides.
    window = f"(SELECT {aggregate}(x) OVER (ORDER BY y, x ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS z FROM {PAIRS}) AS q"
    assert plantlake_rows(cursor, f"SELECT count(*) FROM {window} WHERE isnan(z) AND z IS DISTINCT FROM {NAN}") == [[0]]


@pytest.mark.parametrize("value", ["'Infinity'", "'-Infinity'", "'NaN'", "NULL", "'1e308'", "'-0'"])
def test_extremes_of_one_value_are_that_value(cursor, postgres: str, value: str) -> None:
    for grouping in ("", " GROUP BY g"):
        sql = f"SELECT min(x), max(x) FROM (VALUES (1, {value}::double precision), (1, {value}::double precision)) AS t (g, x){grouping}"
        assert_same(plantlake_rows(cursor, sql), postgres_rows(postgres, sql), sql)


ZEROS = "(VALUES (1, '-0.0'::double precision), (2, '0.0'::double precision), (3, '1.0'::double precision)) AS t (i, x)"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT count(*) FROM (SELECT DISTINCT [x] FROM {ZEROS}) AS q", [[2]]),
        (f"SELECT count(*) FROM (SELECT [x, 1] FROM {ZEROS} GROUP BY [x, 1]) AS q", [[2]]),
        (f"SELECT count(*) FROM (SELECT struct(x, i > 2) FROM {ZEROS} GROUP BY 1) AS q", [[2]]),
        (f"SELECT count(DISTINCT struct(x, 1)) FROM {ZEROS}", [[2]]),
        (f"SELECT count(*) OVER (PARTITION BY [x]) FROM {ZEROS} ORDER BY i", [[2], [2], [1]]),
        (f"SELECT count(*) FROM {ZEROS} WHERE [x] = [0.0]", [[2]]),
        (f"SELECT count(*) FROM {ZEROS} WHERE struct(x, 1) = struct('-0.0'::double precision, 1)", [[2]]),
        (f"SELECT count(*) FROM {ZEROS} JOIN (SELECT [0.0] AS l) AS r ON [x] = l", [[2]]),
        (f"SELECT count(*) FROM {ZEROS} JOIN (SELECT '-0.0'::double precision AS x) AS r USING (x)", [[2]]),
        (f"SELECT count(*) FROM (SELECT x FROM {ZEROS} EXCEPT SELECT 0.0) AS q", [[1]]),
        (f"SELECT count(*) FROM (SELECT [x] FROM {ZEROS} EXCEPT SELECT [0.0]) AS q", [[1]]),
        (f"SELECT count(*) FROM (SELECT x FROM {ZEROS} INTERSECT SELECT '-0.0'::double precision) AS q", [[1]]),
        (f"SELECT count(*) FROM (SELECT x FROM {ZEROS} UNION SELECT '-0.0'::double precision) AS q", [[2]]),
        (f"SELECT count(*) FROM (SELECT [x] AS l FROM {ZEROS} UNION SELECT ['-0.0'::double precision]) AS q", [[2]]),
        (f"SELECT count(*) FILTER (WHERE array_has([x, 5], 0.0)), count(*) FILTER (WHERE 0.0 = ANY ([5, x])) FROM {ZEROS}", [[2, 2]]),
        (f"SELECT sum(array_position([5, x], 0.0)), count(*) FILTER (WHERE array_has_any([x], [0.0])) FROM {ZEROS}", [[4, 2]]),
        ("SELECT cardinality(array_distinct([0.0, '-0.0'::double precision, 1]))", [[2]]),
        ("SELECT cardinality(array_union([0.0], ['-0.0'::double precision]))", [[1]]),
        ("SELECT cardinality(array_except([0.0, 1], ['-0.0'::double precision]))", [[1]]),
        ("SELECT cardinality(array_remove_all([0.0, 1], '-0.0'::double precision))", [[1]]),
    ],
)
def test_zeros_are_one_value(cursor, sql: str, expected: list) -> None:
    assert plantlake_rows(cursor, sql) == expected


INTERVALS = ["1 month", "30 days", "720 hours", "29 days 24 hours", "1 month -30 days", "0 days", "40 days", "-1 month", "-720 hours", "-25 hours"]
SPANS = "(VALUES " + ", ".join(f"({at}, INTERVAL '{text}')" for at, text in enumerate(INTERVALS)) + ") AS t (i, s)"
OTHERS = "(VALUES (INTERVAL '43200 minutes'), (INTERVAL '-1 day -1 hour'), (INTERVAL '2 months')) AS u (s)"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT count(*), min(i) FROM {SPANS} GROUP BY s ORDER BY 2",
        f"SELECT s IS NULL, count(*), min(i) FROM {SPANS} GROUP BY ROLLUP (s) ORDER BY 3, 2",
        f"SELECT extract(epoch FROM s), count(*) FROM {SPANS} GROUP BY s ORDER BY s",
        f"SELECT count(DISTINCT s), count(DISTINCT (s)) FILTER (WHERE i > 3) FROM {SPANS}",
        f"SELECT count(*) FROM (SELECT DISTINCT s FROM {SPANS}) AS q",
        f"SELECT count(*) FROM (SELECT DISTINCT ON (s) s, i FROM {SPANS} ORDER BY s, i) AS q",
        f"SELECT i FROM (SELECT DISTINCT ON (s) s, i FROM {SPANS} ORDER BY s, i) AS q ORDER BY i",
        f"SELECT i, count(*) OVER (PARTITION BY s), rank() OVER (ORDER BY s), dense_rank() OVER (ORDER BY s DESC) FROM {SPANS} ORDER BY i",
        f"SELECT i FROM {SPANS} ORDER BY s, i",
        f"SELECT i FROM {SPANS} ORDER BY s DESC, i LIMIT 3",
        f"SELECT extract(epoch FROM min(s)), extract(epoch FROM max(s)) FROM {SPANS}",
        f"SELECT i % 2, extract(epoch FROM min(s)), extract(epoch FROM max(s)) FROM {SPANS} GROUP BY 1 ORDER BY 1",
        f"SELECT i, extract(epoch FROM max(s) OVER (ORDER BY i ROWS 2 PRECEDING)) FROM {SPANS} ORDER BY i",
        f"SELECT i, extract(epoch FROM greatest(s, INTERVAL '31 days')), extract(epoch FROM least(s, INTERVAL '1 month')) FROM {SPANS} ORDER BY i",
        f"SELECT i, nullif(s, INTERVAL '30 days') IS NULL, CASE s WHEN INTERVAL '720 hours' THEN 'same' ELSE 'other' END FROM {SPANS} ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s IN (INTERVAL '720 hours', INTERVAL '-25 hours') ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s NOT IN (INTERVAL '720 hours', INTERVAL '0 hours') ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s = ANY (ARRAY[INTERVAL '720 hours', INTERVAL '0 hours']) ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s IN (SELECT s FROM {OTHERS}) ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s NOT IN (SELECT s FROM {OTHERS}) ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE EXISTS (SELECT 1 FROM {OTHERS} WHERE u.s = t.s) ORDER BY i",
        f"SELECT i FROM {SPANS} JOIN {OTHERS} ON t.s = u.s ORDER BY i",
        f"SELECT i FROM {SPANS} JOIN {OTHERS} USING (s) ORDER BY i",
        f"SELECT i FROM {SPANS} NATURAL JOIN {OTHERS} ORDER BY i",
        f"SELECT i, u.s IS NULL FROM {SPANS} LEFT JOIN {OTHERS} ON t.s = u.s ORDER BY i",
        f"SELECT i FROM {SPANS} WHERE s BETWEEN INTERVAL '720 hours' AND INTERVAL '40 days' ORDER BY i",
        f"SELECT extract(epoch FROM s) FROM (SELECT s FROM {SPANS} EXCEPT SELECT s FROM {OTHERS}) AS q ORDER BY 1",
        f"SELECT extract(epoch FROM s) FROM (SELECT s FROM {SPANS} EXCEPT ALL SELECT s FROM {OTHERS}) AS q ORDER BY 1",
        f"SELECT extract(epoch FROM s) FROM (SELECT s FROM {SPANS} INTERSECT SELECT s FROM {OTHERS}) AS q ORDER BY 1",
        f"SELECT extract(epoch FROM s) FROM (SELECT s FROM {SPANS} INTERSECT ALL SELECT s FROM {OTHERS}) AS q ORDER BY 1",
        f"SELECT extract(epoch FROM s) FROM (SELECT s FROM {SPANS} UNION SELECT s FROM {OTHERS}) AS q ORDER BY 1",
    ],
)
def test_intervals_of_the_same_length_are_one_value(cursor, postgres: str, sql: str) -> None:
    assert_same(plantlake_rows(cursor, sql), postgres_rows(postgres, sql), sql)


LISTS = "(VALUES (1, 1, ARRAY[1, NULL]), (2, 2, ARRAY[1, NULL]), (3, NULL, ARRAY[1]), (4, 3, ARRAY[1, 2]), (5, 1, NULL), (6, 2, ARRAY[2, 2])) AS t (i, x, l)"


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("quantifier", ["ANY", "SOME", "ALL"])
@pytest.mark.parametrize("right", ["l", "ARRAY[2, NULL]", "ARRAY[1, 2]", "ARRAY[x, 2]", "ARRAY[NULL, NULL]::bigint[]", "'{}'::bigint[]"])
def test_quantified_comparison_with_a_list_has_three_results(
    cursor, postgres: str, operator: str, quantifier: str, right: str
) -> None:
    condition = f"x {operator} {quantifier} ({right})"
    # An empty list is written differently.
    ours = condition.replace("'{}'::bigint[]", "array_remove_all([1], 1)")
    for sql in (
        f"SELECT i, {{}} FROM {LISTS} ORDER BY i",
        f"SELECT i FROM {LISTS} WHERE {{}} ORDER BY i",
        f"SELECT i FROM {LISTS} WHERE NOT ({{}}) ORDER BY i",
    ):
        assert_same(plantlake_rows(cursor, sql.format(ours)), postgres_rows(postgres, sql.format(condition)), sql)


ROWS = "(VALUES (1, 1, NULL), (2, 1, 2), (3, NULL, 2), (4, 2, 1)) AS t (i, a, b)"


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("left", ["(a, b)", "ROW(a, b)", "row(1, b)"])
@pytest.mark.parametrize("right", ["(1, 2)", "ROW(1, 2)", "ROW(1, NULL)", "(b, a)"])
def test_comparison_of_rows_has_three_results(cursor, postgres: str, operator: str, left: str, right: str) -> None:
    right = right.replace("NULL", "NULL::int")
    sql = f"SELECT i, {left} {operator} {right} FROM {ROWS} ORDER BY i"
    assert_same(plantlake_rows(cursor, sql), postgres_rows(postgres, sql), sql)


@pytest.mark.parametrize(
    "condition",
    [
        "x IN (1) AND x IN (2)",
        "x IN (1, 2) AND x > 0 AND x IN (3)",
        "x NOT IN (1) OR x NOT IN (2)",
        "x = 1 AND x = 2",
        "x = 1 AND x IN (2, 3)",
        "x IN (1, 3) AND x IN (3, 2)",
        "x IN (1, 2) AND NOT (x IN (2, 3))",
        "x > 2 AND x < 1",
        "x <> 1 OR x <> 2",
        "x = x",
        "x <> x",
        "x - x = 0",
        "x IS NOT DISTINCT FROM x",
        "x BETWEEN 3 AND 1",
        "x NOT BETWEEN 3 AND 1",
        "(x = 1) = (x = 1)",
        "CASE WHEN x = 1 THEN x = 1 ELSE x = 2 END",
        "x = 1 OR NOT (x = 1)",
        "x = 1 AND NOT (x = 1)",
        "x % 1 = 0",
        "x * 0 = 0",
        "s ~ '.*'",
        "s !~ '.*'",
        "s ~ ''",
        "s !~ ''",
        "s LIKE '%'",
        "s NOT LIKE '%'",
        "s LIKE '%%'",
        "s || '' = s",
        "s ~ '^'",
        "s LIKE s",
        "upper(s) = upper(s)",
    ],
)
def test_simplified_condition_is_null_where_it_is_unknown(cursor, postgres: str, condition: str) -> None:
    rows = "(VALUES (1, NULL::int, NULL::text), (2, 1, ''), (3, 2, 'a'), (4, 3, E'a\\nb')) AS t (i, x, s)"
    for sql in (
        f"SELECT i, {condition} FROM {rows} ORDER BY i",
        f"SELECT i FROM {rows} WHERE ({condition}) IS NULL ORDER BY i",
        f"SELECT i FROM {rows} WHERE NOT ({condition}) ORDER BY i",
    ):
        assert_same(plantlake_rows(cursor, sql), postgres_rows(postgres, sql), sql)
