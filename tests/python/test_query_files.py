"""Files that people edit in any encoding, the files that `plantlake query` writes, and the tables that it reads."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import harness
from harness import FAILURE, OK, USAGE, Finished, LocalLake

pytestmark = pytest.mark.local_only
SIMULATE = ["simulate", "--assets", "6", "--days", "2", "--start", "2024-03-30", "--interval", "60s", "--seed", "7"]
BOM = b"\xef\xbb\xbf"
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "bom": lambda text: BOM + text.encode(),
    "bom, crlf": lambda text: BOM + text.replace("\n", "\r\n").encode(),
    "utf-16, little": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16, big": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
}
NOT_TEXT: dict[str, Callable[[str], bytes]] = {
    "cp1252": lambda text: text.encode("cp1252"),
    "utf-16 without a mark": lambda text: text.encode("utf-16-le"),
    "utf-16, cut": lambda text: b"\xff\xfe" + text.encode("utf-16-le")[:-1],
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLake]:
    lake = LocalLake(tmp_path_factory.mktemp("query"))
    lake.run(*SIMULATE).expect(OK)
    lake.resample().expect(OK)
    # It is derived from assets.json, which tests edit.
    (lake.folder / "catalog/id2assets.json").unlink()
    yield lake


def with_input(lake: LocalLake, data: bytes, *command: str) -> Finished:
    """Runs a command with `data` on standard input."""
    began = time.monotonic()
    done = subprocess.run(
        [str(harness.binary()), *lake.args(list(command))],
        env=harness.environment(lake.settings), cwd=lake.folder, input=data, capture_output=True,
    )
    return Finished(list(command), {}, done.returncode, done.stdout, done.stderr.decode(errors="replace"), time.monotonic() - began)


# ---- files that people edit


def read_zone(lake: LocalLake) -> Finished:
    return lake.run("config", "--json")


@pytest.fixture
def edited(lake: LocalLake) -> Iterator[Callable[[str, bytes], Path]]:
    """Writes a file of the folder, and restores the former one after the test."""
    former: dict[Path, bytes | None] = {}

    def write(name: str, data: bytes) -> Path:
        path = lake.folder / name
        former.setdefault(path, path.read_bytes() if path.exists() else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    yield write
    for path, data in former.items():
        path.unlink() if data is None else path.write_bytes(data)


SETTINGS = '# Pümpe\n[resample]\ntimezone = "Europe/Berlin"\n'
VARIABLES = '# Pümpe\nPLANTLAKE_RESAMPLE_TIMEZONE="Europe/Berlin"\n'
JOB = '# Pümpe\nkind = "resample"\nschedule = "30 2 * * *"\n'
SQL = "SELECT count(*) AS n -- Pümpe\nFROM data_d\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_edited_file_is_read_in_each_encoding(lake: LocalLake, edited: Callable, encoding: str) -> None:
    encode = ENCODINGS[encoding]
    edited("plantlake.toml", encode(SETTINGS))
    assert "Europe/Berlin" in read_zone(lake).expect(OK).text
    edited("plantlake.toml", b"")
    edited(".env", encode(VARIABLES))
    assert "Europe/Berlin" in read_zone(lake).expect(OK).text
    edited(".env", b"")
    edited("jobs/night.toml", encode(JOB))
    assert "30 2 * * *" in lake.run("jobs").expect(OK).text
    days = len(lake.table("data_d"))
    assert with_input(lake, encode(SQL), "query", "-", "--format", "csv").expect(OK).out.split() == [b"n", str(days).encode()]
    edited("catalog/views/hot.sql", encode("-- Pümpe\nSELECT asset_id, value\nFROM data_d\n"))
    assert lake.run("query", "SELECT count(*) AS n FROM hot", "--format", "csv").expect(OK).text.split() == ["n", str(days)]
    assets = json.loads((lake.folder / "catalog/assets.json").read_text())
    assets[0]["name"] = "Pümpe"
    edited("catalog/assets.json", encode(json.dumps(assets, ensure_ascii=False, indent=1)))
    named = "SELECT count(*) AS n FROM assets WHERE name = 'Pümpe'"
    assert lake.run("query", named, "--format", "csv").expect(OK).text.split() == ["n", "1"]
    secret = edited("secret", encode("s3cret-password-long\n"))
    settings = {"PLANTLAKE_QDRANT_API_KEY_FILE": str(secret), "PLANTLAKE_QDRANT_URL": "http://127.0.0.1:6334"}
    lake.run("config", settings=settings).expect(OK)


@pytest.mark.parametrize("encoding", NOT_TEXT)
def test_file_in_other_encoding_is_refused_by_name(lake: LocalLake, edited: Callable, encoding: str) -> None:
    encode = NOT_TEXT[encoding]
    refused = [with_input(lake, encode(SQL), "query", "-").expect(FAILURE)]
    edited("plantlake.toml", encode(SETTINGS))
    refused.append(read_zone(lake).expect(USAGE))
    assert "plantlake.toml" in refused[-1].err
    edited("plantlake.toml", b"")
    edited("jobs/night.toml", encode(JOB))
    refused.append(lake.run("jobs").expect(USAGE))
    assert "night.toml" in refused[-1].err
    edited("jobs/night.toml", JOB.encode())
    edited("catalog/views/hot.sql", encode("-- Pümpe\nSELECT asset_id, value\nFROM data_d\n"))
    refused.append(lake.run("query", "SELECT 1 AS x").expect(OK))
    assert "hot.sql" in refused[-1].err
    edited("catalog/views/hot.sql", b"SELECT 1 AS x")
    edited("catalog/assets.json", encode('[\n{"name": "Pümpe"}\n]\n'))
    refused.append(lake.run("catalog", "check").expect(FAILURE))
    for finished in refused:
        assert "save it as UTF-8" in finished.err + finished.text, finished
    # Lines of other programs in .env need not be Unicode, but a file in another encoding must not be treated as empty.
    edited(".env", encode(VARIABLES))
    finished = read_zone(lake)
    if encoding == "cp1252":
        assert "Europe/Berlin" in finished.expect(OK).text
    else:
        assert "save it as UTF-8" in finished.expect(USAGE).err


# ---- files that a query writes

FAILING = "SELECT asset_id, timestamp, 1 / (CASE WHEN timestamp < '2024-03-31T20:00:00Z' THEN 1 ELSE 0 END) AS x FROM data_min ORDER BY 2"
ENDLESS = "SELECT a.value FROM data_min a CROSS JOIN data_min b CROSS JOIN data_min c"


@pytest.mark.parametrize("format_", ["csv", "json", "parquet", "table"])
def test_failed_query_leaves_output_as_it_was(lake: LocalLake, tmp_path: Path, format_: str) -> None:
    path = tmp_path / "answer"
    path.write_text("the former answer")
    lake.run("query", FAILING, "--format", format_, "--output", str(path)).expect(FAILURE)
    assert path.read_text() == "the former answer" and os.listdir(tmp_path) == ["answer"]
    new = tmp_path / "new"
    lake.run("query", FAILING, "--format", format_, "--output", str(new)).expect(FAILURE)
    assert os.listdir(tmp_path) == ["answer"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_query_leaves_output_as_it_was(lake: LocalLake, tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "answer.csv"
    path.write_text("the former answer")
    process = lake.start("query", ENDLESS, "--format", "csv", "--output", str(path))
    deadline = time.monotonic() + 30
    # The signal is sent when rows are being written.
    while not any(file.stat().st_size for file in tmp_path.iterdir() if file != path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert path.read_text() == "the former answer"
    if number != signal.SIGKILL:
        assert os.listdir(tmp_path) == ["answer.csv"]


def test_output_keeps_permissions_and_follows_links(lake: LocalLake, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("former")
    (tmp_path / "plain.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("plain.csv")
    lake.run("query", "SELECT 1 AS x", "--format", "csv", "--output", str(tmp_path / "link.csv")).expect(OK)
    assert (tmp_path / "plain.csv").read_text() == "x\n1\n" and (tmp_path / "link.csv").is_symlink()
    assert stat.S_IMODE((tmp_path / "plain.csv").stat().st_mode) == 0o640
    lake.run("query", "SELECT 1 AS x", "--format", "csv", "--output", "/dev/null").expect(OK)
    missing = lake.run("query", "SELECT 1 AS x", "--output", str(tmp_path / "none" / "x.csv")).expect(FAILURE)
    assert "cannot write the result to" in missing.err


JOINED = "SELECT a.*, b.* FROM (SELECT 1 AS id, 'x' AS name) a CROSS JOIN (SELECT 2 AS id, 'y' AS name) b"
COLUMNS = {
    "INTERVAL '1 month'": "1 mons",
    "INTERVAL '1 month 3 days 2.5 seconds'": "1 mons 3 days 2.500000000 secs",
    "[INTERVAL '1 day']": ["1 days"],
    "named_struct('a', INTERVAL '1 day', 'b', 'x')": {"a": "1 days", "b": "x"},
    "arrow_cast('2024-01-01T12:00:00Z', 'Timestamp(Second, Some(\"UTC\"))')": pd.Timestamp("2024-01-01T12:00:00Z"),
    "arrow_cast('2024-01-02', 'Date64')": pd.Timestamp("2024-01-02"),
    "max(TIMESTAMP '2024-01-08') - min(TIMESTAMP '2024-01-01')": pd.Timedelta(days=7),
    "arrow_cast('x', 'RunEndEncoded(\"run_ends\": non-null Int32, \"values\": Utf8)')": "x",
    "arrow_cast('x', 'Dictionary(UInt8, Utf8)')": "x",
    "arrow_cast('x', 'Utf8View')": "x",
    "arrow_cast(1.5, 'Float16')": 1.5,
    "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')": [1, 2],
    "MAP {'a': 1}": [("a", 1)],
    "X'00ff'": b"\x00\xff",
    "CAST(NULL AS TIMESTAMP)": None,
}


@pytest.mark.parametrize("sql", COLUMNS)
def test_parquet_of_every_type_is_read_by_pyarrow(lake: LocalLake, sql: str) -> None:
    out = lake.run("query", f"SELECT {sql} AS x", "--format", "parquet").expect(OK)
    [value] = pq.read_table(io.BytesIO(out.out)).column("x").to_pylist()
    expected = COLUMNS[sql]
    if isinstance(expected, (pd.Timestamp, pd.Timedelta)):
        value = type(expected)(value)
    assert value == expected


def test_equal_column_names_are_written_apart(lake: LocalLake) -> None:
    expected = {"id": 1, "name": "x", "id_1": 2, "name_1": "y"}
    out = lake.run("query", JOINED, "--format", "parquet").expect(OK)
    assert pq.read_table(io.BytesIO(out.out)).to_pylist() == [expected]
    assert json.loads(lake.run("query", JOINED, "--format", "json").expect(OK).text) == expected


@pytest.mark.parametrize(
    ("format_", "sql"),
    [
        ("csv", "SELECT array_agg(name) AS x FROM assets"),
        ("csv", "SELECT named_struct('a', 1) AS x"),
        ("json", "SELECT named_struct('a', 1, 'a', 2) AS x"),
        ("parquet", "SELECT named_struct('a', 1, 'a', 2) AS x"),
    ],
)
def test_column_that_format_cannot_hold_is_refused_before_output(lake: LocalLake, format_: str, sql: str) -> None:
    out = lake.run("query", sql, "--format", format_).expect(FAILURE)
    assert out.out == b"" and '"x"' in out.err, out


@pytest.mark.parametrize("format_", ["csv", "json", "table"])
@pytest.mark.parametrize("kind", ["Timestamp(Microsecond, None)", "Date64", "List(Timestamp(Millisecond, None))"])
def test_time_outside_the_calendar_is_an_error_instead_of_a_text(lake: LocalLake, format_: str, kind: str) -> None:
    value = "[9223372036854775807]" if kind.startswith("List") else "9223372036854775807"
    failed = lake.run("query", f"SELECT arrow_cast({value}, '{kind}') AS x", "--format", format_).expect(FAILURE)
    assert '"x"' in failed.err and b"rror" not in failed.out, failed


# ---- the tables of a local query


def test_local_query_has_views_and_raw_readings(lake: LocalLake, edited: Callable) -> None:
    edited("catalog/views/hot.sql", b"SELECT asset_id, value FROM data_d WHERE value > 0")
    edited("catalog/views/hotter.sql", b"SELECT * FROM hot WHERE value > 1")
    edited("catalog/views/broken.sql", b"SELECT nothing FROM data_d")
    tables = lake.run("query", "SHOW TABLES", "--format", "csv").expect(OK).text
    shown = {line.split(",")[2] for line in tables.splitlines() if ",public," in line}
    assert shown == {"asset_edges", "assets", "data_d", "data_h", "data_min", "hot", "hotter", "raw_readings"}
    values = lake.table("data_d")["value"]
    assert lake.query("SELECT count(*) AS n FROM hotter")["n"].item() == int((values > 1).sum())
    raw = pd.concat([pq.read_table(path).to_pandas() for path in sorted(lake.raw.rglob("*.parquet"))])
    found = lake.query("SELECT id, count(*) AS n, min(value) AS low FROM raw_readings GROUP BY id ORDER BY id")
    expected = raw.groupby("id")["value"].agg(n="size", low="min").reset_index()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    # A join with assets, and a condition on the time, which files are pruned by.
    joined = "SELECT count(*) AS n FROM raw_readings r JOIN assets a ON a.id = r.id WHERE r.timestamp < '2024-03-31'"
    assert lake.query(joined)["n"].item() == int((raw["timestamp"] < pd.Timestamp("2024-03-31", tz="UTC")).sum())
