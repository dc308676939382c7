"""The cost of metering compared with a server without it, and the effect of a noisy organisation on a quiet one."""

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
from clients import MIX, Clients, Questions, in_process, one_line
from contestants import PASSWORD, REPOSITORY, Access, Data, Server, environment, plantlake_binary
from measure import note, quantiles, show

UNMETERED = REPOSITORY / "target" / "plantlake-unmetered"
# Two processes of the same program may differ in speed by some percent for their whole lifetime.
RUNS_OF_A_PROCESS = 4
MIXED_OF_A_CLIENT = 50
RATE = 20  # requests per second that the noisy organisation may make
OVER = 10  # factor by which it exceeds that rate


def with_binary(path: Path, data: Data) -> Server:
    before = os.environ.get("PLANTLAKE_BIN")
    os.environ["PLANTLAKE_BIN"] = str(path)
    try:
        return Server("plantlake", data)
    finally:
        os.environ.pop("PLANTLAKE_BIN")
        if before is not None:
            os.environ["PLANTLAKE_BIN"] = before


class Asking:
    """The clients of a server, for its whole lifetime."""

    def __init__(self, server: Server, data: Data, seconds: float, seed: str) -> None:
        self.server = server
        self.points = Clients(server.access, data, 8, {"point": 1}, seconds, seed)
        self.mixed = Clients(server.access, data, 8, MIX, 600, seed)

    def turn(self, questions: list, warm: int) -> dict[str, float]:
        """Returns percentiles of one client's point queries in ms, and the rates of eight clients with point and mixed
        queries."""
        speed = quantiles(in_process(clients.ask_points, self.server.access, questions, warm, False)["ms"])
        points = self._ask(self.points)
        # The same number of queries for each server, independent of time.
        mixed = self._ask(self.mixed, MIXED_OF_A_CLIENT)
        return {"p50": speed["p50"], "p99": speed["p99"], "points_s": points, "mixed_s": mixed}

    def _ask(self, many: Clients, each: int | None = None) -> float:
        results = many.go(each).results_so_far()
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
            f"there is no {UNMETERED}: cargo build --release --bins --examples --features unmetered, and copy target/release/plantlake there"
        )
    source = Questions(data, "metering")
    questions = [source.point() for _ in range(options.warm + options.asks)]
    found: dict[str, dict[str, list[float]]] = {}
    programs = {"metered": plantlake_binary(), "unmetered": UNMETERED}
    for first in range(0, options.runs, RUNS_OF_A_PROCESS):
        with with_binary(programs["metered"], data) as metered, with_binary(programs["unmetered"], data) as unmetered:
            servers = {"metered": metered, "unmetered": unmetered}
            asking = {name: Asking(server, data, options.level_seconds, f"metering {first}") for name, server in servers.items()}
            for run in range(first, min(first + RUNS_OF_A_PROCESS, options.runs)):
                for name in list(servers) if run % 2 == 0 else list(servers)[::-1]:
                    figures = asking[name].turn(questions, options.warm)
                    for figure, value in figures.items():
                        found.setdefault(name, {}).setdefault(figure, []).append(value)
                    told = f"p50 {figures['p50']:.3f} ms, {figures['points_s']:.0f} points/s, {figures['mixed_s']:.0f} mixed/s"
                    note(f"  run {run + 1}: {name:10} {told}")
            for each in asking.values():
                each.end()
    medians = {name: {figure: statistics.median(values) for figure, values in each.items()} for name, each in found.items()}

    def pairs(figure: str, compare: Callable[[float, float], float]) -> dict[str, float]:
        values = [compare(*pair) for pair in zip(found["metered"][figure], found["unmetered"][figure], strict=True)]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        return {"median": statistics.median(values), "mean": statistics.mean(values), "standard_error": error}

    outcome = {
        "runs": options.runs,
        "medians": medians,
        "points_kept": pairs("points_s", operator.truediv),
        "mixed_kept": pairs("mixed_s", operator.truediv),
        "p50_added_ms": pairs("p50", operator.sub),
    }
    if not options.json:
        rows = [[name, *each.values()] for name, each in medians.items()]
        show(f"metering, the medians of {options.runs} runs by turns", ["", "p50 ms", "p99", "points/s of 8", "mixed/s of 8"], rows)
        rows = [[name, *(f"{value:.3f}" for value in outcome[name].values())] for name in ("points_kept", "mixed_kept", "p50_added_ms")]
        show("pair by pair", ["", "median", "mean", "+-"], rows)
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
    run("org", "limit", "Noisy", "--requests-per-second", str(RATE))
    return json.loads(kept.read_text())


