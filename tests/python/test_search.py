"""Search over Flight SQL and on the command line: results, visibility, models, and failures."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pytest

import harness
from conftest import LONG
from harness import FAILURE, OK, USAGE, LocalLake
from models import CROSS_ENCODER, fetch_models
from server import Plant, eventually

pytestmark = pytest.mark.local_only

COLUMNS = ["asset_id", "name", "type", "location", "score", "similarity", "rank", "ranked_by"]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("search")
    plant = Plant(folder / "plant").build()
    plant.lake.settings |= fetch_models(plant.lake, folder / "models", "bi-encoder")
    plant.serve()
    eventually(lambda: "hybrid" in set(plant.ask("SELECT ranked_by FROM search('pump')", "Everything")["ranked_by"]), 120)
    yield plant
    assert plant.stop() == OK


def test_search_finds_described_assets_and_joins_tables(plant: Plant) -> None:
    found = plant.ask("SELECT * FROM search('how hot is the reactor')", "Everything")
    assert list(found.columns) == COLUMNS
    assert list(found["rank"]) == list(range(1, 11))
    assert set(found["ranked_by"]) == {"hybrid"}
    assert (found["score"].diff().dropna() <= 0).all()
    assert found["similarity"].between(-1, 1).all()
    assert "temperature" in found["type"][0] or "reactor" in found["type"][0]
    known = {asset["id"]: asset for asset in plant.assets()}
    for row in found.itertuples():
        asset = known[row.asset_id]
        assert (row.name, row.type, row.location) == (asset["name"], asset["type"], asset.get("location", ""))

    joined = plant.ask(
        "SELECT s.name, d.timestamp, d.value FROM search('how hot is the reactor') AS s"
        " JOIN data_h AS d ON d.asset_id = s.asset_id WHERE d.timestamp >= '2024-01-01'",
        "Everything",
    )
    hours = plant.ask("SELECT a.name, d.timestamp, d.value FROM data_h d JOIN assets a ON a.id = d.asset_id", "Everything")
    expected = hours[hours["name"].isin(found["name"])]
    keys = ["name", "timestamp", "value"]
    assert len(expected) > 0
    assert joined.sort_values(keys).reset_index(drop=True).equals(expected[keys].sort_values(keys).reset_index(drop=True))


def test_search_with_parameters_equals_literals(plant: Plant) -> None:
    literal = plant.ask("SELECT * FROM search('pressure of the column', 3) ORDER BY rank", "Everything")
    assert len(literal) == 3
    for sql, parameters in [
        ("SELECT * FROM search(?) WHERE rank <= 3 ORDER BY rank", ("pressure of the column",)),
        ("SELECT * FROM search(?, ?) ORDER BY rank", ("pressure of the column", 3)),
        ("SELECT * FROM search($1, 3) ORDER BY rank", ("pressure of the column",)),
    ]:
        assert plant.ask(sql, "Everything", parameters).equals(literal), sql
    # A cached plan of one text must not answer another.
    other = plant.ask("SELECT * FROM search(?, ?) ORDER BY rank", "Everything", ("tank level", 3))
    assert list(other["asset_id"]) != list(literal["asset_id"])


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("search('')", "empty"),
        ("search('  ')", "empty"),
        ("search('x', 0)", "1"),
        ("search('x', -1)", "1"),
        ("search('x', 1001)", "1000"),
        ("search()", "search"),
        ("search('x', 'y')", "search"),
        ("search('x', 1, 2)", "search"),
        ("search(7)", "search"),
        ("search(NULL)", "search"),
    ],
)
def test_search_with_invalid_arguments_fails(plant: Plant, call: str, expected: str) -> None:
    with pytest.raises(adbc_driver_manager.Error) as raised:
        plant.ask(f"SELECT * FROM {call}", "Everything")
    assert expected in str(raised.value).replace(",", ""), raised.value
    assert "INTERNAL" not in str(raised.value), raised.value


@pytest.mark.parametrize("limit", [1, 10, 1000])
@pytest.mark.parametrize("tenant", ["North", "South", "Nobody"])
def test_search_returns_all_visible_assets_and_no_others(plant: Plant, tenant: str, limit: int) -> None:
    own = plant.tenants[tenant].assets
    for text in ["temperature", "pressure sensor of the reactor", "site", "zzz", "R-101"]:
        found = plant.ask(f"SELECT asset_id, ranked_by FROM search('{text}', {limit})", tenant)
        assert set(found["asset_id"]) <= own, text
        # With embeddings, every asset matches every text to some degree.
        assert len(found) == min(limit, len(own)), text


def test_scores_ignore_invisible_assets(plant: Plant) -> None:
    """Scores of words depend on the frequency of words among the caller's own assets only."""
    before = plant.ask("SELECT * FROM search('temperature of the reactor', 1000)", "North")
    assets = plant.assets()
    new = [dict(assets[0], id=f"00000000-0000-4000-8000-{i:012d}", name=f"temperature of the reactor {i}", type="alien") for i in range(60)]
    catalog = plant.lake.folder / "catalog" / "assets.json"
    text, by_id, graph = catalog.read_text(), catalog.with_name("id2assets.json"), catalog.with_name("graph.json")
    kept = by_id.read_text(), graph.read_text()
    try:
        by_id.unlink()
        catalog.write_text(json.dumps(assets + new))
        found = lambda: set(plant.ask("SELECT type FROM search('alien temperature', 1000)", "Everything")["type"])
        eventually(lambda: "alien" in found(), 60)
        time.sleep(1)
        after = plant.ask("SELECT * FROM search('temperature of the reactor', 1000)", "North")
        assert after.equals(before)
    finally:
        catalog.write_text(text)
        by_id.write_text(kept[0])
        graph.write_text(kept[1])
    eventually(lambda: "alien" not in found(), 60)


