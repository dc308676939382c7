#!/usr/bin/env python3
"""A benchmark of `search()` on a server, as an ADBC client sees it, with a catalog of 100,000 assets.

    benches/search/speed.py --models FOLDER

The catalog repeats the simulator's about a hundred times with other numbers. The bi-encoder embeds every asset. The queries
are those of `queries.toml`, each with a distinct number, so that no embedding is cached, and then the same again. One caller
may see everything, another a hundredth. The cross-encoder has random weights in the shape of MiniLM-L6, which takes as long
as a trained one. Prints a table, or JSON with `--json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
import uuid
from pathlib import Path

import numpy as np

import bench

REPOSITORY = bench.REPOSITORY
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))

import harness  # noqa: E402
from server import PASSWORD, Plant, Tenant  # noqa: E402

BI_ENCODER = Path("sentence-transformers", "all-MiniLM-L6-v2")
CROSS_ENCODER = Path("cross-encoder", "ms-marco-MiniLM-L6-v2")
SITES = 100
TENANTS = {"Everything": ["--all"], "Hundredth": ["--location", "Site 07"]}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------ the catalog


def make_catalog(base: Path, folder: Path, count: int) -> None:
    """Writes a catalog of `count` assets in sites of equal size. No two assets have the same texts."""
    if (folder / "assets.json").is_file() and len(json.loads((folder / "assets.json").read_text())) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    pattern = [asset for asset in json.loads((base / "assets.json").read_text()) if asset["type"] != "site"]
    rng, made = random.Random(1), []
    for number in range(count):
        asset, site = pattern[number % len(pattern)], number % SITES
        specifications = dict(asset["specifications"])
        for name, value in specifications.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                specifications[name] = round(value * rng.uniform(0.5, 2), 2)
        place = asset["location"].split(" / ", 1)[-1]
        made.append({
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "name": f"{asset['name']} {number // SITES}",
            "type": asset["type"],
            "location": f"Site {site:02} / {place}",
            "specifications": specifications,
        })  # fmt: skip
    (folder / "assets.json").write_text(json.dumps(made, ensure_ascii=False))


def make_cross_encoder(bi_encoder: Path, folder: Path) -> None:
    """Writes a sequence classifier with one output and random weights, in the bi-encoder's shape and with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((bi_encoder / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bi_encoder / name, folder / name)
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    rng, tensors = np.random.default_rng(1), {}

    def linear(name: str, out: int, into: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, 0.05, (out, into))
        tensors[f"{name}.bias"] = np.zeros(out)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(hidden), np.zeros(hidden)

    for name, size in (("word", "vocab_size"), ("position", "max_position_embeddings"), ("token_type", "type_vocab_size")):
        tensors[f"bert.embeddings.{name}_embeddings.weight"] = rng.normal(0, 0.05, (config[size], hidden))
    norm("bert.embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        part = f"bert.encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            linear(f"{part}.attention.self.{name}", hidden, hidden)
        linear(f"{part}.attention.output.dense", hidden, hidden)
        norm(f"{part}.attention.output.LayerNorm")
        linear(f"{part}.intermediate.dense", intermediate, hidden)
        linear(f"{part}.output.dense", hidden, intermediate)
        norm(f"{part}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    linear("classifier", 1, hidden)
    header, data = {}, bytearray()
    for name, tensor in tensors.items():
        begin = len(data)
        data += tensor.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def make_tenant(plant: Plant, name: str, grant: list[str]) -> str:
    """Creates an organisation with one user, and returns the user's key."""
    plant.run("org", "create", name).expect(harness.OK)
    plant.run("org", "grant", name, *grant).expect(harness.OK)
    user = f"ana@{name.lower()}.example"
    plant.run("user", "create", user, "--org", name, "--role", "analyst", stdin=PASSWORD + "\n")
    return plant.run("key", "create", "--user", user, "--name", "bench", "--json").expect(harness.OK).json["key"]


# ------------------------------------------------------------------ queries


def time_searches(plant: Plant, tenant: str, texts: list[str], warm: int, expected: str) -> dict:
    """Times all texts but the first `warm`, in sequence on one connection."""
    times = []
    with plant.with_key(tenant) as connection, connection.cursor() as cursor:
        for number, text in enumerate(texts):
            began = time.perf_counter()
            cursor.execute("SELECT * FROM search(?)", (text,))
            found = cursor.fetch_arrow_table()
            if number >= warm:
                times.append((time.perf_counter() - began) * 1_000)
            ranked_by = found["ranked_by"].to_pylist()
            if found.num_rows != 10 or set(ranked_by) != {expected}:
                raise SystemExit(f"{tenant}, {text!r}: {found.num_rows} rows, ranked by {ranked_by[:1]}")
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "queries": len(times)}


def memory(pid: int) -> dict[str, float]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1_024 for name, key in (("rss_mib", "VmRSS"), ("peak_mib", "VmHWM"))}


