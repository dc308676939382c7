#!/usr/bin/env python3
"""Times `plantlake serve`, ROAPI, a bare Flight server and DuckDB on the same tables.

Every server and every client is a separate process, and the same ADBC driver reads from all servers. The contestants
alternate, so that changes of the machine's speed affect all of them. `benches/README.md` has the commands.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import builds
import clients
import hostile
import metering
from clients import BULK, MIX, Clients, Questions, in_process
from contestants import HOW, REPOSITORY, SPEAK_SQL, TABLES, Data, Server, make_data, present, warm_files
from measure import MIB, Sampler, machine, medians, note, quantiles, show

DEFAULT_DATA = REPOSITORY / "target" / "bench-serving"
LEVELS = [1, 2, 4, 8, 16, 64]


@contextmanager
def servers(names: list[str], data: Data) -> Iterator[dict[str, Server]]:
    """Starts new servers for each benchmark, so that peaks of memory belong to it."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Server(name, data)) for name in names}


def memory(server: Server, of_clients: list[dict]) -> dict[str, float]:
    """Returns the resident memory and its peak. DuckDB's memory is that of its clients."""
    if server.process:
        return server.memory()
    return {figure: max(each[figure] for each in of_clients) for figure in ("rss_mib", "peak_mib")}


# ------------------------------------------------------------------ benchmarks


def point(options: argparse.Namespace, data: Data) -> dict:
    """The hours of one asset in one month, in sequence on one connection."""
    names = [name for name in options.contestants if name != "bare"]
    source = Questions(data, "point")
    questions = [source.point() for _ in range(options.warm + options.asks)]
    taken: dict[str, list[dict]] = {name: [] for name in names}
    bound: dict[str, list[dict]] = {name: [] for name in names}
    expected = None
    with servers(names, data) as running:
        for turn in range(options.rounds):
            for name, server in running.items():
                for results, with_parameters in ((taken[name], False), (bound[name], True)):
                    result = in_process(clients.ask_points, server.access, questions, options.warm, with_parameters)
                    if "refused" in result:
                        if not name.startswith("roapi"):
                            raise SystemExit(f"{name}: {result['refused']}")
                        note(f"  {name} takes no parameters: {result['refused']}")
                        continue
                    expected = expected or result["answers"]
                    check_answers(name, questions[options.warm :], result.pop("answers"), expected)
                    results.append(result | quantiles(result.pop("ms")))
                note(f"  turn {turn + 1}: {name:12} {taken[name][-1]['p50']:8.2f} ms")
        found = {}
        for name, server in running.items():
            found[name] = memory(server, taken[name] + bound[name]) | {
                "literals_ms": medians(taken[name]),
                "parameters_ms": medians(bound[name]) if bound[name] else None,
            }
    if not options.json:
        base = found.get("plantlake", {}).get("literals_ms", {}).get("p50")
        rows = []
        for name, each in found.items():
            with_literals, with_parameters = each["literals_ms"], each["parameters_ms"] or {}
            ranks = ("p50", "p90", "p99")
            times = with_literals["p50"] / base if base else None
            rows.append([name, *(with_literals[rank] for rank in ranks), times, *(with_parameters.get(rank) for rank in ranks),
                         each["rss_mib"], each["peak_mib"]])  # fmt: skip
        heads = ["", "p50 ms", "p90", "p99", "times plantlake", "? p50 ms", "p90", "p99", "RSS MiB", "peak MiB"]
        title = f"an asset's month of hours, {options.asks:,} times, {options.rounds} rounds; ? is with parameters"
        show(title, heads, rows)
    return found


def check_answers(name: str, questions: list, answers: list, expected: list) -> None:
    """Checks that a contestant returned the same rows and the same sum of values as the others."""
    for question, (rows, total), (other_rows, other_total) in zip(questions, answers, expected, strict=True):
        same = math.isclose(total, other_total, rel_tol=1e-9)
        if not (rows == other_rows == question.rows and same):
            raise SystemExit(f"{name} answers {rows} rows, sum {total}, not {other_rows}, {other_total}: {question.sql}")