def make_noise(access: Access, data: Data, per_second: float, seconds: float) -> dict:
    """Sends queries at a fixed rate on four connections, whether answered or not."""
    answered, refused, wrong = [], [], []
    began = time.monotonic()

    def ask(number: int) -> None:
        client, source = clients.Flight(access), Questions(data, f"noise {number}")
        at = 0
        while True:
            due = began + (at * 4 + number) / per_second
            if due - began > seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                client.answer(source.point())
                answered.append(1)
            except Exception as error:
                (refused if "requests per second" in str(error) else wrong).append(one_line(error))
            at += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answered": len(answered), "refused": len(refused), "wrong": wrong[:3]}


def neighbour(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of a quiet organisation, beside one that keeps to its rate limit and one that exceeds it ten times."""
    key = noisy_organisation(data)
    seconds = options.neighbour_seconds
    source = Questions(data, "quiet")
    found: dict[str, list[dict]] = {"nobody": [], "at its rate": [], f"{OVER} times": []}
    noise: dict[str, dict] = {}
    with Server("plantlake", data) as server:
        noisy = Access("plantlake", server.uri, {"adbc.flight.sql.authorization_header": f"Bearer {key}"})
        in_process(clients.ask_points, server.access, [source.point() for _ in range(200)], 100, False)
        time.sleep(2)  # until the limit takes effect
        for turn in range(options.rounds):
            for name, times in zip(found, (0, 1, OVER)):
                thread, outcome = None, {}
                if times:
                    thread = threading.Thread(target=lambda: outcome.update(in_process(make_noise, noisy, data, RATE * times, seconds)))
                    thread.start()
                    time.sleep(2)  # until the noise has started
                paced = in_process(ask_paced, server.access, data, f"quiet {turn}", seconds - 3)
                if thread:
                    thread.join()
                    noise[name] = outcome
                found[name].append(quantiles(paced["ms"]))
                note(f"  turn {turn + 1}: beside {name:12} p99 {found[name][-1]['p99']:.2f} ms {outcome or ''}")
    outcome = {
        name: {figure: statistics.median(each[figure] for each in turns) for figure in turns[0]} for name, turns in found.items()
    }
    times = outcome[f"{OVER} times"]["p99"] / outcome["at its rate"]["p99"]
    if not options.json:
        rows = [[name, *(each[figure] for figure in ("count", "p50", "p90", "p99", "max"))] for name, each in outcome.items()]
        title = f"a quiet organisation's points beside one that may ask {RATE} times a second; medians of {options.rounds} turns"
        show(title, ["beside", "count", "p50 ms", "p90", "p99", "max"], rows)
        print(f"{times:.2f} times the p99; the noisy one: {noise}")
    return {"quiet": outcome, "noise": noise, "times": times}


def ask_paced(access: Access, data: Data, seed: str, seconds: float) -> dict:
    """Sends a point query every 20 ms."""
    client, source, taken = clients.Flight(access), Questions(data, seed), []
    began, at = time.monotonic(), 0
    while (due := began + at * 0.02) - began < seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        milliseconds, _ = client.timed(source.point())
        taken.append(milliseconds)
        at += 1
    client.close()
    return {"ms": taken}
