"""Tests of the catalog: its tables, checked with pandas; damaged files; and reloading after changes."""

from __future__ import annotations

import io
import json
import os
import queue
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import harness
from conftest import LONG
from harness import FAILURE, OK, LocalLake

SIMULATE = ["simulate", "--assets", "20", "--days", "2", "--start", "2024-05-01", "--interval", "60s", "--seed", "11"]
# Seconds until a change must be reported. The requirement is a few seconds; the machine may be busy with other tests.
EVENT_TIMEOUT = 20


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> LocalLake:
    """A simulated and resampled plant, which no test changes."""
    plant = LocalLake(tmp_path_factory.mktemp("plant"))
    plant.run(*SIMULATE).expect(OK)
    plant.resample().expect(OK)
    return plant


def catalog_folder(plant: LocalLake) -> Path:
    return plant.folder / "catalog"


def assets_file(plant: LocalLake) -> pd.DataFrame:
    """Returns `assets.json`, read by pandas."""
    entries = json.loads((catalog_folder(plant) / "assets.json").read_text())
    return pd.DataFrame(entries)


def edges_file(plant: LocalLake) -> pd.DataFrame:
    """Returns the edges of `graph.json`."""
    graph = json.loads((catalog_folder(plant) / "graph.json").read_text())
    return pd.DataFrame(graph["edges"])


@pytest.fixture
def folder(plant: LocalLake, tmp_path: Path) -> Path:
    """A copy of the plant's catalog, which tests change."""
    return Path(shutil.copytree(catalog_folder(plant), tmp_path / "catalog"))


def query_with_catalog(plant: LocalLake, folder: Path, sql: str) -> harness.Finished:
    """Runs a query with the catalog in `folder`."""
    return harness.run(
        ["--lake", plant.url, "--state", str(plant.state), "--catalog", str(folder), "query", sql, "--format", "parquet"]
    )


def to_frame(finished: harness.Finished) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(finished.expect(OK).out)).to_pandas()


def check(folder: Path, *flags: str) -> harness.Finished:
    return harness.run(["--catalog", str(folder), "catalog", "check", *flags])


def write(folder: Path, name: str, value: object) -> None:
    """Replaces a file atomically."""
    staged = folder / f"{name}.new"
    staged.write_text(json.dumps(value, indent=1))
    os.replace(staged, folder / name)


# ---- tables


def test_assets_table_equals_catalog_file(plant: LocalLake) -> None:
    expected = assets_file(plant)
    actual = plant.query("SELECT * FROM assets")
    assert list(actual.columns) == ["id", "name", "type", "location", "specifications"]
    actual["specifications"] = actual["specifications"].map(json.loads)
    pd.testing.assert_frame_equal(actual, expected[list(actual.columns)], check_dtype=False)


def test_edges_table_equals_graph_file(plant: LocalLake) -> None:
    actual = plant.query("SELECT * FROM asset_edges")
    pd.testing.assert_frame_equal(actual, edges_file(plant)[["source", "target", "relation"]], check_dtype=False)
    assert len(actual) > 20


def test_join_of_averages_assets_and_edges_equals_pandas(plant: LocalLake) -> None:
    actual = plant.query(
        """
        SELECT equipment.name, sensor.type, count(*) AS days, avg(d.value) AS mean, sum(d.count) AS readings
        FROM data_d d
        JOIN assets sensor ON sensor.id = d.asset_id
        JOIN asset_edges e ON e.source = sensor.id AND e.relation = 'measures'
        JOIN assets equipment ON equipment.id = e.target
        GROUP BY equipment.name, sensor.type ORDER BY equipment.name, sensor.type
        """
    )
    assets = assets_file(plant)[["id", "name", "type"]]
    edges = edges_file(plant)
    joined = (
        plant.table("data_d")
        .merge(assets, left_on="asset_id", right_on="id")
        .merge(edges[edges["relation"] == "measures"], left_on="id", right_on="source")
        .merge(assets, left_on="target", right_on="id", suffixes=("_sensor", ""))
    )
    expected = (
        joined.groupby(["name", "type_sensor"])
        .agg(days=("value", "size"), mean=("value", "mean"), readings=("count", "sum"))
        .reset_index()
        .rename(columns={"type_sensor": "type"})
        .sort_values(["name", "type"], ignore_index=True)
    )
    assert len(expected) > 5
    pd.testing.assert_frame_equal(actual, expected, check_dtype=False, rtol=1e-12)