def update_index(plant: Plant) -> dict:
    """Updates the index and returns the elapsed time."""
    began = time.monotonic()
    command = [str(plant.binary()), *plant.lake.args(["index", "--json"])]
    subprocess.run(command, env=plant.environment(), cwd=plant.lake.folder, stdout=subprocess.DEVNULL, check=True)
    return {"seconds": time.monotonic() - began}


def measure(plant: Plant, texts: list[str], warm: int, expected: str) -> dict:
    plant.serve()
    try:
        found = {}
        for tenant in ("Everything", "Hundredth"):
            tenant_texts = [f"{text} {tenant.lower()}" for text in texts]
            found[f"{tenant.lower()}, new"] = time_searches(plant, tenant, tenant_texts, warm, expected)
            # The last 50 embeddings are certainly cached.
            found[f"{tenant.lower()}, again"] = time_searches(plant, tenant, tenant_texts[-50:], 0, expected)
        return found | {"memory": memory(plant.process.pid)}
    finally:
        plant.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target" / "release" / "plantlake")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedding model, in Hugging Face's layout")
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--asks", type=int, default=300, help="queries of each kind (%(default)s), after 20 to warm up")
    folder = REPOSITORY / "target" / "bench-search"
    parser.add_argument("--folder", type=Path, default=folder, help="folder for generated files (%(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ["PLANTLAKE_BIN"] = str(options.binary.resolve())
    folder = options.folder.resolve() / f"speed-{options.assets}"
    bench.make_catalog(options.binary, bench.CATALOG)
    make_catalog(bench.CATALOG, folder / "catalog", options.assets)
    bi_encoder_only, with_cross_encoder = folder / "bi-encoder", folder / "with-cross-encoder"
    for models in (bi_encoder_only, with_cross_encoder):
        if not (models / BI_ENCODER).is_dir():
            shutil.copytree(options.models, models / BI_ENCODER)
    make_cross_encoder(with_cross_encoder / BI_ENCODER, with_cross_encoder / CROSS_ENCODER)

    plant = Plant(folder, {"PLANTLAKE_SEARCH_MODELS": str(bi_encoder_only)})
    kept = folder / "keys.json"
    if not kept.is_file():
        kept.write_text(json.dumps({name: make_tenant(plant, name, grant) for name, grant in TENANTS.items()}))
    keys = json.loads(kept.read_text()).values()
    plant.tenants = {name: Tenant(name, grant, key) for (name, grant), key in zip(TENANTS.items(), keys)}
    found = {"assets": options.assets, "commit": bench.commit(), "index": update_index(plant)}
    note(f"the index is up to date after {found['index']['seconds']:.0f} s")
    queries = [query["text"] for query in tomllib.loads((Path(__file__).with_name("queries.toml")).read_text())["query"]]
    warm = 20
    texts = [f"{queries[number % len(queries)]} {number}" for number in range(warm + options.asks)]
    found["bi-encoder"] = measure(plant, texts, warm, "hybrid")
    plant.lake.settings["PLANTLAKE_SEARCH_MODELS"] = str(with_cross_encoder)
    # Records the hashes of the model, as for every model that is not pinned.
    plant.run("models", "fetch", "--only", "cross-encoder").expect(harness.OK)
    found["cross-encoder"] = measure(plant, texts[: warm + options.asks // 3], warm, "cross-encoder")
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print("| | queries | p50 ms | p90 ms | p99 ms |\n|---|---:|---:|---:|---:|")
    for model in ("bi-encoder", "cross-encoder"):
        for part, times in found[model].items():
            if part != "memory":
                figures = f"{times['p50']:.1f} | {times['p90']:.1f} | {times['p99']:.1f}"
                print(f"| {model}, {part} | {times['queries']} | {figures} |")
        memory_used = found[model]["memory"]
        print(f"| {model}, resident MiB | | {memory_used['rss_mib']:.0f} | peak | {memory_used['peak_mib']:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
