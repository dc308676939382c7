"""Fixtures and functions of tests that compare the answers of a served plant with those of Postgres. A test module imports the
fixtures that it needs."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator

import pytest

from databases import Postgres, client_program
from harness import OK
from server import Plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("oracles")).build().serve()
    yield plant
    assert plant.stop() == OK


@pytest.fixture(scope="module")
def connection(plant: Plant) -> Iterator:
    with plant.with_key() as connection:
        yield connection


@pytest.fixture
def cursor(connection) -> Iterator:
    # The driver keeps the state of a failed statement in its cursor.
    with connection.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    server = Postgres()
    yield server.url
    server.stop()


# ---- the answers of the engines in one form

Row = list[str | float | None]
UNIT, NULL = "\x1f", "\\N"


def plantlake_rows(cursor, sql: str) -> list[Row]:
    cursor.execute(sql)
    table = cursor.fetch_arrow_table()
    return [[plain(value) for value in row] for row in zip(*(column.to_pylist() for column in table.columns))]


def postgres_rows(url: str, sql: str) -> list[Row]:
    options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-P", f"null={NULL}", "-F", UNIT]
    finished = subprocess.run([client_program("psql"), *options, "-d", url, "-c", sql], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, f"psql: {finished.stderr}"
    lines = finished.stdout.splitlines()
    return [[None if value == NULL else plain(value) for value in line.split(UNIT)] for line in lines]


def plain(value: object) -> str | float | None:
    """A number, or a text that is the same for times, lists and booleans of any engine."""
    if value is None:
        return None
    text = {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)
    try:
        return float(text)
    except ValueError:
        pass
    text = text.replace("{", "[").replace("}", "]").replace("NULL", "None").replace(", ", ",").replace("'", "")
    text = re.sub(r"(\.\d*?)0+\b", r"\1", text) if ":" in text else text
    return re.sub(r" 00:00:00$|\+00(:00)?$", "", text)


def is_same(one: str | float | None, other: str | float | None) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isnan(one) and math.isnan(other) or math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300)
    return one == other


def assert_same(found: list[Row], expected: list[Row], sql: str) -> None:
    is_equal = len(found) == len(expected) and all(
        len(one) == len(other) and all(map(is_same, one, other)) for one, other in zip(found, expected)
    )
    assert is_equal, f"{found} instead of {expected}: {sql}"
