"""Tests of the commands of a first session: simulate, resample, status, query."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compare
import harness
from harness import FAILURE, OK, USAGE, Lake, LocalLake
from reference import RESOLUTIONS, RawFile, rollups
from stories import LakeModel, Put, Run
from writers import FileSpec

SIMULATE = ["simulate", "--assets", "6", "--days", "3", "--start", "2024-03-30", "--interval", "60s", "--seed", "7"]


def read_raw_files(lake: Lake) -> list[RawFile]:
    """Returns the existing raw files, read by pyarrow."""
    times = lake.mtimes()
    return [
        RawFile(path, mtime, pq.read_table(io.BytesIO(lake.read(f"raw/{path}"))))
        for path, mtime in times.items()
        if path.endswith(".parquet")
    ]


def test_first_session_produces_expected_averages(lake: Lake) -> None:
    lake.run(*SIMULATE).expect(OK)
    raw = read_raw_files(lake)
    assert len({file.table["id"][0].as_py() for file in raw}) == 6
    expected = rollups(raw)

    published = lake.resample().expect(OK).json
    assert published["outcome"] == "published"
    harness.assert_expected(lake, expected)
    assert published["readings"]["used"] == expected.used
    assert {k: v for k, v in published["readings"]["left_out"].items() if v} == expected.left_out_by_reason
    dates = published["dates"]
    assert (dates["first"], dates["count"] >= 3) == ("2024-03-30", True), str(dates)

    status = lake.run("status", "--json").expect(OK)
    text = json.dumps(status.json)
    for name in RESOLUTIONS:
        assert name in text and str(len(expected.tables[name])) in text, str(status)
    printed = lake.run("status").expect(OK)
    assert "data_min" in printed.text, str(printed)

    shown = lake.run("query", "SELECT * FROM data_h ORDER BY asset_id, timestamp LIMIT 5", "--format", "table").expect(OK)
    assert expected.tables["data_h"]["asset_id"].iloc[0] in shown.text and "stddev" in shown.text, str(shown)


def test_simulate_with_same_seed_writes_same_files(new_lake) -> None:
    first, second, third = new_lake(), new_lake(), new_lake()
    for lake in (first, second):
        lake.run(*SIMULATE).expect(OK)
    third.run(*SIMULATE[:-1], "8").expect(OK)

    def contents(lake: Lake) -> dict[str, bytes]:
        return {path: lake.read(f"raw/{path}") for path in sorted(lake.mtimes())}

    assert contents(first) == contents(second)
    assert list(contents(first).values()) != list(contents(third).values())


def fill(lake: Lake) -> LakeModel:
    """Fills a lake by two raw files and one run."""
    model = LakeModel(lake)
    for step in [Put(0, FileSpec(rows=300, days=3, assets=(0, 1), edge_times=True)), Put(1, FileSpec(seed=1, day=3)), Run()]:
        model.apply(step)
    return model


@pytest.fixture(scope="module")
def shared_model(new_shared_lake: Callable[[], Lake]) -> LakeModel:
    return fill(new_shared_lake())


@pytest.fixture
def filled_model(shared_model: LakeModel) -> Iterator[LakeModel]:
    """A lake that the test only reads."""
    with shared_model.lake.assert_unchanged():
        yield shared_model


ALL_MINUTES = 'SELECT * FROM data_min ORDER BY asset_id, "timestamp"'


def as_reference(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the types of the reference."""
    frame = frame.copy()
    stamps = pd.to_datetime(frame["timestamp"], utc=True).astype("datetime64[us, UTC]")
    frame["timestamp"] = stamps.astype("int64")
    return frame.astype({"asset_id": object, "count": "int64", "stddev": "float64"})


def test_query_as_csv_equals_table(filled_model: LakeModel) -> None:
    out = filled_model.lake.run("query", ALL_MINUTES, "--format", "csv").expect(OK)
    found = as_reference(pd.read_csv(io.StringIO(out.text), float_precision="round_trip"))
    compare.same_bits("data_min", found, filled_model.lake.table("data_min"))


def test_query_as_json_equals_table(filled_model: LakeModel) -> None:
    out = filled_model.lake.run("query", ALL_MINUTES, "--format", "json").expect(OK)
    found = pd.DataFrame([json.loads(line) for line in out.text.splitlines()])
    assert "stddev" in found.columns
    compare.same_bits("data_min", as_reference(found), filled_model.lake.table("data_min"))