def bulk(options: argparse.Namespace, data: Data) -> dict:
    """All minutes, as a stream of record batches."""
    taken: dict[str, list[dict]] = {name: [] for name in options.contestants}
    with servers(options.contestants, data) as running:
        for turn in range(options.rounds):
            for name, server in running.items():
                result = in_process(clients.read_all, server.access, BULK)
                if result["rows"] != data.rows["data_min"]:
                    raise SystemExit(f"{name} sent {result['rows']} rows, not {data.rows['data_min']}")
                taken[name].append(result)
                note(f"  turn {turn + 1}: {name:12} {result['seconds']:8.2f} s")
        found = {}
        for name, server in running.items():
            seconds = statistics.median(each["seconds"] for each in taken[name])
            size = taken[name][0]["bytes"]
            found[name] = memory(server, taken[name]) | {
                "seconds": seconds,
                "rows_s": data.rows["data_min"] / seconds,
                "mb_s": size / seconds / 1e6,
                "bytes": size,
                "client_peak_mib": max(each["peak_mib"] for each in taken[name]),
            }
    for each in found.values():
        for peer in ("bare", "roapi"):
            each[f"of_{peer}"] = each["rows_s"] / found[peer]["rows_s"] if peer in found else None
    if not options.json:
        rows = [
            [name, each["seconds"], each["rows_s"] / 1e6, each["mb_s"], each["of_bare"], each["of_roapi"],
             each["bytes"] / MIB, each["client_peak_mib"], each["rss_mib"], each["peak_mib"]]
            for name, each in found.items()
        ]  # fmt: skip
        heads = ["", "s", "M rows/s", "MB/s", "of bare", "of roapi", "MiB", "client peak", "RSS MiB", "peak MiB"]
        show(f"{BULK}: {data.rows['data_min']:,} rows, {options.rounds} rounds, the median", heads, rows)
    return found


