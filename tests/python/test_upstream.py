"""Reports of wrong results in the libraries below plantlake (tests/upstream): what is right stays right, and what is mended is noticed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from decimal import Decimal

import adbc_driver_manager
import duckdb
import pytest

from databases import client_program
from harness import REPOSITORY
from oracles import connection, plant, postgres  # noqa: F401

pytestmark = pytest.mark.local_only

FOLDER = REPOSITORY / "tests" / "upstream"
STATES = ("right", "refused", "wrong")
SOURCES = ("postgres", "duckdb", "standard")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
FRACTION = re.compile(r"(:\d\d)(\.\d+)")
# Systems show the digits of a double after these differently.
MAX_DIGITS = 15


@dataclass(frozen=True)
class Report:
    """A report as in a file of tests/upstream. Without rows, the right answer is an error."""

    id: str
    title: str
    sql: str
    source: str
    state: str
    upstream: str = ""
    rows: list[str] | None = None
    source_sql: str = ""
    refusal: str = ""


REPORTS = [
    Report(**report)
    for file in sorted(FOLDER.glob("*.toml"))
    for report in tomllib.loads(file.read_text())["report"]
]
NAMES = [f"{report.id}: {report.title}" for report in REPORTS]


def shown(value: object) -> str:
    """Returns a value as psql shows it, and lists and structs in one form for all systems."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "t", False: "f"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shown(one)}" for key, one in value.items()) + "}"
    return str(value)


def same(cell: str) -> str:
    """Returns a text that is the same for equal numbers and times in the forms of all systems."""
    if NUMBER.fullmatch(cell):
        number = Decimal(cell)
        if number == number.to_integral_value() and abs(number) < Decimal(10) ** 30:
            return str(int(number))
        return f"{float(number):.{MAX_DIGITS}g}"
    if cell.lower() in ("nan", "infinity", "-infinity", "inf", "-inf"):
        return cell.lower().replace("infinity", "inf")
    return FRACTION.sub(lambda found: (found[1] + found[2].rstrip("0")).rstrip("."), cell)


def lines(rows: list[list[str]]) -> list[str]:
    return ["|".join(map(same, row)) for row in rows]


def answer(connection, sql: str) -> list[str]:
    """Returns plantlake's rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
    columns = [[shown(value) for value in column.to_pylist()] for column in table.columns]
    return lines(list(zip(*columns)))


def answer_of_source(report: Report, postgres: str) -> list[str] | None:
    """Returns the rows of Postgres or DuckDB, or none if it fails."""
    sql = report.source_sql or report.sql
    if report.source == "duckdb":
        try:
            return lines([list(map(shown, row)) for row in duckdb.connect().execute(sql).fetchall()])
        except duckdb.Error:
            return None
    command = [client_program("psql"), "-X", "-q", "-A", "-t", "-P", "null=NULL", "-d", postgres, "-c", sql]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if finished.returncode != 0:
        return None
    return lines([row.split("|") for row in finished.stdout.splitlines()])


@pytest.mark.parametrize("report", REPORTS, ids=NAMES)
def test_answer_to_reported_statement_is_in_its_state(connection, report: Report) -> None:
    try:
        found = answer(connection, report.sql)
    except adbc_driver_manager.Error as error:
        assert report.state == "refused", error
        assert re.search(report.refusal, str(error)), error
        return
    assert report.state != "refused", f"answered, with {found}"
    if report.state == "right":
        assert found == report.rows
    else:
        assert found != report.rows, "the answer is right now: set its state to `right`"


@pytest.mark.parametrize(
    "report",
    [pytest.param(report, id=name) for name, report in zip(NAMES, REPORTS) if report.source != "standard"],
)
def test_right_answer_is_that_of_its_source(postgres: str, report: Report) -> None:
    assert answer_of_source(report, postgres) == report.rows


def test_reports_are_complete_and_listed_once() -> None:
    assert len(set(NAMES)) == len(NAMES), "two reports have the same id and title"
    assert len({report.sql for report in REPORTS}) == len(REPORTS), "two reports have the same statement"
    for report in REPORTS:
        assert report.state in STATES and report.source in SOURCES, report.id
        assert report.id == "unreported" or re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", report.id), report.id
        assert (report.upstream in ("open", "closed")) == (report.id != "unreported"), report.id
        assert bool(report.refusal) == (report.state == "refused"), report.id
        assert report.state != "right" or report.rows is not None, report.id


def test_reports_in_source_files_are_listed() -> None:
    """The ids in comments of src/engine are those for which plantlake has its own code."""
    listed = {report.id for report in REPORTS}
    for file in (REPOSITORY / "src" / "engine").rglob("*.rs"):
        for found in re.findall(r"\b(apache/[\w-]+#\d+)", file.read_text()):
            assert found in listed, f"{file.relative_to(REPOSITORY)} has a report that is not in tests/upstream: {found}"