def test_commands_use_index_of_running_server(plant: Plant) -> None:
    by_server = plant.ask("SELECT * FROM search('vibration of the pump', 5) ORDER BY rank", "Everything")
    by_command = plant.run("search", "vibration of the pump", "--limit", "5", "--json").expect(OK)
    rows = json.loads(by_command.text)
    assert [row["asset_id"] for row in rows] == list(by_server["asset_id"])
    assert list(rows[0]) == COLUMNS or set(rows[0]) == set(COLUMNS)
    sql = "SELECT asset_id FROM search('vibration of the pump', 5) ORDER BY rank"
    queried = plant.run("query", sql, "--format", "json").expect(OK).text.splitlines()
    assert [json.loads(line)["asset_id"] for line in queried] == list(by_server["asset_id"])
    done = plant.run("index", "--json").expect(OK).json
    assert done["indexed"] == 0 and done["assets"] == len(plant.assets()) and done["has_meanings"]
    assert plant.run("index", "--full", "--json").expect(OK).json["indexed"] == len(plant.assets())
    shown = plant.run("search", "vibration of the pump").expect(OK)
    assert "ranked by" in shown.text and "hybrid" in shown.text
    by_words = json.loads(plant.run("search", "vibration of the pump", "--by", "bm25", "--json").expect(OK).text)
    assert {row["ranked_by"] for row in by_words} == {"bm25"}
    # There is no cross-encoder, so requesting it is an error.
    refused = plant.run("search", "pump", "--by", "cross-encoder").expect(FAILURE)
    assert "cross-encoder" in refused.err and "models fetch" in refused.err


def test_explain_of_search_shows_plan(plant: Plant) -> None:
    plan = plant.ask("EXPLAIN SELECT * FROM search('pump') s JOIN data_h d ON d.asset_id = s.asset_id", "North")
    assert "search" in plan["plan"].str.cat().lower()


@pytest.fixture
def small(tmp_path: Path) -> LocalLake:
    """A catalog of 40 assets. A debug build needs 0.2 s to index one with a model."""
    lake = LocalLake(tmp_path / "small")
    shape = ["--assets", "15", "--days", "1", "--start", "2024-05-01", "--interval", "1h", "--seed", "5"]
    lake.run("simulate", *shape).expect(OK)
    return lake


