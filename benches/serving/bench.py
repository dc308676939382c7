#!/usr/bin/env python3
"""A benchmark of `plantlake serve`, ROAPI, a bare Flight server and DuckDB on the same tables.

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
from clients import BULK_SQL, MIX, ConcurrentClients, QueryGenerator, run_in_process
from contestants import (
    DESCRIPTIONS, REPOSITORY, SQL_SERVERS, TABLES, Data, Server, available_contestants, make_data, warm_files,
)  # fmt: skip
from measure import MIB, Sampler, machine, medians, note, quantiles, show

DEFAULT_DATA = REPOSITORY / "target" / "bench-serving"
LEVELS = [1, 2, 4, 8, 16, 64]


@contextmanager
def servers(names: list[str], data: Data) -> Iterator[dict[str, Server]]:
    """Starts new servers for each benchmark, so that their peak memory is that of this benchmark."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Server(name, data)) for name in names}


def memory(server: Server, client_figures: list[dict]) -> dict[str, float]:
    """Returns the resident memory and its peak. DuckDB's memory is that of its clients."""
    if server.process:
        return server.memory()
    return {figure: max(each[figure] for each in client_figures) for figure in ("rss_mib", "peak_mib")}


# ------------------------------------------------------------------ benchmarks


def point(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of the hours of one asset in one month, in sequence on one connection."""
    names = [name for name in options.contestants if name != "bare"]
    source = QueryGenerator(data, "point")
    queries = [source.point() for _ in range(options.warm + options.asks)]
    figures: dict[str, list[dict]] = {name: [] for name in names}
    bound: dict[str, list[dict]] = {name: [] for name in names}
    expected = None
    with servers(names, data) as running:
        for turn in range(options.rounds):
            for name, server in running.items():
                for results, with_parameters in ((figures[name], False), (bound[name], True)):
                    result = run_in_process(clients.time_points, server.access, queries, options.warm, with_parameters)
                    if "refused" in result:
                        if not name.startswith("roapi"):
                            raise SystemExit(f"{name}: {result['refused']}")
                        note(f"  {name} supports no parameters: {result['refused']}")
                        continue
                    expected = expected or result["answers"]
                    check_answers(name, queries[options.warm :], result.pop("answers"), expected)
                    results.append(result | quantiles(result.pop("ms")))
                note(f"  turn {turn + 1}: {name:12} {figures[name][-1]['p50']:8.2f} ms")
        found = {}
        for name, server in running.items():
            found[name] = memory(server, figures[name] + bound[name]) | {
                "literals_ms": medians(figures[name]),
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
        title = f"hours of an asset in a month, {options.asks:,} queries, {options.rounds} rounds; ? is with parameters"
        show(title, heads, rows)
    return found


def check_answers(name: str, queries: list, answers: list, expected: list) -> None:
    """Checks that a contestant returned the same rows and the same sum of values as the others."""
    for query, (rows, total), (other_rows, other_total) in zip(queries, answers, expected, strict=True):
        same = math.isclose(total, other_total, rel_tol=1e-9)
        if not (rows == other_rows == query.rows and same):
            raise SystemExit(f"{name} returned {rows} rows, sum {total}, not {other_rows}, {other_total}: {query.sql}")


def bulk(options: argparse.Namespace, data: Data) -> dict:
    """A query of all minutes, as a stream of record batches."""
    figures: dict[str, list[dict]] = {name: [] for name in options.contestants}
    with servers(options.contestants, data) as running:
        for turn in range(options.rounds):
            for name, server in running.items():
                result = run_in_process(clients.read_all, server.access, BULK_SQL)
                if result["rows"] != data.rows["data_min"]:
                    raise SystemExit(f"{name} returned {result['rows']} rows, not {data.rows['data_min']}")
                figures[name].append(result)
                note(f"  turn {turn + 1}: {name:12} {result['seconds']:8.2f} s")
        found = {}
        for name, server in running.items():
            seconds = statistics.median(each["seconds"] for each in figures[name])
            size = figures[name][0]["bytes"]
            found[name] = memory(server, figures[name]) | {
                "seconds": seconds,
                "rows_s": data.rows["data_min"] / seconds,
                "mb_s": size / seconds / 1e6,
                "bytes": size,
                "client_peak_mib": max(each["peak_mib"] for each in figures[name]),
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
        show(f"{BULK_SQL}: {data.rows['data_min']:,} rows, {options.rounds} rounds, the median", heads, rows)
    return found


def many(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of many concurrent clients."""
    names = [name for name in options.contestants if name in SQL_SERVERS]
    figures: dict[str, dict[int, list[dict]]] = {name: {level: [] for level in LEVELS} for name in names}
    with servers(names, data) as running:
        for turn in range(options.rounds):
            for level in LEVELS:
                for name, server in running.items():
                    seed = f"many {turn} {level}"
                    load = ConcurrentClients(server.access, data, level, {"point": 1}, options.level_seconds, seed)
                    results = load.start().results()
                    require_no_errors(name, results["errors"])
                    speed = quantiles(results["ms"]["point"])
                    speed["queries_s"] = speed["count"] / results["seconds"]
                    figures[name][level].append(speed)
                    note(f"  turn {turn + 1}: {level:3} of {name:12} {speed['queries_s']:8.0f} queries/s")
        found = {
            name: {level: medians(rounds) for level, rounds in levels.items()} | memory(running[name], [])
            for name, levels in figures.items()
        }
    if not options.json:
        for title, figure in (("queries/s", "queries_s"), ("p99 in ms", "p99")):
            rows = [
                [name, *(each[level][figure] for level in LEVELS), each["rss_mib"], each["peak_mib"]]
                for name, each in found.items()
            ]  # fmt: skip
            show(f"point queries, {title}, by number of connections", ["", *map(str, LEVELS), "RSS MiB", "peak MiB"], rows)
    return found


def soak(options: argparse.Namespace, data: Data) -> dict:
    """A mix of queries of many clients over time, which must cause neither errors nor growth of memory."""
    found = {}
    ends = options.soak_seconds
    early = min(10, ends // 2)
    for name in options.attacked_servers:
        with Server(name, data) as server:
            load = ConcurrentClients(server.access, data, options.clients, MIX, ends, "soak")
            with Sampler(server.process.pid, 1.0) as sampler:
                results = load.start().results()
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
        mix = "90 % point queries, 9 % a day of one asset, 1 % a week of ten assets"
        show(f"{options.clients} clients for {ends} s: {mix}", heads, rows)
        rows = [
            [f"{name}, {kind}", speed["count"], speed["p50"], speed["p90"], speed["p99"], speed["max"]]
            for name, each in found.items() for kind, speed in each["ms"].items()
        ]  # fmt: skip
        show("latency", ["", "count", "p50 ms", "p90", "p99", "max"], rows)
        for each in found.values():
            for error in each["first_errors"]:
                print(f"error: {error[:112]}")
    return found


def require_no_errors(name: str, errors: list[str]) -> None:
    if errors:
        raise SystemExit(f"{name}: {len(errors)} queries failed: {errors[0]}")


BENCHMARKS: dict[str, Callable[[argparse.Namespace, Data], dict]] = {
    "point": point,
    "bulk": bulk,
    "many": many,
    "soak": soak,
    "hostile": hostile.run,
    "metering": metering.cost,
    "neighbour": metering.neighbour,
    "builds": builds.compare_builds,
}


# ------------------------------------------------------------------ the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", action="store_true", help="latency of one client: hours of an asset in a month")
    parser.add_argument("--bulk", action="store_true", help="throughput of a stream of all minutes")
    parser.add_argument("--many", action="store_true", help=f"point queries on {', '.join(map(str, LEVELS))} connections")
    parser.add_argument("--soak", action="store_true", help="errors and memory with mixed queries of many clients")
    parser.add_argument("--hostile", action="store_true", help="latency of an honest client during attacks")
    parser.add_argument("--metering", action="store_true", help="cost of metering, compared with a build without metering")
    parser.add_argument(
        "--neighbour", action="store_true", help="latency of an organisation beside one that exceeds its rate limit"
    )
    parser.add_argument("--builds", action="store_true", help="compare this build with --beside: point, mixed and bulk queries")
    parser.add_argument(
        "--beside", type=Path, metavar="PLANTLAKE", help="the other build for --builds, which also generates the data"
    )
    parser.add_argument(
        "--restricted", action="store_true", help="with --builds: query as an organisation that sees half of the assets"
    )
    parser.add_argument(
        "--contestants",
        help=f"comma-separated, of {','.join(DESCRIPTIONS)} "
        "[those that are built or installed; --soak and --hostile: plantlake]",
    )
    parser.add_argument("--rows", type=int, help="minimum number of minutes [10000000]")
    parser.add_argument("--assets", type=int, help="number of assets [100]")
    parser.add_argument("--rounds", type=int, help="rounds, whose median is printed [3]")
    parser.add_argument("--asks", type=int, help="queries per round of --point, after a tenth as many to warm up [2000]")
    parser.add_argument("--level-seconds", type=float, help="seconds for each number of connections of --many [5]")
    parser.add_argument("--runs", type=int, help="runs of --metering and --builds [10]")
    parser.add_argument("--neighbour-seconds", type=int, help="seconds per turn of --neighbour [20]")
    parser.add_argument("--soak-seconds", type=int, help="seconds of --soak [60]")
    parser.add_argument("--clients", type=int, default=64, help="clients of --soak [64]")
    parser.add_argument("--query-memory", default="64MiB", help="serve.query_memory with --hostile; empty: the default [64MiB]")
    parser.add_argument("--without", default="", help="attacks to skip, such as handshakes,statements")
    parser.add_argument("--quick", action="store_true", help="little data and short rounds, to test the benchmark itself")
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
    if named and not set(named) <= set(DESCRIPTIONS):
        parser.error(f"--contestants must be of {', '.join(DESCRIPTIONS)}")
    if named and not set(named) <= set(available_contestants()):
        parser.error(f"not built or installed: {', '.join(sorted(set(named) - set(available_contestants())))}")
    options.contestants = named or available_contestants()
    options.attacked_servers = [name for name in named or ["plantlake"] if name in SQL_SERVERS]
    chosen = [name for name in BENCHMARKS if getattr(options, name)]
    if options.builds and not (options.beside and options.beside.is_file()):
        parser.error("--builds needs the path of another build in --beside")
    options.benchmarks = chosen or ["point", "bulk", "many"]
    return options


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the exit handlers, which end the servers
    options = arguments()
    # Both builds can read the state of the older one.
    data = make_data(options.data, options.rows, options.assets, options.beside)
    warm_files(data)
    sizes = ", ".join(f"{table} {data.rows[table]:,} rows, {data.arrow_mib[table]:.0f} MiB" for table in TABLES)
    descriptions = {name: DESCRIPTIONS[name] for name in options.contestants}
    found = {"machine": machine(), "data": str(data), "tables": sizes, "descriptions": descriptions}
    if not options.json:
        print(f"{data}; {machine()}\nin Arrow memory: {sizes}")
        for name, description in descriptions.items():
            print(*textwrap.wrap(f"{name}: {description}", 116, subsequent_indent="    "), sep="\n")
    for name in options.benchmarks:
        note(f"{name}: {BENCHMARKS[name].__doc__}")
        found[name] = BENCHMARKS[name](options, data)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