def test_query_as_parquet_equals_table(filled_model: LakeModel) -> None:
    out = filled_model.lake.run("query", ALL_MINUTES, "--format", "parquet").expect(OK)
    table = pq.read_table(io.BytesIO(out.out))
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    compare.same_bits("data_min", as_reference(table.to_pandas()), filled_model.lake.table("data_min"))


@pytest.mark.parametrize("format_", ["csv", "json", "parquet", "table"])
def test_query_with_output_writes_file(filled_model: LakeModel, format_: str) -> None:
    path = filled_model.lake.folder / f"answer.{format_}"
    out = filled_model.lake.run("query", ALL_MINUTES, "--format", format_, "--output", str(path)).expect(OK)
    assert out.out == b"" and path.stat().st_size > 0
    if format_ == "parquet":
        compare.same_bits("data_min", as_reference(pd.read_parquet(path)), filled_model.lake.table("data_min"))


def test_query_reads_sql_from_standard_input(filled_model: LakeModel) -> None:
    lake = filled_model.lake
    command = [str(harness.binary()), *lake.args(["query", "-", "--format", "csv"])]
    finished = subprocess.run(
        command, input=b"SELECT count(*) AS n FROM data_d", env=harness.environment(lake.settings), capture_output=True,
        check=True,
    )
    assert finished.stdout.split() == [b"n", str(len(filled_model.expected.tables["data_d"])).encode()]


@pytest.mark.parametrize("format_", ["csv", "json", "parquet", "table"])
def test_query_without_rows_succeeds(filled_model: LakeModel, format_: str) -> None:
    out = filled_model.lake.run("query", "SELECT * FROM data_d WHERE \"count\" < 0", "--format", format_).expect(OK)
    if format_ == "parquet":
        assert pq.read_table(io.BytesIO(out.out)).num_rows == 0
    if format_ == "csv":
        assert pd.read_csv(io.StringIO(out.text)).empty
    if format_ == "json":
        assert out.out == b""


def test_query_as_table_in_narrow_terminal_prints_rows(filled_model: LakeModel) -> None:
    out = filled_model.lake.run("query", ALL_MINUTES, "--format", "table", settings={"COLUMNS": "80"}).expect(OK)
    assert len(out.text.splitlines()) > 3


def test_query_by_partition_or_time_returns_same_rows(filled_model: LakeModel) -> None:
    table = filled_model.expected.tables["data_min"]
    day = 1_704_067_200_000_000
    expected = int(table[(table["timestamp"] >= day) & (table["timestamp"] < day + 86_400_000_000)]["count"].sum())
    assert expected > 0
    for condition in [
        "date = DATE '2024-01-01'",
        "\"timestamp\" >= '2024-01-01T00:00:00Z' AND \"timestamp\" < '2024-01-02T00:00:00Z'",
    ]:
        found = filled_model.lake.query(f'SELECT sum("count") AS n FROM data_min WHERE {condition}')
        assert int(found["n"].iloc[0]) == expected, condition
    months = filled_model.lake.query('SELECT month, sum("count") AS n FROM data_h GROUP BY month ORDER BY month')
    assert list(months["month"])[:2] == ["2023-12", "2024-01"]
    years = filled_model.lake.query("SELECT DISTINCT year FROM data_d ORDER BY year")
    assert list(years["year"]) == [2023, 2024]


def test_query_reads_published_version_only(lake: Lake) -> None:
    """Commits by other writers, or by an unfinished run, are not visible."""
    fill(lake)
    before = lake.query('SELECT sum("count") AS n FROM data_min')["n"].iloc[0]
    lake.delta("data_min").delete()
    assert len(lake.table("data_min")) == 0
    assert lake.query('SELECT sum("count") AS n FROM data_min')["n"].iloc[0] == before


WRITES = [
    "DROP TABLE data_h",
    "INSERT INTO data_d SELECT * FROM data_d",
    "INSERT INTO data_d VALUES ('x')",
    "COPY data_h TO '{folder}/stolen.parquet'",
    "COPY (SELECT 1) TO '{folder}/stolen.csv' STORED AS CSV",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{folder}/'",
    "CREATE TABLE t AS SELECT * FROM data_h",
    "CREATE VIEW v AS SELECT * FROM data_h",
    "CREATE OR REPLACE TABLE data_h AS SELECT 1",
    "DELETE FROM data_h",
    "UPDATE data_h SET value = 0",
    "TRUNCATE TABLE data_h",
    "SET datafusion.execution.batch_size = 1",
    "SELECT 1; DROP TABLE data_h",
    "EXPLAIN ANALYZE INSERT INTO data_d SELECT * FROM data_d",
    "EXPLAIN ANALYZE COPY data_h TO '{folder}/stolen.parquet'",
]


