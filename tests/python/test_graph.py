"""Tests of the asset graph in SQL, compared with an independent search of graph.json, and of specifications as numeric
columns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import adbc_driver_manager
import pandas as pd
import pyarrow as pa
import pytest

from conftest import LONG
from harness import FAILURE, OK, LocalLake
from server import Plant, eventually

pytestmark = pytest.mark.local_only
# All types of equipment that product flows through, except reactors and columns.
MACHINES = ["centrifugal pump", "control valve", "storage tank", "shell and tube heat exchanger", "on/off ball valve"]
VIEW = "SELECT asset_id, name, distance FROM downstream('R-101')"
TENANTS = ["Everything", "Machines", "Sensors"]
GRAPH_COLUMNS = ["asset_id", "distance", "relation", "direction", "via"]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("graph"))
    shape = ["--assets", "60", "--days", "1", "--start", "2024-05-01", "--interval", "60s", "--seed", "5"]
    plant.lake.run("simulate", *shape).expect(OK)
    plant.lake.resample().expect(OK)
    plant.tenant("Everything", ["--all"])
    plant.tenant("Machines", [word for kind in MACHINES for word in ("--type", kind)])
    plant.tenant("Sensors", ["--type", "temperature sensor"])
    views = plant.lake.folder / "catalog" / "views"
    views.mkdir()
    (views / "after_the_reactor.sql").write_text(VIEW)
    plant.serve()
    yield plant
    assert plant.stop() == OK


class Graph:
    """The part of graph.json that a tenant sees."""

    def __init__(self, plant: Plant, tenant: str) -> None:
        seen = plant.tenants[tenant].assets
        self.assets = [asset for asset in plant.assets() if asset["id"] in seen]
        self.order = {asset["id"]: at for at, asset in enumerate(self.assets)}
        self.named = {asset["specifications"].get("tag") or asset["name"]: asset["id"] for asset in self.assets}
        edges = json.loads((plant.lake.folder / "catalog" / "graph.json").read_text())["edges"]
        self.links: list[tuple[str, str, str, str]] = []
        for edge in edges:
            if edge["source"] in seen and edge["target"] in seen:
                self.links.append((edge["source"], edge["target"], "out", edge["relation"]))
                self.links.append((edge["target"], edge["source"], "in", edge["relation"]))

    def reachable(
        self, starts: set[str], max_hops: int, relation: str | None = None, direction: str | None = None
    ) -> list[tuple]:
        """Returns asset, distance, relation, direction and predecessor, in the documented order."""
        links = [link for link in self.links if relation in (None, link[3]) and direction in (None, link[2])]
        known, layer, rows = set(starts), set(starts), []
        for distance in range(1, max_hops + 1):
            ways = {}
            for one, other, side, kind in links:
                if one in layer and other not in known:
                    ways.setdefault(other, []).append((self.order[one], side == "in", kind, side, one))
            for asset in sorted(ways, key=self.order.__getitem__):
                _, _, kind, side, via = min(ways[asset])
                rows.append((asset, distance, kind, side, via))
            known |= set(ways)
            layer = set(ways)
        return rows

    def flow_starts(self, asset: str) -> set[str]:
        """Returns the asset if product flows from or to it, or else the assets that are part of it."""
        if any(one == asset and kind == "flows_to" for one, _, _, kind in self.links):
            return {asset}
        return {row[0] for row in self.reachable({asset}, 99, "part_of", "in")}

    def flow(self, asset: str, direction: str, max_hops: int = 999) -> list[tuple]:
        """Returns the assets upstream ("in") or downstream ("out"). A sensor stands for the equipment that it measures."""
        starts = self.flow_starts(asset)
        for one, other, side, kind in self.links if not starts else []:
            if (one, side, kind) == (asset, "out", "measures"):
                starts |= self.flow_starts(other)
        return self.reachable(starts, max_hops, "flows_to", direction)

    def samples(self) -> list[tuple[str, str]]:
        """Returns one asset of each type, with its tag or name."""
        kinds: dict[str, tuple[str, str]] = {}
        for name, asset in self.named.items():
            kinds.setdefault(self.assets[self.order[asset]]["type"], (name, asset))
        return list(kinds.values())


def graph_rows(plant: Plant, sql: str, tenant: str, *values: object) -> list[tuple]:
    """Returns the rows of a graph function, called with these parameters."""
    rows = plant.ask(f"SELECT {', '.join(GRAPH_COLUMNS)} FROM {sql}", tenant, values or None)
    return list(rows.itertuples(index=False, name=None))


@pytest.mark.parametrize("tenant", TENANTS)
def test_neighbours_equal_breadth_first_search(plant: Plant, tenant: str) -> None:
    graph = Graph(plant, tenant)
    found = 0
    for name, asset in graph.samples():
        for hops in (1, 2, 5, 100):
            expected = graph.reachable({asset}, hops)
            assert graph_rows(plant, f"neighbours('{name}', {hops})", tenant) == expected, (name, hops)
            assert graph_rows(plant, "neighbours(?, ?)", tenant, asset, hops) == expected
            found += len(expected)
        assert graph_rows(plant, "neighbours(?)", tenant, name) == graph.reachable({asset}, 1)
    assert found > 0 or tenant == "Sensors", "only the tenant with temperature sensors alone may have no edges"


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize(("function", "direction"), [("upstream", "in"), ("downstream", "out")])
def test_upstream_and_downstream_equal_breadth_first_search(plant: Plant, tenant: str, function: str, direction: str) -> None:
    graph = Graph(plant, tenant)
    found = 0
    for name, asset in graph.samples():
        expected = graph.flow(asset, direction)
        assert graph_rows(plant, f"{function}('{name}')", tenant) == expected, name
        assert graph_rows(plant, f"{function}(?, 2)", tenant, asset) == graph.flow(asset, direction, 2)
        found += len(expected)
    assert found > 0 or tenant == "Sensors"


@pytest.mark.parametrize("tenant", ["Everything", "Machines"])
def test_path_between_returns_shortest_path(plant: Plant, tenant: str) -> None:
    graph = Graph(plant, tenant)
    samples = graph.samples()
    # In the profile `ci`, each asset of the larger graph is the start and the goal of a third of its paths, and its own goal.
    step = 3 if tenant == "Everything" and not LONG else 1
    found = missing = 0
    for number, (one, start) in enumerate(samples):
        before = {row[0]: row for row in graph.reachable({start}, 999)}
        for other, goal in samples[number % step :: step]:
            expected, at = [], goal
            while at in before:
                _, _, kind, direction, via = before[at]
                expected.insert(0, (at, kind, direction))
                at = via
            expected = [(start, None, None), *expected] if at == start else []
            rows = plant.ask("SELECT * FROM path_between(?, ?) ORDER BY step", tenant, (one, other))
            assert list(rows["step"]) == list(range(len(expected)))
            actual = rows[["asset_id", "relation", "direction"]].astype(object)
            steps = [tuple(None if pd.isna(cell) else cell for cell in row) for row in actual.itertuples(index=False)]
            assert steps == expected
            found += len(expected) > 1
            missing += not expected
    assert found > 10 and (missing > 0) == (tenant == "Machines")


def test_paths_avoid_hidden_assets(plant: Plant) -> None:
    """The reactor R-101 is between E-101 and E-102."""
    flows = "SELECT name FROM path_between('E-101', 'E-102', 'flows_to') ORDER BY step"
    assert [name.split()[0] for name in plant.ask(flows, "Everything")["name"]] == ["E-101", "R-101", "E-102"]
    for sql in (flows, "SELECT * FROM path_between('E-101', 'E-102')"):
        assert len(plant.ask(sql, "Machines")) == 0
    part_of = plant.ask("SELECT name FROM path_between('E-101', 'E-102') ORDER BY step", "Everything")["name"]
    assert [name.split()[0] for name in part_of] == ["E-101", "Unit", "E-102"], "not the first path in the order of the catalog"
    assert "E-102" not in plant.ask("SELECT name FROM downstream('E-101')", "Machines")["name"].str.cat()
    around = plant.ask("SELECT asset_id, via FROM neighbours('E-101', 100)", "Machines")
    assert set(around["asset_id"]) | set(around["via"]) <= plant.tenants["Machines"].assets


def error_of(plant: Plant, sql: str, tenant: str, *values: object) -> str:
    """Returns the error of a statement."""
    with pytest.raises(adbc_driver_manager.ProgrammingError) as caught:
        plant.ask(sql, tenant, values or None)
    return str(caught.value)


@pytest.mark.parametrize(
    "function", ["neighbours(?)", "upstream(?)", "downstream(?)", "path_between(?, 'P-101')", "path_between('P-101', ?)"]
)
def test_hidden_asset_gives_same_error_as_unknown_asset(plant: Plant, function: str) -> None:
    [reactor] = [asset for asset in plant.assets() if asset["specifications"].get("tag") == "R-101"]
    missing = {
        reactor["id"]: "00000000-0000-4000-8000-000000000000",
        "R-101": "R-191",
        reactor["name"]: reactor["name"].replace("R-101", "R-191"),
    }
    for hidden, unknown in missing.items():
        for name in (hidden, unknown):
            sql = "SELECT count(*) AS n FROM assets WHERE id = ? OR name = ?"
            assert plant.ask(sql, "Machines", (name, name))["n"][0] == 0
        errors = [error_of(plant, f"SELECT * FROM {function}", "Machines", name) for name in (hidden, unknown)]
        assert f"no visible asset '{hidden}'" in errors[0], errors
        assert errors[0].replace(hidden, unknown) == errors[1]
        assert reactor["id"] not in errors[1] and "R-101" not in errors[1]


def test_invalid_calls_give_helpful_errors(plant: Plant) -> None:
    for sql, says in [
        ("neighbours('P-10')", "did you mean 'P-101'"),
        ("neighbours('p-101')", "did you mean 'P-101'"),
        ("neighbours('P-101', 0)", "hops must be between 1 and 100, not 0"),
        ("neighbours('P-101', 1.5)", "a whole number"),
        ("neighbours('P-101', 'far')", "a whole number"),
        ("neighbours(NULL)", "an argument is null"),
        ("upstream()", r"example: upstream\('R-101'\)"),
        ("path_between('P-101')", "expected 2 to 3 arguments, not 1"),
        ("path_between('P-101', 'R-101', 'flow')", "unknown relation 'flow'; use one of flows_to, measures, part_of"),
        ("assets a, LATERAL neighbours(a.id)", "argument 1 must be a text in quotes, not a non-constant expression"),
        ("neighbors('P-101')", "did you mean neighbours"),
        ("neighbours", "neighbours"),
    ]:
        with pytest.raises(adbc_driver_manager.ProgrammingError, match=says):
            plant.ask(f"SELECT * FROM {sql}", "Everything")
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="has 1 parameters, and 0"):
        plant.ask("SELECT * FROM neighbours(?)", "Everything")
    assert "between 1 and 100" in error_of(plant, "SELECT * FROM neighbours(?, ?)", "Everything", "P-101", 101)
    long = error_of(plant, "SELECT * FROM upstream(?)", "Everything", "P-101" * 10_000)
    assert len(long) < 1_000


def test_prepared_calls_report_parameter_types(plant: Plant) -> None:
    for sql, types in [
        ("SELECT * FROM neighbours(?, ?)", [pa.string(), pa.int64()]),
        ("SELECT * FROM downstream(?)", [pa.string()]),
        (
            "SELECT * FROM path_between(?, ?, ?) WHERE step > ? LIMIT ?",
            [pa.string(), pa.string(), pa.string(), pa.int64(), pa.int64()],
        ),
        ("SELECT name FROM upstream('P-' || ?, ? + 1)", [pa.string(), pa.int64()]),
        ("SELECT requests FROM usage_report(?)", [pa.string()]),
    ]:
        with plant.with_key("Everything") as connection, connection.cursor() as cursor:
            assert cursor.adbc_prepare(sql).types == types, sql
    tags = ["P-101", "E-101", "P-101", "R-101"]
    graph = Graph(plant, "Everything")
    with plant.with_key("Everything") as connection, connection.cursor() as cursor:
        for tag in tags:
            cursor.execute("SELECT asset_id FROM downstream('' || ?)", (tag,))
            assert [row[0] for row in cursor.fetchall()] == [row[0] for row in graph.flow(graph.named[tag], "out")]
        schema = cursor.adbc_execute_schema("SELECT * FROM path_between('P-101', 'R-101')")
        assert schema.names == ["step", "asset_id", "name", "type", "location", "relation", "direction"]


def test_plan_with_now_is_not_cached(plant: Plant) -> None:
    """Planning replaces now() by a constant, so such a plan must not be cached."""
    seconds = "CAST(date_part('epoch', now()) AS BIGINT)"
    sql = f"SELECT value FROM generate_series({seconds}, {seconds})"
    first = plant.ask(sql, "Everything")["value"][0]
    time.sleep(1.2)
    assert plant.ask(sql, "Everything")["value"][0] > first


def test_view_shows_each_tenant_its_own_graph(plant: Plant) -> None:
    graph = Graph(plant, "Everything")
    expected = [row[:2] for row in graph.flow(graph.named["R-101"], "out")]
    rows = plant.ask("SELECT asset_id, distance FROM after_the_reactor", "Everything")
    assert list(rows.itertuples(index=False, name=None)) == expected and expected
    assert "downstream: no visible asset 'R-101'" in error_of(plant, "SELECT * FROM after_the_reactor", "Machines")
    with plant.with_key("Machines") as connection:
        assert "after_the_reactor" in str(connection.adbc_get_objects(depth="tables").read_all().to_pylist())


def test_local_query_uses_graph_functions(plant: Plant, tmp_path) -> None:
    graph = Graph(plant, "Everything")
    rows = plant.lake.query("SELECT asset_id, distance FROM downstream('P-101', 3)")
    expected = [row[:2] for row in graph.flow(graph.named["P-101"], "out", 3)]
    assert list(rows.itertuples(index=False, name=None)) == expected
    assert "a parameter without a value" in plant.lake.run("query", "SELECT * FROM downstream(?)").expect(FAILURE).err
    bare = LocalLake(tmp_path)
    bare.run("simulate", "--assets", "1", "--days", "1", "--start", "2024-05-01", "--interval", "60s").expect(OK)
    bare.resample().expect(OK)
    for file in (bare.folder / "catalog").iterdir():
        file.unlink()
    assert len(bare.query("SELECT count(*) FROM data_d")) == 1
    assert "assets.json" in bare.run("query", "SELECT * FROM downstream('P-101')").expect(FAILURE).err


# For each key: a unit, and the factor from the unit of the key to it.
FACTORS = {
    "volume_m3": ("L", 1_000), "design_pressure_bar": ("kPa", 100), "motor_power_kw": ("W", 1_000), "size_mm": ("cm", 0.1),
}  # fmt: skip


@pytest.mark.parametrize("key", FACTORS)
def test_spec_functions_return_numbers_with_units(plant: Plant, key: str) -> None:
    unit, factor = FACTORS[key]
    name = key.rsplit("_", 1)[0]
    sql = (
        f"SELECT id, spec_value(specifications, ?) AS value, spec_unit(specifications, '{name}') AS unit, "
        "spec_in(specifications, ?, ?) AS converted FROM assets"
    )
    rows = plant.ask(sql, "Everything", (key, name, unit)).set_index("id")
    assets = {asset["id"]: asset["specifications"].get(key) for asset in plant.assets()}
    assert set(rows.index) == set(assets) and any(assets.values())
    for asset, value in assets.items():
        row = rows.loc[asset]
        if value is None:
            assert row[["value", "unit", "converted"]].isna().all()
        else:
            assert row["value"] == value and row["converted"] == pytest.approx(value * factor, rel=1e-11)
            assert row["unit"] == {"volume_m3": "m³", "motor_power_kw": "kW"}.get(key, key.rsplit("_", 1)[1])


def test_sensor_ranges_convert_between_units(plant: Plant) -> None:
    sql = (
        "SELECT id, spec_unit(specifications, 'range_high') AS unit, "
        "spec_in(specifications, 'range_high', '°F') AS converted FROM assets"
    )
    rows = plant.ask(sql, "Everything").set_index("id")
    for asset in plant.assets():
        specifications, row = asset["specifications"], rows.loc[asset["id"]]
        assert (None if pd.isna(row["unit"]) else row["unit"]) == specifications.get("unit")
        if specifications.get("unit") == "°C":
            assert row["converted"] == pytest.approx(specifications["range_high"] * 1.8 + 32, rel=1e-11)
        else:
            assert pd.isna(row["converted"])


def test_graph_functions_follow_catalog_changes(plant: Plant) -> None:
    """This test is the last one of the file, because it changes the catalog."""
    path = plant.lake.folder / "catalog" / "graph.json"
    graph = json.loads(path.read_text())
    named = Graph(plant, "Everything").named
    sql = "SELECT count(*) AS n FROM downstream('P-101', 1)"
    before = plant.ask(sql, "Everything")["n"][0]
    targets = {edge["target"] for edge in graph["edges"] if edge["source"] == named["P-101"]}
    other = next(asset for tag, asset in named.items() if tag.startswith("T-") and asset not in targets)
    graph["edges"].append({"source": named["P-101"], "target": other, "relation": "flows_to"})
    path.write_text(json.dumps(graph))
    eventually(lambda: plant.ask(sql, "Everything")["n"][0] == before + 1)
    assert graph_rows(plant, "downstream('P-101')", "Everything") == Graph(plant, "Everything").flow(named["P-101"], "out")
