"""Random SQL over constant rows against Postgres.

    pytest tests/python/test_differential_values.py                the same statements in each run, under a minute
    pytest tests/python/test_differential_values.py --long         half an hour, from a random seed that is printed
    pytest tests/python/test_differential_values.py --seed 4711    from this seed on: the first statement is the one that failed
    PLANTLAKE_TEST_DIFFERENTIAL_SECONDS=600 pytest …               another duration

A difference is shrunk and printed. Statements that Postgres refuses, because a value is out of range for instance, are left out.
"""

from __future__ import annotations

import os
import random
import time

import adbc_driver_manager
import pytest

import conftest
from oracles import Row, connection, is_same, plant, plantlake_rows, postgres, postgres_rows  # noqa: F401
from sqlgen import Choices, shrink
from sqlvalues import ChainGenerator, ValuesGenerator

pytestmark = pytest.mark.local_only
LONG_SECONDS = 1_800.0
SHORT_STATEMENTS = 500
# The generators, with their shares of the statements or the time.
SHARES = {ValuesGenerator: 0.7, ChainGenerator: 0.3}
FIRST_SEED = 28_000_000
MAX_FINDINGS = 5
MAX_REFUSED_SHARE = 0.1
# Texts of refusals.
REFUSALS = ("cannot run this sub-query", "sub-query that refers to columns of the outer query")


class Refused(Exception):
    """One of the engines does not answer the statement, for a known reason or, for Postgres, any."""


def compare(connection, url: str, generator: type, choices: Choices) -> tuple[str, str | None]:
    """Returns a statement, and how the answers differ."""
    sql = generator(choices).statement()
    try:
        expected = postgres_rows(url, sql)
    except AssertionError as error:
        raise Refused(str(error)) from error
    try:
        with connection.cursor() as cursor:
            found = plantlake_rows(cursor, sql)
    except adbc_driver_manager.Error as error:
        if any(refusal in str(error) for refusal in REFUSALS):
            raise Refused(str(error)) from error
        return sql, f"error: {error}"
    return sql, difference(found, expected)


def difference(found: list[Row], expected: list[Row]) -> str | None:
    """Returns how the rows differ, in whatever order they are."""
    remaining = list(expected)
    for row in found:
        match = next((number for number, other in enumerate(remaining) if is_same_row(row, other)), None)
        if match is None:
            return f"rows: {found} instead of {expected}"
        remaining.pop(match)
    return f"rows: {found} instead of {expected}" if remaining else None


def is_same_row(one: Row, other: Row) -> bool:
    return len(one) == len(other) and all(map(is_same, one, other))


@pytest.mark.parametrize("generator", SHARES)
def test_random_statement_has_the_result_of_postgres(connection, postgres: str, pytestconfig: pytest.Config, generator: type) -> None:
    given = os.environ.get("PLANTLAKE_TEST_DIFFERENTIAL_SECONDS")
    is_long = given is not None or conftest.profile(pytestconfig) == "long"
    end = time.monotonic() + (float(given) if given else LONG_SECONDS) * SHARES[generator]
    seed = first_seed(pytestconfig, is_long)
    print(f"\nfrom --seed {seed}")
    found: list[str] = []
    statements, refused = 0, []
    while len(found) < MAX_FINDINGS and (time.monotonic() < end if is_long else statements < SHORT_STATEMENTS * SHARES[generator]):
        choices = Choices(seed)
        try:
            sql, wrong = compare(connection, postgres, generator, choices)
        except Refused as error:
            refused.append(str(error))
            wrong = None
        if wrong:
            found.append(report(connection, postgres, generator, choices.made, seed, sql, wrong))
            print(found[-1], flush=True)
        statements += 1
        seed += 1
    print(f"{statements} statements, {len(refused)} refused")
    assert not found, "\n\n".join(found)
    assert len(refused) <= MAX_REFUSED_SHARE * statements + 3, refused[:20]


def first_seed(config: pytest.Config, is_long: bool) -> int:
    if (given := config.getoption("--seed")) is not None:
        return given
    return random.SystemRandom().randrange(1 << 40) if is_long else FIRST_SEED


def report(connection, url: str, generator: type, made: list[int], seed: int, sql: str, wrong: str) -> str:
    """Returns the difference with the shortest statement that shows one of the same kind."""

    def is_wrong(recorded: list[int]) -> bool:
        try:
            _, other = compare(connection, url, generator, Choices(recorded=recorded))
        except Refused:
            return False
        return other is not None and other[:5] == wrong[:5]

    short_sql, short_wrong = compare(connection, url, generator, Choices(recorded=shrink(made, is_wrong)))
    return f"--seed {seed}: {short_wrong}\n{short_sql}\n(shrunk from: {wrong[:500]}\n{sql})"


def test_comparison_finds_wrong_rows() -> None:
    rows: list[Row] = [["a", 1.0, None], ["b", 2.0, 3.0], ["b", 2.0, 3.0]]
    assert difference(rows, rows[::-1]) is None
    for wrong in (rows[:2], [rows[0], rows[0], rows[1]], [["a", 1.0, 0.0], *rows[1:]], [["a", "1.0", None], *rows[1:]], []):
        assert difference(rows, wrong) is not None, wrong
        assert difference(wrong, rows) is not None, wrong


def test_statements_have_every_shape() -> None:
    """The generator has not lost a kind of statement."""
    made = "\n".join(ValuesGenerator(Choices(seed)).statement() for seed in range(2_000))
    shapes = (
        " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN ", " CROSS JOIN ", "EXISTS (", " NOT IN (SELECT", " FILTER (", "DISTINCT ", " HAVING ",
        "ROLLUP(", "CUBE(", " ROWS BETWEEN", " GROUPS BETWEEN", "UNION ALL", " EXCEPT ALL ", " INTERSECT ", "CASE ", "ILIKE", " BETWEEN ",
        "date_trunc", "(SELECT max(", "DISTINCT FROM", "extract(", "string_agg(", "CAST(NULL", " ANY (SELECT", " ALL (SELECT", "nullif(",
        "greatest(", "bool_and(", "IS UNKNOWN", "nth_value(", "INTERVAL",
    )  # fmt: skip
    assert [shape for shape in shapes if shape not in made] == []
