"""A comparison of two builds of plantlake, to find whether a change has made it slower."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import operator
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import clients
from clients import BULK_SQL, QueryGenerator, run_in_process
from contestants import PASSWORD, Data, environment, plantlake_binary
from measure import note, show
from metering import RUNS_PER_PROCESS, LoadClients, start_server

# For each figure, the function that compares two builds, and the title of the result.
FIGURES: dict[str, tuple[Callable[[float, float], float], str]] = {
    "points_s": (operator.truediv, "point queries/s of eight clients, ratio"),
    "mixed_s": (operator.truediv, "mixed queries/s of eight clients, ratio"),
    "rows_s": (operator.truediv, "rows/s of a stream of all minutes, ratio"),
    "p50": (operator.sub, "p50 of point queries of one client, difference in ms"),
    "p99": (operator.sub, "p99, difference in ms"),
}


def with_own_state(data: Data, name: str) -> Data:
    """Returns the same tables with a copy of the state, because a newer build migrates it."""
    folder = data.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for shared in ("lake", "catalog"):
        (folder / shared).symlink_to(data.folder / shared)
    shutil.copytree(data.folder / "state", folder / "state")
    return dataclasses.replace(data, folder=folder)


def restricted_data(data: Data, program: Path) -> Data:
    """Creates an organisation that may see every second asset, and returns the data as it sees them."""

    def run(*command: str, stdin: str = "") -> str:
        args = [str(program), *data.lake(), "-q", *command]
        finished = subprocess.run(args, env=environment(), input=stdin, capture_output=True, text=True)
        if finished.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {finished.returncode}:\n{finished.stderr[-2_000:]}")
        return finished.stdout

    assets = data.assets[::2]
    run("org", "create", "Half", "--user-limit", "5")
    for asset in assets:
        run("org", "grant", "Half", "--asset", asset)
    run("user", "create", "hal@half.example", "--org", "Half", "--role", "analyst", stdin=PASSWORD + "\n")
    key = json.loads(run("key", "create", "--user", "hal@half.example", "--name", "bench", "--json"))["key"]
    rows = {table: count * len(assets) // len(data.assets) for table, count in data.rows.items()}
    return dataclasses.replace(data, assets=assets, rows=rows, key=key)


def turn(load: LoadClients, data: Data, queries: list, warm: int) -> dict[str, float]:
    """Measures one build."""
    figures = load.turn(queries, warm)
    read = run_in_process(clients.read_all, load.server.access, BULK_SQL)
    if read["rows"] != data.rows["data_min"]:
        raise SystemExit(f"{read['rows']} rows, not {data.rows['data_min']}")
    return figures | {"rows_s": read["rows"] / read["seconds"]}


def compare_builds(options: argparse.Namespace, data: Data) -> dict:
    """This build and the one of --beside, alternating, with new processes after every few runs."""
    programs: dict[str, Path] = {"this": plantlake_binary(), "beside": options.beside.resolve()}
    folders = {name: with_own_state(data, f"builds-{name}") for name in programs}
    if options.restricted:
        folders = {name: restricted_data(folders[name], program) for name, program in programs.items()}
    data = folders["this"]
    source = QueryGenerator(data, "builds")
    queries = [source.point() for _ in range(options.warm + options.asks)]
    found: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in programs}
    for first in range(0, options.runs, RUNS_PER_PROCESS):
        servers = {name: start_server(path, folders[name]) for name, path in programs.items()}
        load = {
            name: LoadClients(server, folders[name], options.level_seconds, f"builds {first}")
            for name, server in servers.items()
        }
        for run in range(first, min(first + RUNS_PER_PROCESS, options.runs)):
            for name in list(programs) if run % 2 == 0 else list(programs)[::-1]:
                figures = turn(load[name], data, queries, options.warm)
                for figure in FIGURES:
                    found[name][figure].append(figures[figure])
                points = f"p50 {figures['p50']:.3f} ms, {figures['points_s']:.0f} points/s"
                note(f"  run {run + 1}: {name:7} {points}, {figures['rows_s'] / 1e6:.2f} M rows/s")
        for name, each in load.items():
            each.end()
            servers[name].stop()
    medians = {name: {figure: statistics.median(values) for figure, values in each.items()} for name, each in found.items()}
    pairs = {}
    for figure, (compare, _) in FIGURES.items():
        values = [compare(*pair) for pair in zip(found["this"][figure], found["beside"][figure], strict=True)]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        pairs[figure] = {"median": statistics.median(values), "mean": statistics.mean(values), "standard_error": error}
    if not options.json:
        rows = [[name, *(each[figure] for figure in FIGURES)] for name, each in medians.items()]
        show(f"two builds, medians of {options.runs} runs", ["", *FIGURES], rows)
        rows = [[title, *(f"{value:.3f}" for value in pairs[figure].values())] for figure, (_, title) in FIGURES.items()]
        show("this build compared with the other, by pairs", ["", "median", "mean", "+-"], rows)
    return {"runs": options.runs, "medians": medians, "pairs": pairs}