@pytest.mark.parametrize("sql", WRITES)
def test_query_that_writes_is_refused(filled_model: LakeModel, sql: str) -> None:
    lake = filled_model.lake
    before = lake.snapshot()
    files = {path for path in lake.folder.rglob("*") if "state" not in path.parts}
    finished = lake.run("query", sql.format(folder=lake.folder)).expect(FAILURE, USAGE)
    assert finished.err.strip(), str(finished)
    assert lake.snapshot() == before, f"the lake changed\n{finished}"
    assert {path for path in lake.folder.rglob("*") if "state" not in path.parts} == files, f"files appeared\n{finished}"


def test_query_of_other_files_is_refused(filled_model: LakeModel) -> None:
    secret = filled_model.lake.folder / "secret.csv"
    secret.write_text("word\nswordfish\n")
    for sql in [f"SELECT * FROM '{secret}'", f"SELECT * FROM \"{secret}\"", f"SELECT * FROM read_csv('{secret}')"]:
        finished = filled_model.lake.run("query", sql).expect(FAILURE, USAGE)
        assert "swordfish" not in finished.text + finished.err, str(finished)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM data_h", "nothing"),
        ("SELECT * FROM data_week", "data_week"),
        ("SELECT sum(asset_id", "EOF"),
        ("", "an empty text"),
    ],
)
def test_query_with_invalid_sql_names_cause(filled_model: LakeModel, sql: str, says: str) -> None:
    finished = filled_model.lake.run("query", sql).expect(FAILURE, USAGE)
    assert finished.err.strip() and says in finished.err, str(finished)
    assert finished.out == b"", f"standard output is not empty\n{finished}"


def test_query_without_publication_succeeds_or_suggests_resample(lake: Lake) -> None:
    finished = lake.run("query", "SELECT count(*) FROM data_min").expect(OK, FAILURE)
    if finished.code == FAILURE:
        assert "resample" in finished.err, f"the error does not name the remedy\n{finished}"


def test_status_without_publication_succeeds(lake: Lake) -> None:
    lake.run("status").expect(OK)
    assert isinstance(lake.run("status", "--json").expect(OK).json, dict)


def test_resample_dry_run_writes_nothing(lake: Lake) -> None:
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=100, days=2)))
    model.apply(Put(1, FileSpec(seed=1, rows=100, day=3)))
    before = lake.snapshot()
    finished = lake.resample("--dry-run").expect(OK)
    assert (finished.json["outcome"], finished.json["run"]) == ("dry_run", None), str(finished)
    assert finished.json["files"]["new"] == 2
    dates = finished.json["dates"]
    assert (dates["first"], dates["last"], dates["count"]) == ("2023-12-30", "2024-02-28", 3), str(finished)
    printed = lake.run("resample", "--dry-run").expect(OK)
    assert "2023-12-30" in printed.text + printed.err, str(printed)
    assert lake.snapshot() == before
    model.run(Run())


def test_resample_report_counts_files(lake: Lake) -> None:
    model = LakeModel(lake)
    for step in [Put(0, FileSpec(rows=100)), Put(1, FileSpec(seed=1, day=1)), Put(2, FileSpec(seed=2, day=2)), Run()]:
        model.apply(step)
    model.apply(Put(3, FileSpec(seed=3, day=3)))
    model.apply(Put(1, FileSpec(seed=4, day=1), 1))
    lake.remove("a/b.parquet")
    del model.files["a/b.parquet"]
    report = lake.resample().expect(OK).json
    files = {key: report["files"][key] for key in ("new", "changed", "removed", "quarantined")}
    assert files == {"new": 1, "changed": 1, "removed": 1, "quarantined": 0}, report
    assert report["run"] == 2 and report["outcome"] == "published" and report["seconds"] > 0
    assert lake.published()["run"] == 2
    assert lake.listing("runs"), "the run left no record"


