"""Benchmarks of the cost of metering, and of the effect of a noisy organisation on a quiet one."""

from __future__ import annotations

import argparse
import json
import math
import operator
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import clients
from clients import MIX, ConcurrentClients, QueryGenerator, one_line, run_in_process
from contestants import PASSWORD, REPOSITORY, Access, Data, Server, environment, plantlake_binary
from measure import note, quantiles, show

UNMETERED = REPOSITORY / "target" / "plantlake-unmetered"
# Two processes of the same program may differ in speed by some percent for their whole lifetime.
RUNS_PER_PROCESS = 4
MIXED_QUERIES_PER_CLIENT = 50
RATE_LIMIT = 20  # requests per second of the noisy organisation
EXCESS_FACTOR = 10  # the factor by which it exceeds that limit


def start_server(path: Path, data: Data) -> Server:
    before = os.environ.get("PLANTLAKE_BIN")
    os.environ["PLANTLAKE_BIN"] = str(path)
    try:
        return Server("plantlake", data)
    finally:
        os.environ.pop("PLANTLAKE_BIN")
        if before is not None:
            os.environ["PLANTLAKE_BIN"] = before


class LoadClients:
    """The clients of a server, which exist for its whole lifetime."""

    def __init__(self, server: Server, data: Data, seconds: float, seed: str) -> None:
        self.server = server
        self.points = ConcurrentClients(server.access, data, 8, {"point": 1}, seconds, seed)
        self.mixed = ConcurrentClients(server.access, data, 8, MIX, 600, seed)

    def turn(self, queries: list, warm: int) -> dict[str, float]:
        """Returns percentiles of one client's point queries in ms, and the rates of eight clients with point and mixed
        queries."""
        speed = quantiles(run_in_process(clients.time_points, self.server.access, queries, warm, False)["ms"])
        points = self._queries_per_second(self.points)
        # The same number of queries for each server, independent of time.
        mixed = self._queries_per_second(self.mixed, MIXED_QUERIES_PER_CLIENT)
        return {"p50": speed["p50"], "p99": speed["p99"], "points_s": points, "mixed_s": mixed}

    def _queries_per_second(self, many: ConcurrentClients, each: int | None = None) -> float:
        results = many.start(each).results_so_far()
        if results["errors"]:
            raise SystemExit(f"{self.server.process.args[0]}: {results['errors'][0]}")
        return sum(map(len, results["ms"].values())) / results["seconds"]

    def end(self) -> None:
        self.points.end()
        self.mixed.end()


def cost(options: argparse.Namespace, data: Data) -> dict:
    """Queries of one client and of eight, alternating between a server with metering and one without."""
    if not UNMETERED.is_file():
        raise SystemExit(
            f"no {UNMETERED}; run cargo build --release --bins --examples --features unmetered, "
            "and copy target/release/plantlake there"
        )
    source = QueryGenerator(data, "metering")
    queries = [source.point() for _ in range(options.warm + options.asks)]
    found: dict[str, dict[str, list[float]]] = {}
    programs = {"metered": plantlake_binary(), "unmetered": UNMETERED}
    for first in range(0, options.runs, RUNS_PER_PROCESS):
        with start_server(programs["metered"], data) as metered, start_server(programs["unmetered"], data) as unmetered:
            servers = {"metered": metered, "unmetered": unmetered}
            load = {
                name: LoadClients(server, data, options.level_seconds, f"metering {first}")
                for name, server in servers.items()
            }
            for run in range(first, min(first + RUNS_PER_PROCESS, options.runs)):
                for name in list(servers) if run % 2 == 0 else list(servers)[::-1]:
                    figures = load[name].turn(queries, options.warm)
                    for figure, value in figures.items():
                        found.setdefault(name, {}).setdefault(figure, []).append(value)
                    points = f"p50 {figures['p50']:.3f} ms, {figures['points_s']:.0f} points/s"
                    note(f"  run {run + 1}: {name:10} {points}, {figures['mixed_s']:.0f} mixed/s")
            for each in load.values():
                each.end()
    medians = {name: {figure: statistics.median(values) for figure, values in each.items()} for name, each in found.items()}

    def pairs(figure: str, compare: Callable[[float, float], float]) -> dict[str, float]:
        values = [compare(*pair) for pair in zip(found["metered"][figure], found["unmetered"][figure], strict=True)]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        return {"median": statistics.median(values), "mean": statistics.mean(values), "standard_error": error}

    outcome = {
        "runs": options.runs,
        "medians": medians,
        "points_ratio": pairs("points_s", operator.truediv),
        "mixed_ratio": pairs("mixed_s", operator.truediv),
        "p50_added_ms": pairs("p50", operator.sub),
    }
    if not options.json:
        rows = [[name, *each.values()] for name, each in medians.items()]
        heads = ["", "p50 ms", "p99", "point queries/s of 8", "mixed queries/s of 8"]
        show(f"metering, medians of {options.runs} runs", heads, rows)
        names = ("points_ratio", "mixed_ratio", "p50_added_ms")
        rows = [[name, *(f"{value:.3f}" for value in outcome[name].values())] for name in names]
        show("by pairs", ["", "median", "mean", "+-"], rows)
    return outcome