def many(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of many concurrent clients."""
    names = [name for name in options.contestants if name in SPEAK_SQL]
    taken: dict[str, dict[int, list[dict]]] = {name: {level: [] for level in LEVELS} for name in names}
    with servers(names, data) as running:
        for turn in range(options.rounds):
            for level in LEVELS:
                for name, server in running.items():
                    seed = f"many {turn} {level}"
                    asking = Clients(server.access, data, level, {"point": 1}, options.level_seconds, seed)
                    results = asking.go().results()
                    no_errors(name, results["errors"])
                    speed = quantiles(results["ms"]["point"])
                    speed["queries_s"] = speed["count"] / results["seconds"]
                    taken[name][level].append(speed)
                    note(f"  turn {turn + 1}: {level:3} of {name:12} {speed['queries_s']:8.0f} queries/s")
        found = {
            name: {level: medians(rounds) for level, rounds in levels.items()} | memory(running[name], [])
            for name, levels in taken.items()
        }
    if not options.json:
        for title, figure in (("queries/s", "queries_s"), ("p99 in ms", "p99")):
            rows = [
                [name, *(each[level][figure] for level in LEVELS), each["rss_mib"], each["peak_mib"]]
                for name, each in found.items()
            ]  # fmt: skip
            show(f"point questions, {title}, by connections", ["", *map(str, LEVELS), "RSS MiB", "peak MiB"], rows)
    return found


def soak(options: argparse.Namespace, data: Data) -> dict:
    """A mix of queries of many clients for a while, without errors and without growth of memory."""
    found = {}
    ends = options.soak_seconds
    early = min(10, ends // 2)
    for name in options.attacked:
        with Server(name, data) as server:
            asking = Clients(server.access, data, options.clients, MIX, ends, "soak")
            with Sampler(server.process.pid, 1.0) as sampler:
                results = asking.go().results()
            speeds = {kind: quantiles(ms) for kind, ms in results["ms"].items()}
            each = {
                "errors": len(results["errors"]),
                "first_errors": results["errors"][:5],
                "ms": speeds,
                "queries_s": sum(speed["count"] for speed in speeds.values()) / results["seconds"],
                "idle_mib": server.idle_mib,
                "early_mib": sampler.at(early),
                "end_mib": sampler.at(ends),
                "peak_mib": server.memory()["peak_mib"],
                "alive": server.alive(),
                "tables_mib": data.all_mib,
                "samples": sampler.samples,
            }
            each["growth"] = each["end_mib"] / each["early_mib"]
            found[name] = each
    if not options.json:
        heads = ["", "errors", "queries/s", "idle MiB", f"at {early} s", f"at {ends} s", "times", "peak MiB",
                 "tables in Arrow", "a quarter"]  # fmt: skip
        figures = ("errors", "queries_s", "idle_mib", "early_mib", "end_mib", "growth", "peak_mib", "tables_mib")
        rows = [[name, *(each[figure] for figure in figures), each["tables_mib"] / 4] for name, each in found.items()]
        mix = "90 % points, 9 % an asset's day, 1 % ten assets' week of minutes"
        show(f"{options.clients} clients for {ends} s: {mix}", heads, rows)
        rows = [
            [f"{name}, {kind}", speed["count"], speed["p50"], speed["p90"], speed["p99"], speed["max"]]
            for name, each in found.items() for kind, speed in each["ms"].items()
        ]  # fmt: skip
        show("answers", ["", "count", "p50 ms", "p90", "p99", "max"], rows)
        for each in found.values():
            for error in each["first_errors"]:
                print(f"error: {error[:112]}")
    return found


def no_errors(name: str, errors: list[str]) -> None:
    if errors:
        raise SystemExit(f"{name} failed {len(errors)} times: {errors[0]}")


QUESTIONS: dict[str, Callable[[argparse.Namespace, Data], dict]] = {
    "point": point,
    "bulk": bulk,
    "many": many,
    "soak": soak,
    "hostile": hostile.run,
    "metering": metering.cost,
    "neighbour": metering.neighbour,
    "builds": builds.compared,
}


# ------------------------------------------------------------------ the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", action="store_true", help="an asset's month of hours: how long one answer takes")
    parser.add_argument("--bulk", action="store_true", help="all minutes: how fast they stream")
    parser.add_argument("--many", action="store_true", help=f"point questions of {', '.join(map(str, LEVELS))} connections")
    parser.add_argument("--soak", action="store_true", help="a mix of questions of many clients: errors and memory")
    parser.add_argument("--hostile", action="store_true", help="an honest client's answers during attacks")
    parser.add_argument("--metering", action="store_true", help="what metering costs, beside a build that has none")
    parser.add_argument("--neighbour", action="store_true", help="an organisation's answers beside one that asks too much")
    parser.add_argument("--builds", action="store_true", help="this build and the one of --beside: points, a mix and bulk")
    parser.add_argument("--beside", type=Path, metavar="PLANTLAKE", help="another build, for --builds; it makes the data")
    parser.add_argument("--restricted", action="store_true", help="--builds asks as an organisation that sees half of the assets")
    parser.add_argument(
        "--contestants",
        help=f"of {','.join(HOW)} [those that are built or installed; --soak and --hostile: plantlake]",
    )
    parser.add_argument("--rows", type=int, help="at least so many minutes [10000000]")
    parser.add_argument("--assets", type=int, help="assets that have them [100]")
    parser.add_argument("--rounds", type=int, help="turns; the median counts [3]")
    parser.add_argument("--asks", type=int, help="questions of a round of --point [2000], after 200 to warm up")
    parser.add_argument("--level-seconds", type=float, help="of each number of connections, with --many [5]")
    parser.add_argument("--runs", type=int, help="of --metering and --builds, by turns [10]")
    parser.add_argument("--neighbour-seconds", type=int, help="of each turn of --neighbour [20]")
    parser.add_argument("--soak-seconds", type=int, help="[60]")
    parser.add_argument("--clients", type=int, default=64, help="of --soak [64]")
    parser.add_argument("--query-memory", default="64MiB", help="serve.query_memory with --hostile; empty: as it is [64MiB]")
    parser.add_argument("--without", default="", help="attacks to leave out, such as handshakes,statements")
    parser.add_argument("--quick", action="store_true", help="little data and short turns, to try the bench itself")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder for data [target/bench-serving]")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    defaults = {"rows": 10_000_000, "assets": 100, "rounds": 3, "asks": 2_000, "level_seconds": 5, "soak_seconds": 60,
                "runs": 10, "neighbour_seconds": 20}  # fmt: skip
    quick = {"rows": 900_000, "assets": 10, "rounds": 1, "asks": 200, "level_seconds": 1, "soak_seconds": 10,
             "runs": 2, "neighbour_seconds": 8}  # fmt: skip
    for name, value in (quick if options.quick else defaults).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.warm = options.asks // 10
    options.rest = 2 if options.quick else 10
    options.data = options.data.resolve()
    options.without = options.without.split(",")
    named = options.contestants.split(",") if options.contestants else None
    if named and not set(named) <= set(HOW):
        parser.error(f"--contestants takes {', '.join(HOW)}")
    if named and not set(named) <= set(present()):
        parser.error(f"not built or installed: {', '.join(sorted(set(named) - set(present())))}")
    options.contestants = named or present()
    options.attacked = [name for name in named or ["plantlake"] if name in SPEAK_SQL]
    chosen = [name for name in QUESTIONS if getattr(options, name)]
    if options.builds and not (options.beside and options.beside.is_file()):
        parser.error("--builds compares with the build that --beside names")
    options.questions = chosen or ["point", "bulk", "many"]
    return options


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the servers, too
    options = arguments()
    # Both builds can read the state of the older one.
    data = make_data(options.data, options.rows, options.assets, options.beside)
    warm_files(data)
    sizes = ", ".join(f"{table} {data.rows[table]:,} rows, {data.arrow_mib[table]:.0f} MiB" for table in TABLES)
    how = {name: HOW[name] for name in options.contestants}
    found = {"machine": machine(), "data": str(data), "tables": sizes, "how": how}
    if not options.json:
        print(f"{data}; {machine()}\nin Arrow memory: {sizes}")
        for name, said in how.items():
            print(*textwrap.wrap(f"{name}: {said}", 116, subsequent_indent="    "), sep="\n")
    for name in options.questions:
        note(f"{name}: {QUESTIONS[name].__doc__}")
        found[name] = QUESTIONS[name](options, data)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
