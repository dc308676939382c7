"""Runs the notebooks unchanged against a server, and compares their results with the lake."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from harness import OK, REPOSITORY, LocalLake
from models import fetch_models
from server import Plant, eventually

pytestmark = pytest.mark.local_only

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# The plant of `plantlake demo`, but with longer intervals, because a debug build is slow.
SIMULATE = ["simulate", "--assets", "20", "--days", "7", "--start", "2026-01-05", "--interval", "30s", "--seed", "1"]
# The number of plots of each notebook. All were inspected by eye.
PLOTS = {"1": 1, "2": 2, "3": 1, "4": 1, "5": 1}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("notebooks")
    plant = Plant(folder / "plant")
    plant.lake.run(*SIMULATE).expect(OK)
    plant.lake.resample().expect(OK)
    plant.tenant("Everything", ["--all"])
    plant.lake.settings |= fetch_models(plant.lake, folder / "models", "bi-encoder")
    plant.serve()
    eventually(lambda: "hybrid" in set(plant.ask("SELECT ranked_by FROM search('pump')", "Everything")["ranked_by"]), 120)
    yield plant
    assert plant.stop() == OK


def hours(lake: LocalLake, sensor: str | None = None) -> pd.DataFrame:
    """Returns the hourly rows with their sensors' names, read by the deltalake package."""
    assets = json.loads((lake.folder / "catalog" / "assets.json").read_text())
    table = lake.table("data_h").assign(name=lambda rows: rows["asset_id"].map({a["id"]: a["name"] for a in assets}))
    return table if sensor is None else table[table["name"] == sensor]


def truth(lake: LocalLake) -> list[dict]:
    return json.loads((Path(lake.url.removeprefix("file://")) / "ground_truth.json").read_text())


def check_exploration(lake: LocalLake, values: dict) -> None:
    """Checks that the plotted hours and the peak are those of the lake."""
    expected = hours(lake, values["sensor"])
    assert values["sensor"].startswith("TT-104 ")
    assert len(values["hours"]) == len(expected) == 7 * 24
    assert np.allclose(values["hours"], expected["value"])
    assert values["greatest"] == expected["max"].max()
    assert values["sensors"] == 20


def check_comparison(lake: LocalLake, values: dict) -> None:
    """Checks that the thermometers are those downstream of the tank, and that pandas computes the same correlations from the
    lake."""
    tags = values["order"]
    assert tags[:3] == ["TT-102", "TT-104", "TT-106"] and len(tags) == 7
    table = hours(lake).assign(tag=lambda rows: rows["name"].str.split().str[0])
    expected = table[table["tag"].isin(tags)].pivot(index="timestamp", columns="tag", values="value")[tags].corr()
    assert np.allclose(np.array(values["together"]), expected.to_numpy())
    assert values["ranked_by"] == ["hybrid"]


def check_prediction(lake: LocalLake, values: dict) -> None:
    """Checks that all faults of three kinds are found without false alarms, and a drift at least 2 h before its end."""
    kinds = {"gap": ("drop_out", "null", "nan"), "stuck": ("flat_line",), "spike": ("spikes",)}
    for fault, names in kinds.items():
        made = [one for one in truth(lake) if one["kind"] in names and not one["tag"].startswith("ZS")]
        assert values["result"]["faults"][fault] == values["result"]["found"][fault] == len(made) > 0, fault
    assert set(values["result"]["false alarms"].values()) == {0}
    [drift] = [one for one in truth(lake) if one["kind"] == "drift" and one["tag"] == values["tag"]]
    assert pd.Timestamp(drift["start"]) < pd.Timestamp(values["first"]) < pd.Timestamp(drift["end"]) - pd.Timedelta("2h")


def check_billing(lake: LocalLake, values: dict) -> None:
    """Checks that the report's sums agree with the ledger."""
    ledger = lake.run("usage", "report", "--month", values["month"], "--by", "endpoint", "--json").expect(OK).json
    assert 21 < values["billable"] <= sum(row["billable_requests"] for row in ledger["lines"])
    assert values["billable"] * 4 / 10_000 == pytest.approx(values["requests_cost"], abs=0.005)


def check_swings(lake: LocalLake, values: dict) -> None:
    """Checks that the mean daily range of each sensor is that of the lake."""
    table = hours(lake).assign(day=lambda rows: pd.to_datetime(rows["timestamp"], unit="us").dt.floor("D"))
    expected = (table["max"] - table["min"]).groupby([table["name"].str.split().str[0], table["day"]]).mean()
    assert np.allclose(values["swings"], expected)
    assert values["rows"] == len(lake.table("data_min"))


@dataclass(frozen=True)
class Probe:
    """An expression to evaluate in a notebook's kernel after its last cell, and a check of the result."""

    expression: str
    check: Callable[[LocalLake, dict], None]


PROBES = {
    "1": Probe(
        '{"sensor": sensor["name"], "hours": list(hours["value"]), "greatest": hours["max"].max(), "sensors": len(sensors)}',
        check_exploration,
    ),
    "2": Probe(
        '{"order": order, "together": together.to_numpy().tolist(), "ranked_by": found["ranked_by"].unique().tolist()}',
        check_comparison,
    ),
    "3": Probe('{"tag": tag, "first": str(first), "result": result.to_dict()}', check_prediction),
    "4": Probe('{"month": month, "billable": int(used.iloc[0]), "requests_cost": float(invoice["EUR"][0])}', check_billing),
    "5": Probe('{"swings": list(by_polars["swing"]), "rows": rows}', check_swings),
}


def test_notebooks_are_committed_without_outputs() -> None:
    assert [name[0] for name in NOTEBOOKS] == list(PROBES)
    for name in NOTEBOOKS:
        notebook = json.loads((FOLDER / name).read_text())
        nbformat.validate(notebook)
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}, f"{name}: machine-specific metadata"
        assert notebook["metadata"]["language_info"] == {"name": "python"}, name
        for cell in notebook["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count") and not cell["metadata"], f"{name}, {cell['id']}: clear its outputs"


def test_notebook_requirements_are_pinned() -> None:
    pinned = (REPOSITORY / "tests/python/requirements.txt").read_text().splitlines()
    wanted = [line for line in (FOLDER / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert set(wanted) <= set(pinned)
    packages = {line.split("==")[0].replace("-", "_") for line in wanted}
    for name in NOTEBOOKS:
        source = "\n".join("".join(cell["source"]) for cell in json.loads((FOLDER / name).read_text())["cells"])
        for package in re.findall(r"^import (\w+)", source, re.MULTILINE):
            known = {"adbc_driver_flightsql", "matplotlib", "pandas", "polars", "duckdb", "numpy"}
            assert package not in known or package in packages, f"{name} imports {package}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_matches_lake(plant: Plant, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    probe = PROBES[name[0]]
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({probe.expression}))"))
    monkeypatch.setenv("PLANT_URI", plant.uri)
    monkeypatch.setenv("PLANT_KEY", plant.tenants["Everything"].key)
    monkeypatch.setenv("PLANT_LAKE", plant.lake.url.removeprefix("file://"))
    # The kernel uses Unix sockets, so no port is opened. The path of a socket must be short.
    with tempfile.TemporaryDirectory() as sockets:
        config = Config(AsyncKernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        NotebookClient(notebook, config=config, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    errors = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not errors
    plots = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) == PLOTS[name[0]]
    for plot in plots:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(plot)))
        assert min(pixels.shape[:2]) > 300 and pixels[..., :3].std() > 0.05, "the plot is blank"
    probe.check(plant.lake, json.loads(outputs[-1]["text"]))