def test_query_help_example_returns_rows(plant: LocalLake) -> None:
    shown = plant.run("query", "--help").expect(OK).text
    assert "JOIN assets a" in shown
    start = shown.index("SELECT a.name")
    sql = shown[start : shown.index('"', start)].replace("d.timestamp >=", "d.timestamp <")
    sql = sql.replace("'pressure sensor'", "'temperature sensor'").replace("'%Unit 100%'", "'%'")
    sensors = assets_file(plant).query("type == 'temperature sensor'")
    assert set(plant.query(sql)["name"]) == set(sensors["name"])


def test_large_catalog_is_complete(plant: LocalLake, tmp_path: Path) -> None:
    count = 100_000 if LONG else 30_000
    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(count)]
    assets = [
        {
            "id": id, "name": f"T-{i} Füllstand", "type": f"type {i % 7}", "location": f"Works {i % 3} / Unit {i % 100}",
            "specifications": {"n": i},
        }
        for i, id in enumerate(ids)
    ]  # fmt: skip
    write(tmp_path, "assets.json", assets)
    write(tmp_path, "graph.json", {
        "nodes": [{"id": asset["id"], "kind": "sensor", "name": asset["name"]} for asset in assets],
        "edges": [{"source": a, "target": b, "relation": "flows_to"} for a, b in zip(ids, ids[1:])],
    })
    assert check(tmp_path, "--json").expect(OK).json["assets"] == count
    sql = "SELECT type, count(*) AS n, max(name) AS last FROM assets GROUP BY type ORDER BY type"
    actual = to_frame(query_with_catalog(plant, tmp_path, sql))
    expected = pd.DataFrame(assets).groupby("type").agg(n=("name", "size"), last=("name", "max")).reset_index()
    pd.testing.assert_frame_equal(actual, expected, check_dtype=False)
    sql = "SELECT count(*) AS n FROM assets a JOIN asset_edges e ON a.id = e.source JOIN assets b ON b.id = e.target"
    linked = to_frame(query_with_catalog(plant, tmp_path, sql))
    assert linked["n"].item() == count - 1


# ---- damage


def rewrite_catalog(folder: Path, change: Callable[[list, dict, dict], None]) -> None:
    """Applies a change to the contents of the three files."""
    names = ["assets.json", "id2assets.json", "graph.json"]
    values = [json.loads((folder / name).read_text()) for name in names]
    change(*values)
    for name, value in zip(names, values):
        write(folder, name, value)