def test_search_ranks_by_words_until_models_are_fetched(small: LocalLake, tmp_path: Path) -> None:
    small.settings["PLANTLAKE_SEARCH_MODELS"] = str(tmp_path / "models")
    finished = small.run("search", "reactor temperature", "--json").expect(OK)
    rows = json.loads(finished.text)
    assert {row["ranked_by"] for row in rows} == {"bm25"} and rows[0]["similarity"] is None
    assert "models fetch" in small.run("search", "reactor temperature").expect(OK).err
    refused = small.run("search", "reactor", "--by", "hybrid").expect(FAILURE)
    assert "models fetch" in refused.err
    assert small.run("search", " ").expect(USAGE).err
    fetch_models(small, tmp_path / "models", "bi-encoder")
    rows = json.loads(small.run("search", "reactor temperature", "--json").expect(OK).text)
    assert {row["ranked_by"] for row in rows} == {"hybrid"}
    fetch_models(small, tmp_path / "models", "cross-encoder")
    rows = json.loads(small.run("search", "reactor temperature", "--json", "--limit", "30").expect(OK).text)
    assert [row["ranked_by"] for row in rows] == ["cross-encoder"] * 20 + ["hybrid"] * 10
    scores = [row["score"] for row in rows[:20]]
    assert scores == sorted(scores, reverse=True)
    # Search works without the damaged model.
    weights = next((tmp_path / "models").glob(f"{CROSS_ENCODER.split('/')[0]}*/**/model.safetensors"), None) or next(
        path for path in (tmp_path / "models").glob("**/model.safetensors") if "cross" in str(path) or "marco" in str(path)
    )
    weights.write_bytes(weights.read_bytes()[:-100])
    finished = small.run("search", "reactor temperature", "--json").expect(OK)
    assert {row["ranked_by"] for row in json.loads(finished.text)} == {"hybrid"}


def test_index_killed_during_build_is_completed(small: LocalLake, tmp_path: Path) -> None:
    small.settings |= fetch_models(small, tmp_path / "models", "bi-encoder")
    assets = json.loads((small.folder / "catalog" / "assets.json").read_text())
    whole = small.run("search", "reactor temperature 1", "--json", "--limit", "200").expect(OK)
    shutil.rmtree(small.state / "search")
    rng = random.Random(7)
    for _ in range(20 if LONG else 4):
        process = small.start("index")
        time.sleep(rng.uniform(0.05, 2.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = small.run("index", "--json").expect(OK).json
    assert done["assets"] == len(assets) and done["has_meanings"]
    again = small.run("search", "reactor temperature 1", "--json", "--limit", "200").expect(OK)
    left, right = json.loads(whole.text), json.loads(again.text)
    assert [row["asset_id"] for row in left] == [row["asset_id"] for row in right]
    for one, other in zip(left, right):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert small.run("index", "--json").expect(OK).json["indexed"] == 0


def test_damaged_index_is_rebuilt(small: LocalLake, tmp_path: Path) -> None:
    small.settings["PLANTLAKE_SEARCH_MODELS"] = str(tmp_path / "models")
    before = small.run("search", "pump", "--json").expect(OK).text
    files = [path for path in (small.state / "search").rglob("*") if path.is_file() and path.stat().st_size > 0]
    assert files
    for path in files:
        if path.name not in ("lock", "socket"):
            path.write_bytes(os.urandom(min(path.stat().st_size, 4096)))
    after = small.run("search", "pump", "--json").expect(OK)
    assert json.loads(after.text) == json.loads(before)


def test_locked_index_without_server_is_refused(small: LocalLake, tmp_path: Path) -> None:
    import fcntl

    small.settings["PLANTLAKE_SEARCH_MODELS"] = str(tmp_path / "models")
    small.run("index").expect(OK)
    with (small.state / "search" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = small.run("search", "pump").expect(harness.REFUSED)
        assert "in use by another process" in finished.err and "qdrant_url" in finished.err