@pytest.mark.local_only
def test_resample_with_configured_column_names_reads_them(lake: LocalLake) -> None:
    """`jobs/resample.toml` sets the column names."""
    import writers

    table = writers.make(FileSpec(rows=50)).table.rename_columns(["tag_id", "ts", "reading"])
    lake.put("a.parquet", writers.parquet_bytes(table), 1_700_000_000_000_000_000)
    jobs = lake.folder / "jobs"
    jobs.mkdir()
    (jobs / "resample.toml").write_text('[columns]\nid = "tag_id"\ntimestamp = "ts"\nvalue = "reading"\n')
    lake.resample(settings={"PLANTLAKE_JOBS": str(jobs)}).expect(OK)
    renamed = table.rename_columns(["id", "timestamp", "value"])
    harness.assert_expected(lake, rollups(lake.raw_files({"a.parquet": renamed})))


# Commands that only read, with the exit codes that they have in an empty folder. Codes of FAILURE come with an error that
# names what does not exist.
READING_COMMANDS = [
    (["status"], FAILURE),
    (["query", "SELECT 1"], FAILURE),
    (["search", "pump"], FAILURE),
    (["archive", "list"], FAILURE),
    (["archive", "restore", "raw", "--from", "2024-01-01", "--dry-run"], FAILURE),
    (["maintain", "--dry-run"], FAILURE),
    (["resample", "--dry-run"], FAILURE),
    (["org", "list"], FAILURE),
    (["org", "show", "acme"], FAILURE),
    (["org", "limit", "acme"], FAILURE),
    (["user", "list"], FAILURE),
    (["key", "list", "--all"], FAILURE),
    (["session", "list"], FAILURE),
    (["audit"], FAILURE),
    (["audit", "head"], FAILURE),
    (["audit", "verify"], FAILURE),
    (["usage", "report"], FAILURE),
    (["usage", "statement", "2024-01"], FAILURE),
    (["usage", "invoice", "2024-01"], FAILURE),
    (["usage", "verify"], FAILURE),
    (["token", "check"], FAILURE),
    (["token", "keys", "list"], OK),
    (["jobs"], OK),
    (["jobs", "history"], OK),
    (["models", "list"], OK),
    (["config"], OK),
]


@pytest.mark.local_only
@pytest.mark.parametrize("is_misspelt", [False, True], ids=["defaults", "flags"])
@pytest.mark.parametrize(("command", "code"), READING_COMMANDS, ids=[" ".join(command) for command, _ in READING_COMMANDS])
def test_reading_command_in_empty_folder_creates_nothing(
    tmp_path: Path, command: list[str], code: int, is_misspelt: bool
) -> None:
    flags = ["--lake", str(tmp_path / "lke"), "--state", str(tmp_path / "stte")] if is_misspelt else []
    finished = harness.run([*flags, *command], cwd=tmp_path).expect(code)
    assert list(tmp_path.rglob("*")) == [], f"files or folders appeared\n{finished}"
    if code == FAILURE:
        assert finished.out == b"", str(finished)
        assert finished.err.strip(), str(finished)


@pytest.mark.local_only
@pytest.mark.parametrize("command", [["org", "list"], ["usage", "report"], ["key", "list"], ["audit"]], ids=" ".join)
def test_reading_command_without_database_names_path_and_remedy(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "organisations.db"
    settings = {"PLANTLAKE_ORGANISATION_URL": f"sqlite:{path}"}
    finished = harness.run(command, settings, cwd=tmp_path).expect(FAILURE)
    assert f"cannot open the organisation database {path}: it does not exist" in finished.err, str(finished)
    assert "plantlake migrate" in finished.err
    harness.run(["migrate"], settings, cwd=tmp_path).expect(OK)
    harness.run(command, settings, cwd=tmp_path).expect(OK)


@pytest.mark.local_only
@pytest.mark.parametrize("command", [["status"], ["query", "SELECT 1"]], ids=["status", "query"])
def test_reading_command_without_lake_names_path_and_remedy(tmp_path: Path, command: list[str]) -> None:
    finished = harness.run(["--lake", str(tmp_path / "lke"), *command], cwd=tmp_path).expect(FAILURE)
    assert f"cannot open the lake {tmp_path / 'lke'}: it does not exist" in finished.err, str(finished)


def test_invalid_arguments_exit_with_usage_error() -> None:
    for args in (["resample", "--form", "2024-01-01"], ["nonsense"], ["query"], ["query", "SELECT 1", "--format", "xml"]):
        harness.run(args, cwd=Path("/")).expect(USAGE)


def test_version_and_help_are_printed() -> None:
    assert "plantlake" in harness.run(["--version"]).expect(OK).text
    text = harness.run(["resample", "--help"]).expect(OK).text
    for flag in ("--raw", "--full", "--from", "--to", "--dry-run", "--json"):
        assert flag in text, f"{flag} is not in the help:\n{text}"
