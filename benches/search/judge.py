#!/usr/bin/env python3
"""Determines the assets relevant to the queries of `queries.toml`, by rules over the catalog's fields alone.

    benches/search/judge.py FOLDER        checks the test set against a catalog, and prints the number of relevant assets

A query has `text`, `kind` and `relevant`: a list of rules. A rule has a `grade` (3 exact, 2 good, 1 acceptable) and
conditions, all of which an asset must meet. An asset's grade is the highest of the rules that it meets, or 0.

    level = ["sensor"]                    its node's kind: site, unit, equipment, sensor
    type = ["pressure vessel"]            one of these types
    name_has, name_lacks = ["reactor"]    the name contains one of these, or none of these; case does not matter
    location_has, location_lacks = […]    the same for the location
    tag = "TT-10[1-3]"                    the whole tag, as a regular expression; or a list of tags
    spec.volume_m3 = ">= 10"              a comparison, or several joined by "and"
    spec.unit = ["bar", "mbar"]           one of these values
    spec_has.material = ["steel"]         the text contains one of these; case does not matter
    graph = {relation = "…", to = {…}}    it has an edge to an asset that meets these conditions; or a list of such tables.
                                          flows_to, flows_from, measures, measured_by, part_of, has_part; `to` is optional
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

QUERIES = Path(__file__).with_name("queries.toml")
KINDS = ["words", "synonym", "unit", "number", "misspelling", "role", "tag", "place", "mixed"]
GRADES = [3, 2, 1]
MAX_RELEVANT = 60
# The relation from the perspective of the rule's asset: its name in `graph.json`, and whether that asset is the edge's source.
RELATIONS = {
    "flows_to": ("flows_to", True),
    "flows_from": ("flows_to", False),
    "measures": ("measures", True),
    "measured_by": ("measures", False),
    "part_of": ("part_of", True),
    "has_part": ("part_of", False),
}
COMPARISON = re.compile(r"(<=|>=|<|>|=)\s*(-?\d+(?:\.\d+)?)")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


class TestSetError(Exception):
    """The test set is invalid or does not match the catalog."""


@dataclass
class Catalog:
    assets: dict[str, dict]
    levels: dict[str, str]
    # The edges, by the relation's name in a rule and then by asset.
    neighbours: dict[str, dict[str, list[str]]]

    @classmethod
    def load(cls, folder: Path) -> Catalog:
        assets = {asset["id"]: asset for asset in _read(folder / "assets.json")}
        graph = _read(folder / "graph.json")
        neighbours: dict[str, dict[str, list[str]]] = {name: {} for name in RELATIONS}
        for edge in graph["edges"]:
            for name, (relation, from_source) in RELATIONS.items():
                if relation == edge["relation"]:
                    ends = edge["source"], edge["target"]
                    asset, other = ends if from_source else ends[::-1]
                    neighbours[name].setdefault(asset, []).append(other)
        return cls(assets, {node["id"]: node["kind"] for node in graph["nodes"]}, neighbours)


def _read(file: Path) -> list | dict:
    return json.loads(file.read_text(encoding="utf-8"))


# ------------------------------------------------------------------ conditions


def _has(text: str, words: Iterable[str]) -> bool:
    return any(word.casefold() in text.casefold() for word in words)


def _strings(condition: object) -> list[str]:
    if not isinstance(condition, list) or not condition or not all(isinstance(one, str) and one for one in condition):
        raise TestSetError(f"needs a list of texts, not {condition!r}")
    return condition


def _table(condition: object) -> dict:
    if not isinstance(condition, dict) or not condition:
        raise TestSetError(f"needs a table, not {condition!r}")
    return condition


def _comparisons(text: str) -> list[tuple[str, float]]:
    found = [COMPARISON.fullmatch(part.strip()) for part in text.split(" and ")]
    if None in found:
        raise TestSetError(f'{text!r} is not a comparison such as ">= 5" or ">= 5 and < 8"')
    return [(match[1], float(match[2])) for match in found if match]


def _value_is(value: object, condition: object) -> bool:
    if isinstance(condition, list):
        return value in condition
    if not isinstance(condition, str):
        raise TestSetError(f"needs a comparison or a list of values, not {condition!r}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return all(number and OPERATORS[sign](value, limit) for sign, limit in _comparisons(condition))


def _meets(catalog: Catalog, asset: dict, key: str, condition: object) -> bool:
    """Whether the asset meets the condition `key` of a rule."""
    specifications = asset.get("specifications", {})
    match key:
        case "level":
            return catalog.levels.get(asset["id"]) in _strings(condition)
        case "type":
            return asset["type"] in _strings(condition)
        case "name_has":
            return _has(asset["name"], _strings(condition))
        case "name_lacks":
            return not _has(asset["name"], _strings(condition))
        case "location_has":
            return _has(asset.get("location", ""), _strings(condition))
        case "location_lacks":
            return not _has(asset.get("location", ""), _strings(condition))
        case "tag":
            tag = specifications.get("tag", "")
            return re.fullmatch(condition, tag) is not None if isinstance(condition, str) else tag in _strings(condition)
        case "spec":
            return all(_value_is(specifications.get(name), value) for name, value in _table(condition).items())
        case "spec_has":
            return all(_has(str(specifications.get(name, "")), _strings(words)) for name, words in _table(condition).items())
        case "graph":
            return all(_has_edge(catalog, asset, one) for one in (condition if isinstance(condition, list) else [condition]))
        case _:
            raise TestSetError(f"unknown condition {key!r}")


def _has_edge(catalog: Catalog, asset: dict, condition: object) -> bool:
    table = _table(condition)
    if unknown := table.keys() - {"relation", "to"}:
        raise TestSetError(f"graph: unknown key {min(unknown)!r}")
    if table.get("relation") not in RELATIONS:
        raise TestSetError(f"graph: unknown relation {table.get('relation')!r}; use one of {', '.join(RELATIONS)}")
    others = catalog.neighbours[table["relation"]].get(asset["id"], [])
    return any(_meets_all(catalog, catalog.assets[other], table.get("to", {})) for other in others)


def _meets_all(catalog: Catalog, asset: dict, conditions: dict) -> bool:
    return all(_meets(catalog, asset, key, condition) for key, condition in conditions.items())


def _conditions(rule: dict) -> dict:
    return {key: condition for key, condition in rule.items() if key != "grade"}


# ------------------------------------------------------------------ functions for bench.py


def load_queries(file: Path = QUERIES) -> list[dict]:
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    if unknown := content.keys() - {"query"}:
        raise TestSetError(f"{file.name}: unknown key {min(unknown)!r}")
    return content["query"]


def grades(query: dict, catalog: Catalog) -> dict[str, int]:
    """Returns the grades of all assets that are relevant to the query."""
    graded: dict[str, int] = {}
    for rule in query["relevant"]:
        for asset in catalog.assets.values():
            if _meets_all(catalog, asset, _conditions(rule)):
                graded[asset["id"]] = max(graded.get(asset["id"], 0), rule["grade"])
    return graded


def ndcg(ranking: list[str], grades: dict[str, int], k: int = 10) -> float:
    """Returns the normalised discounted cumulative gain of a ranking, best first. It is 1 for an ideal ranking."""

    def gain(best_first: Iterable[int]) -> float:
        return sum((2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(best_first))

    ideal = gain(sorted(grades.values(), reverse=True)[:k])
    return gain(grades.get(asset, 0) for asset in ranking[:k]) / ideal if ideal else 0.0


# ------------------------------------------------------------------ the check


def _unknown_names(rule: dict, catalog: Catalog) -> Iterable[str]:
    """Yields the names in a rule that do not occur in the catalog: they are misspelt, or it is another catalog."""
    assets = catalog.assets.values()
    known = {
        "level": set(catalog.levels.values()),
        "type": {asset["type"] for asset in assets},
    }
    for key, names in known.items():
        yield from (f"no asset has the {key} {name!r}" for name in rule.get(key, []) if name not in names)
    if isinstance(rule.get("tag"), list):
        tags = {asset.get("specifications", {}).get("tag") for asset in assets}
        yield from (f"no asset has the tag {tag!r}" for tag in rule["tag"] if tag not in tags)
    for key in ["name_has", "name_lacks", "location_has", "location_lacks"]:
        field = key.split("_")[0]
        for word in rule.get(key, []):
            if not any(_has(asset.get(field, ""), [word]) for asset in assets):
                yield f"no asset's {field} has {word!r}"
    for key in ["spec", "spec_has"]:
        for name, condition in rule.get(key, {}).items():
            values = [asset["specifications"][name] for asset in assets if name in asset.get("specifications", {})]
            if not values:
                yield f"no asset has the specification {name!r}"
            elif isinstance(condition, list):
                if key == "spec":
                    unknown = [one for one in condition if one not in values]
                else:
                    unknown = [one for one in condition if not any(_has(str(value), [one]) for value in values)]
                yield from (f"no asset's {name} is or has {one!r}" for one in unknown)
    joins = rule.get("graph", [])
    for join in joins if isinstance(joins, list) else [joins]:
        yield from _unknown_names(join.get("to", {}), catalog)


def _rule_errors(query: dict, catalog: Catalog) -> Iterable[str]:
    best = grades(query, catalog)
    for number, rule in enumerate(query["relevant"], 1):
        yield from (f"rule {number}: {error}" for error in _unknown_names(rule, catalog))
        matched = [asset["id"] for asset in catalog.assets.values() if _meets_all(catalog, asset, _conditions(rule))]
        if not matched:
            yield f"rule {number} matches nothing"
        elif all(best[asset] > rule["grade"] for asset in matched):
            yield f"rule {number} has no effect: rules with a higher grade match all its assets"
    if not 1 <= len(best) <= MAX_RELEVANT:
        yield f"{len(best)} assets are relevant, not 1 to {MAX_RELEVANT}"


def _query_errors(query: dict, catalog: Catalog) -> Iterable[str]:
    if query.keys() != {"text", "kind", "relevant"}:
        yield f"has the keys {', '.join(query)}, not text, kind, relevant"
        return
    if query["kind"] not in KINDS:
        yield f"unknown kind {query['kind']!r}"
    if not isinstance(query["relevant"], list) or not query["relevant"]:
        yield "has no rules"
        return
    for number, rule in enumerate(query["relevant"], 1):
        if rule.get("grade") not in GRADES or not _conditions(rule):
            yield f"rule {number} needs a grade of 1 to 3 and a condition"
            return
    try:
        yield from _rule_errors(query, catalog)
    except (TestSetError, re.error) as error:
        yield str(error)


def check(queries: list[dict], catalog: Catalog) -> list[str]:
    """Returns all errors of the test set."""
    found = [
        f"{query.get('text')!r}: {error}" for query in queries for error in _query_errors(query, catalog)
    ]
    texts = Counter(" ".join(query.get("text", "").casefold().split()) for query in queries)
    found += [f"{text!r}: occurs {count} times" for text, count in texts.items() if count > 1]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the test set of the search against a catalog.")
    parser.add_argument("catalog", type=Path, help="folder of assets.json and graph.json")
    parser.add_argument("--show", metavar="TEXT", help="list the relevant assets of the queries whose text contains TEXT")
    options = parser.parse_args()
    try:
        queries, catalog = load_queries(), Catalog.load(options.catalog)
        errors = check(queries, catalog)
    except (TestSetError, OSError, tomllib.TOMLDecodeError) as error:
        errors = [str(error)]
    if errors:
        print("\n".join(errors), file=sys.stderr)
        return 1
    shown = [query for query in queries if options.show is None or options.show.casefold() in query["text"].casefold()]
    print("| query | kind | " + " | ".join(f"grade {grade}" for grade in GRADES) + " |\n|---|---|" + "---|" * len(GRADES))
    for query in shown:
        graded = grades(query, catalog)
        counts = Counter(graded.values())
        print(f"| {query['text']} | {query['kind']} | " + " | ".join(str(counts[grade]) for grade in GRADES) + " |")
        if options.show is not None:
            for asset, grade in sorted(graded.items(), key=lambda one: -one[1]):
                print(f"    {grade}  {catalog.assets[asset]['name']}  [{catalog.assets[asset]['type']}]")
    kinds = Counter(query["kind"] for query in queries)
    print(f"\n{len(queries)} queries: " + ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