def noisy_organisation(data: Data) -> str:
    """Returns the key of an organisation with a limit of RATE requests per second, which is created once."""
    kept = data.folder / "noisy.json"

    def run(*command: str, stdin: str = "") -> str:
        args = [str(plantlake_binary()), *data.lake(), "-q", *command]
        finished = subprocess.run(args, env=environment(), input=stdin, capture_output=True, text=True)
        if finished.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {finished.returncode}:\n{finished.stderr[-2_000:]}")
        return finished.stdout

    if not kept.is_file():
        run("org", "create", "Noisy", "--user-limit", "5")
        run("org", "grant", "Noisy", "--all")
        run("user", "create", "nina@noisy.example", "--org", "Noisy", "--role", "analyst", stdin=PASSWORD + "\n")
        key = json.loads(run("key", "create", "--user", "nina@noisy.example", "--name", "bench", "--json"))["key"]
        kept.write_text(json.dumps(key))
    run("org", "limit", "Noisy", "--requests-per-second", str(RATE_LIMIT))
    return json.loads(kept.read_text())


def send_noise(access: Access, data: Data, per_second: float, seconds: float) -> dict:
    """Sends queries at a fixed rate on four connections, and counts those that are answered, refused or failed."""
    answered, refused, failed = [], [], []
    began = time.monotonic()

    def ask(number: int) -> None:
        client, source = clients.FlightClient(access), QueryGenerator(data, f"noise {number}")
        at = 0
        while True:
            due = began + (at * 4 + number) / per_second
            if due - began > seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                client.query(source.point())
                answered.append(1)
            except Exception as error:
                (refused if "requests per second" in str(error) else failed).append(one_line(error))
            at += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answered": len(answered), "refused": len(refused), "failed": failed[:3]}


def neighbour(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of a quiet organisation, beside one that keeps to its rate limit and one that exceeds it ten times."""
    key = noisy_organisation(data)
    seconds = options.neighbour_seconds
    source = QueryGenerator(data, "quiet")
    found: dict[str, list[dict]] = {"no other": [], "at its limit": [], f"{EXCESS_FACTOR} times its limit": []}
    noise: dict[str, dict] = {}
    with Server("plantlake", data) as server:
        noisy = Access("plantlake", server.uri, {"adbc.flight.sql.authorization_header": f"Bearer {key}"})
        run_in_process(clients.time_points, server.access, [source.point() for _ in range(200)], 100, False)
        time.sleep(2)  # until the limit takes effect
        for turn in range(options.rounds):
            for name, times in zip(found, (0, 1, EXCESS_FACTOR)):
                thread, outcome = None, {}
                if times:
                    arguments = (noisy, data, RATE_LIMIT * times, seconds)
                    thread = threading.Thread(target=lambda: outcome.update(run_in_process(send_noise, *arguments)))
                    thread.start()
                    time.sleep(2)  # until the noise has started
                paced = run_in_process(send_paced_queries, server.access, data, f"quiet {turn}", seconds - 3)
                if thread:
                    thread.join()
                    noise[name] = outcome
                found[name].append(quantiles(paced["ms"]))
                note(f"  turn {turn + 1}: beside {name:18} p99 {found[name][-1]['p99']:.2f} ms {outcome or ''}")
    outcome = {
        name: {figure: statistics.median(each[figure] for each in turns) for figure in turns[0]}
        for name, turns in found.items()
    }
    ratio = outcome[f"{EXCESS_FACTOR} times its limit"]["p99"] / outcome["at its limit"]["p99"]
    if not options.json:
        figures = ("count", "p50", "p90", "p99", "max")
        rows = [[name, *(each[figure] for figure in figures)] for name, each in outcome.items()]
        title = (
            f"point queries of a quiet organisation beside one with a limit of {RATE_LIMIT}/s; "
            f"medians of {options.rounds} turns"
        )
        show(title, ["other organisation", "count", "p50 ms", "p90", "p99", "max"], rows)
        print(f"p99 beside excess / p99 beside the limit: {ratio:.2f}; noisy organisation: {noise}")
    return {"quiet": outcome, "noise": noise, "p99_ratio": ratio}


def send_paced_queries(access: Access, data: Data, seed: str, seconds: float) -> dict:
    """Sends a point query every 20 ms."""
    client, source, durations = clients.FlightClient(access), QueryGenerator(data, seed), []
    began, at = time.monotonic(), 0
    while (due := began + at * 0.02) - began < seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        milliseconds, _ = client.timed(source.point())
        durations.append(milliseconds)
        at += 1
    client.close()
    return {"ms": durations}
