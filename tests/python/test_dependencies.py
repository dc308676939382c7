"""Checks Cargo.lock against deny.toml: licences, sources, duplicate and banned versions, and accepted advisories that no longer
apply. `cargo deny check` also looks for new advisories, for which it must download the advisory database."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.local_only
ROOT = Path(__file__).parents[2]
DENY = tomllib.loads((ROOT / "deny.toml").read_text())


@functools.cache
def packages() -> list[dict]:
    """Returns the packages that are built for the targets of deny.toml."""
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    found: dict[str, dict] = {}
    for target in DENY["graph"]["targets"]:
        command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr.decode()
        metadata = json.loads(done.stdout)
        used = {node["id"] for node in metadata["resolve"]["nodes"]}
        found |= {package["id"]: package for package in metadata["packages"] if package["id"] in used}
    assert len(found) > 300
    return list(found.values())


def numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version, without pre-release and build."""
    return tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))


def matches(spec: str, name: str, version: str) -> bool:
    """Whether `name`, `name@=1.2.3` or `name@<1.2.3` matches a package."""
    crate, _, bound = spec.partition("@")
    if crate != name or not bound:
        return crate == name
    if bound.startswith("="):
        return version.split("+")[0] == bound[1:].split("+")[0]
    assert bound.startswith("<") and not bound.startswith("<="), spec
    return numbers(version) < numbers(bound[1:])


def is_allowed(licence: str, allowed: set[str]) -> bool:
    """Whether the allowed licences satisfy an SPDX expression, or one with slashes as in older crates."""
    tokens = re.findall(r"\(|\)|[^\s()]+", licence.replace("/", " OR "))

    def alternatives() -> bool:
        value = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = conjunction() or value
        return value

    def conjunction() -> bool:
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            value = alternatives()
            assert tokens.pop(0) == ")", licence
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    value = alternatives()
    assert not tokens, licence
    return value


def test_licence_expressions_follow_spdx() -> None:
    mit = {"MIT", "Apache-2.0 WITH LLVM-exception"}
    for text in ("MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND MIT", "Apache-2.0 WITH LLVM-exception"):
        assert is_allowed(text, mit), text
    for text in ("GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0", "Apache-2.0 WITH other"):
        assert not is_allowed(text, mit), text


def test_version_bounds_compare_numerically() -> None:
    assert matches("time@<0.3.47", "time", "0.3.9") and not matches("time@<0.3.47", "time", "0.3.47")
    assert matches("toml@=0.7.5", "toml", "0.7.5+spec-1.1.0") and not matches("toml@=0.7.5", "toml", "0.7.50")
    assert matches("openssl-sys", "openssl-sys", "0.9.1") and not matches("openssl", "openssl-sys", "0.9.1")


def test_licences_are_allowed() -> None:
    general = set(DENY["licenses"]["allow"])
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in DENY["licenses"]["exceptions"]}
    wrong = [
        (package["name"], package["license"])
        for package in packages()
        if not is_allowed(package["license"] or "none", general | exceptions.get(package["name"], set()))
    ]
    assert not wrong, f"add these licences to deny.toml if the project can comply with them: {wrong}"
    unused = exceptions.keys() - {package["name"] for package in packages()}
    assert not unused, f"remove these unused exceptions from deny.toml: {unused}"


def test_all_packages_come_from_the_registry() -> None:
    sources = {package["source"] for package in packages()} - {None}
    assert len(sources) == 1 and all(source.startswith("registry+") for source in sources), sources
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    without = [package["name"] for package in locked if "source" in package and "checksum" not in package]
    assert not without, without


def test_duplicate_versions_are_declared() -> None:
    skips = [entry["crate"] for entry in DENY["bans"]["skip"]]
    kept: dict[str, set[str]] = {}
    for package in packages():
        if not any(matches(spec, package["name"], package["version"]) for spec in skips):
            kept.setdefault(package["name"], set()).add(package["version"])
    twice = {name: versions for name, versions in kept.items() if len(versions) > 1}
    assert not twice, f"use one version of each, or declare the older one in deny.toml: {twice}"
    found = [(package["name"], package["version"]) for package in packages()]
    unused = [spec for spec in skips if not any(matches(spec, *one) for one in found)]
    assert not unused, f"remove these entries from deny.toml, no package matches them: {unused}"


def test_banned_versions_are_absent() -> None:
    banned = [
        (package["name"], package["version"], entry["reason"])
        for package in packages()
        for entry in DENY["bans"]["deny"]
        if matches(entry["crate"], package["name"], package["version"])
    ]
    assert not banned, banned


def test_accepted_advisories_apply_and_have_reasons() -> None:
    found = {(package["name"], package["version"]) for package in packages()}
    for entry in DENY["advisories"]["ignore"]:
        assert re.fullmatch(r"RUSTSEC-\d{4}-\d{4}", entry["id"]), entry
        package, _, reason = entry["reason"].partition(": ")
        name, _, version = package.partition(" ")
        assert (name, version) in found, f"remove {entry['id']} from deny.toml: {package} is no longer used"
        assert len(reason) > 40, entry


def test_rand_0_7_has_log_feature_disabled() -> None:
    """deny.toml accepts RUSTSEC-2026-0097 because rand 0.7 without the feature `log` does not depend on the crate log."""
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    [old] = [package for package in locked if package["name"] == "rand" and package["version"].startswith("0.7.")]
    assert "log" not in old["dependencies"]
