#!/usr/bin/env python3
"""A comparison of the methods of `plantlake search` on the queries of `queries.toml`: nDCG@10, with bootstrap intervals.

    benches/search/bench.py --models FOLDER                     bm25, vectors and hybrid
    benches/search/bench.py --models FOLDER --reranked          also with the cross-encoder of the folder

The queries are for measurement only, never for tuning. The simulator generates the catalog, unless it exists (`--catalog`);
the result is always the same. Prints Markdown, and writes `benches/search/result.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import judge

REPOSITORY = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).with_name("result.json")
CATALOG = REPOSITORY / "target" / "bench-search" / "catalog"
# Two whole sites: all equipment that the simulator knows, with all its sensors, twice; 314 assets.
SIMULATE = "simulate --assets 220 --days 1 --start 2026-01-01 --interval 1h --shape clean --seed 1"
METHODS = ["bm25", "vectors", "hybrid"]
# The values of `--by` for these methods.
BY = {"bm25": "bm25", "vectors": "bi-encoder", "hybrid": "hybrid", "reranked": "cross-encoder"}
# The methods that hybrid is compared with, and the improvement that it should have.
BASELINES = ["bm25", "vectors"]
MIN_IMPROVEMENT = 0.02
LIMIT = 10
RESAMPLES = 10_000
SEED = 1


class BenchError(Exception):
    """plantlake failed or returned an invalid result."""


# ------------------------------------------------------------------ plantlake


@dataclass
class Plantlake:
    """The binary with a separate lake and state in `folder`."""

    binary: Path
    folder: Path
    catalog: Path
    models: Path | None = None

    def __call__(self, *arguments: str) -> str:
        """Runs a command with the settings of this benchmark and returns its output."""
        command = [self.binary, "--quiet", "--lake", self.folder / "lake", "--state", self.folder / "state"]
        command += ["--catalog", self.catalog, *arguments]
        # Excludes the settings of the caller and of the working folder.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PLANTLAKE_")}
        if self.models:
            environment["PLANTLAKE_SEARCH_MODELS"] = str(self.models)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def search(self, text: str, method: str) -> list[dict]:
        """Returns the results, best first."""
        # After `--`, so that a query is never parsed as a flag.
        return json.loads(self("search", "--by", BY[method], "--limit", str(LIMIT), "--json", "--", text))


def make_catalog(binary: Path, folder: Path) -> None:
    if not (folder / "assets.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-search-") as scratch:
            Plantlake(binary, Path(scratch), folder)(*SIMULATE.split())


# ------------------------------------------------------------------ comparison


def rank(plantlake: Plantlake, queries: list[dict], catalog: judge.Catalog, method: str) -> dict:
    """Returns the nDCG of each query, run in sequence, and the ranking methods that plantlake reports."""
    scores, ranked_by = [], set()
    started = time.monotonic()
    for query in queries:
        found = plantlake.search(query["text"], method)
        ids = [one["asset_id"] for one in found]
        if len(ids) > LIMIT or len(set(ids)) < len(ids) or not catalog.assets.keys() >= set(ids):
            problem = f"more than {LIMIT} assets, duplicates, or an asset that is not in the catalog"
            raise BenchError(f"{method} on {query['text']!r}: {problem}: {ids}")
        ranked_by |= {str(one.get("ranked_by")) for one in found}
        scores.append(judge.ndcg(ids, judge.grades(query, catalog), LIMIT))
    return {"scores": scores, "ranked_by": sorted(ranked_by), "seconds": time.monotonic() - started}


def difference(scores: list[float], other_scores: list[float]) -> dict[str, float]:
    """Returns the mean difference per query, with a 95 % bootstrap interval over the queries."""
    pairs = [score - other_score for score, other_score in zip(scores, other_scores, strict=True)]
    rng = random.Random(SEED)
    means = sorted(statistics.fmean(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]
    return {"mean": statistics.fmean(pairs), "low": low, "high": high}


def compare(queries: list[dict], scores: dict[str, list[float]]) -> dict:
    """Returns means and differences for all queries and for each kind."""

    def summary(places: list[int]) -> dict:
        """Returns means and differences for the queries at these places."""
        selected = {method: [figures[place] for place in places] for method, figures in scores.items()}
        differences = {f"hybrid-{baseline}": difference(selected["hybrid"], selected[baseline]) for baseline in BASELINES}
        if "reranked" in selected:
            differences["reranked-hybrid"] = difference(selected["reranked"], selected["hybrid"])
        return {
            "queries": len(places),
            "ndcg": {method: statistics.fmean(figures) for method, figures in selected.items()},
            "differences": differences,
        }

    kinds = {kind: [place for place, query in enumerate(queries) if query["kind"] == kind] for kind in judge.KINDS}
    return {"all": summary(list(range(len(queries))))} | {kind: summary(places) for kind, places in kinds.items() if places}


def table(parts: dict) -> str:
    methods, differences = list(parts["all"]["ndcg"]), list(parts["all"]["differences"])
    lines = ["| queries | | " + " | ".join(methods + [name.replace("-", " − ") for name in differences]) + " |"]
    lines += ["|---|---|" + "---|" * (len(methods) + len(differences))]
    for name, part in parts.items():
        cells = [f"{part['ndcg'][method]:.3f}" for method in methods]
        for one in part["differences"].values():
            cells.append(f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})")
        lines.append(f"| {name} | {part['queries']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fingerprint(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run(options: argparse.Namespace) -> dict:
    make_catalog(options.binary, options.catalog)
    queries, catalog = judge.load_queries(), judge.Catalog.load(options.catalog)
    if errors := judge.check(queries, catalog):
        raise BenchError("the test set does not fit the catalog:\n" + "\n".join(errors))
    methods = METHODS + (["reranked"] if options.reranked else [])
    with tempfile.TemporaryDirectory(prefix="bench-search-") as scratch:
        plantlake = Plantlake(options.binary, Path(scratch), options.catalog, options.models)
        plantlake("index")
        ranked = {method: rank(plantlake, queries, catalog, method) for method in methods}
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "simulate": SIMULATE,
        "assets": len(catalog.assets),
        "catalog_sha256": fingerprint(options.catalog / "assets.json", options.catalog / "graph.json"),
        "queries_sha256": fingerprint(judge.QUERIES),
        "models": options.models.name if options.models else None,
        "ranked_by": {method: one["ranked_by"] for method, one in ranked.items()},
        "seconds": {method: round(one["seconds"], 1) for method, one in ranked.items()},
        "resamples": RESAMPLES,
        "seed": SEED,
        "results": compare(queries, {method: one["scores"] for method, one in ranked.items()}),
        "by_query": [
            {"text": query["text"], "kind": query["kind"]}
            | {method: round(one["scores"][place], 4) for method, one in ranked.items()}
            for place, query in enumerate(queries)
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares the methods of `plantlake search` by nDCG@10.")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target" / "release" / "plantlake")
    catalog_help = "folder of the catalog, which the simulator generates if it is missing (%(default)s)"
    parser.add_argument("--catalog", type=Path, default=CATALOG, help=catalog_help)
    parser.add_argument("--models", type=Path, help="folder of the embedding model")
    parser.add_argument("--reranked", action="store_true", help="also measure the cross-encoder among the models")
    parser.add_argument("--result", type=Path, default=RESULT, help="file for the results (%(default)s)")
    options = parser.parse_args()
    # The child processes run in another folder.
    for name in ("binary", "catalog", "models"):
        if path := getattr(options, name):
            setattr(options, name, path.resolve())
    try:
        result = run(options)
    except (BenchError, judge.TestSetError, OSError, tomllib.TOMLDecodeError) as failure:
        print(f"bench.py: {failure}", file=sys.stderr)
        return 1
    options.result.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    everything = result["results"]["all"]
    print(f"{result['date']}, {result['commit']}, {result['assets']} assets, nDCG@{LIMIT}; differences with 95 % intervals\n")
    print(table(result["results"]) + "\n")
    for baseline in BASELINES:
        found = everything["differences"][f"hybrid-{baseline}"]["mean"]
        verdict = "reached" if found >= MIN_IMPROVEMENT else "missed"
        print(f"hybrid − {baseline}: {found:+.3f}, target {MIN_IMPROVEMENT:+.2f}: {verdict}")
    for method, names in result["ranked_by"].items():
        print(f"{method}: ranked by {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