DAMAGE = {
    "wrong type": (lambda a, b, g: a[2].update(name=17), "assets.json", 3, "name"),
    "missing field": (lambda a, b, g: a[5].pop("type"), "assets.json", 6, "type"),
    "reversed range": (
        lambda a, b, g: a[-1]["specifications"].update(range_low=9, range_high=1),
        "assets.json", None, "specifications.range_low",
    ),
    "malformed id": (lambda a, b, g: a[4].update(id="TT-101"), "assets.json", 5, "id"),
    "repeated id": (lambda a, b, g: a.append(dict(a[3])), "assets.json", None, "id"),
    "unknown source": (lambda a, b, g: g["edges"][7].update(source=str(uuid.uuid4())), "graph.json", 8, "source"),
    "unknown node": (lambda a, b, g: g["nodes"][9].update(id=str(uuid.uuid4())), "graph.json", 10, "id"),
    "missing relation": (lambda a, b, g: g["edges"][1].pop("relation"), "graph.json", 2, "relation"),
    "different name by id": (lambda a, b, g: next(iter(b.values())).update(name="x"), "id2assets.json", 1, "name"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_catalog_error_names_file_entry_and_field(plant: LocalLake, folder: Path, damage: str) -> None:
    change, file, entry, field = DAMAGE[damage]
    rewrite_catalog(folder, change)
    finished = check(folder, "--json").expect(FAILURE)
    assert finished.json["valid"] is False
    found = [problem for problem in finished.json["problems"] if problem["file"].endswith(f"/{file}")]
    assert any(problem["field"] == field and entry in (None, problem["entry"]) for problem in found), str(finished)

    printed = check(folder).expect(FAILURE)
    assert f"{file}, " in printed.text and f"field {field}: " in printed.text, str(printed)
    assert "never activated" in printed.err

    # Queries on the catalog report the same error, and other queries work.
    refused = query_with_catalog(plant, folder, "SELECT count(*) FROM assets").expect(FAILURE)
    assert file in refused.err and field in refused.err and "External error" not in refused.err, str(refused)
    assert to_frame(query_with_catalog(plant, folder, "SELECT count(*) AS n FROM data_h"))["n"].item() > 0


@pytest.mark.parametrize("text", ["", "{", "[1,", "\x00", "null", '{"a": 1}', "[" * 10_000])
def test_invalid_catalog_file_is_refused(folder: Path, text: str) -> None:
    (folder / "assets.json").write_text(text)
    finished = check(folder).expect(FAILURE)
    assert "assets.json" in finished.text and "panicked" not in finished.err, str(finished)


def test_query_of_averages_without_catalog_succeeds(plant: LocalLake, tmp_path: Path) -> None:
    refused = query_with_catalog(plant, tmp_path / "none", "SELECT * FROM assets").expect(FAILURE)
    assert "cannot read the catalog file" in refused.err and "assets.json" in refused.err, str(refused)
    assert to_frame(query_with_catalog(plant, tmp_path / "none", "SELECT count(*) AS n FROM data_d"))["n"].item() > 0
    assert check(tmp_path / "none", "--json").expect(FAILURE).json["valid"] is False


# ---- reloading


class Watcher:
    """Reads the output of `plantlake catalog watch` line by line."""

    def __init__(self, folder: Path) -> None:
        self.process = harness.start(["--catalog", str(folder), "catalog", "watch", "--json"])
        self.lines: queue.Queue[dict] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def next(self) -> dict:
        return self.lines.get(timeout=EVENT_TIMEOUT)

    def is_silent(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self.lines.empty()


@pytest.fixture
def watcher(folder: Path) -> Iterator[Watcher]:
    watcher = Watcher(folder)
    yield watcher
    watcher.process.terminate()
    try:
        watcher.process.communicate(timeout=EVENT_TIMEOUT)
    except subprocess.TimeoutExpired:
        watcher.process.kill()
        raise


def test_catalog_watch_loads_changes_and_keeps_last_valid_version(folder: Path, watcher: Watcher) -> None:
    first = watcher.next()
    assert (first["version"], first["refused"]) == (1, None)

    original = {name: json.loads((folder / name).read_text()) for name in ("assets.json", "id2assets.json", "graph.json")}
    more = json.loads(json.dumps(original))
    new = {"id": str(uuid.uuid4()), "name": "TT-999 new", "type": "temperature sensor", "location": "", "specifications": {}}
    more["assets.json"].append(new)
    more["id2assets.json"][new["id"]] = new
    for name, value in more.items():
        write(folder, name, value)
    second = watcher.next()
    assert (second["version"], second["assets"], second["refused"]) == (2, first["assets"] + 1, None)

    broken = json.loads(json.dumps(more["graph.json"]))
    broken["edges"][0]["target"] = str(uuid.uuid4())
    write(folder, "graph.json", broken)
    third = watcher.next()
    assert (third["version"], third["assets"]) == (2, first["assets"] + 1)
    [problem] = third["refused"]["problems"]
    assert (problem["entry"], problem["field"]) == (1, "target")
    assert watcher.is_silent(4), "an error is reported more than once"

    write(folder, "graph.json", more["graph.json"])
    fourth = watcher.next()
    assert (fourth["version"], fourth["refused"]) == (2, None)

    shutil.rmtree(folder)
    assert watcher.next()["refused"]["count"] == 1
    folder.mkdir()
    for name, value in original.items():
        write(folder, name, value)
    fifth = watcher.next()
    assert (fifth["version"], fifth["assets"], fifth["refused"]) == (3, first["assets"], None)


def test_catalog_watch_with_invalid_catalog_fails_at_start(folder: Path) -> None:
    (folder / "assets.json").write_text("[{}]")
    finished = harness.run(["--catalog", str(folder), "catalog", "watch"]).expect(FAILURE)
    assert "entry 1" in finished.err, str(finished)
