"""compose.yaml, the Dockerfile and their inputs. There is no Docker engine, so the tests run the programs without
containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pytest
import tomllib

import harness
from databases import Postgres, psql
from harness import OK, REPOSITORY
from server import PASSWORD, TLS_ROOTS, Plant, connect

pytestmark = pytest.mark.local_only

# tests/compose, a program with the library of Docker Compose; tests/run builds it.
COMPOSE = REPOSITORY / ".compose" / "compose"


def compose(text: str | None = None, settings: dict[str, str] | None = None, folder: Path = REPOSITORY) -> dict:
    """Returns compose.yaml, or the file `text`, as parsed by Docker Compose, and checks that it is valid."""
    assert COMPOSE.exists(), "there is no .compose: tests/run builds it"
    file = folder / "compose.yaml"
    if text is not None:
        file.write_text(text)
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | (settings or {})
    done = subprocess.run([str(COMPOSE), str(file)], env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def whole() -> dict:
    """Returns compose.yaml with the services that run on demand only."""
    return compose(settings={"COMPOSE_PROFILES": "demo"})


def examples() -> dict[str, str]:
    """Returns the variables of .env.example, including those that are commented out."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    return compose()["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that deploy/make-secrets creates."""
    folder = tmp_path_factory.mktemp("secrets") / "secrets"
    made = make_secrets(folder, "history.example", "192.0.2.7")
    assert made.returncode == 0, made.stderr
    return folder


def make_secrets(folder: Path, *names: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(REPOSITORY / "deploy/make-secrets"), *names],
        env=os.environ | {"PLANTLAKE_SECRETS": str(folder)}, capture_output=True, text=True, timeout=60,
    )


# ---- compose.yaml


def test_the_library_would_find_a_mistake(tmp_path: Path) -> None:
    text = (REPOSITORY / "compose.yaml").read_text()
    for good, bad in (("healthcheck:", "healthchek:"), ("networks: [databases]", "networks: [elsewhere]"), ("secrets: [postgres_password]", "secrets: [password]")):
        with pytest.raises(AssertionError):
            compose(text.replace(good, bad, 1), folder=tmp_path)


def test_what_may_be_set_is_what_is_written_in_the_example() -> None:
    written = (REPOSITORY / "compose.yaml").read_text()
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", written))
    assert used == examples()
    assert written.count("${") == len(re.findall(r"\$\{[A-Z_]+:-", written)), "a variable has no default"
    changed = compose(settings={"PUBLISH": "0.0.0.0:6000", "LAKE_VOLUME": "./elsewhere"})["services"]["plantlake"]
    assert changed["ports"][0]["published"] == "6000"
    assert any(volume["source"].endswith("/elsewhere") and volume["type"] == "bind" for volume in changed["volumes"])


def test_plantlake_can_be_used_beside_the_file_of_variables(tmp_path: Path) -> None:
    # plantlake reads .env in its folder, too, and refuses unknown settings.
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in examples().items()))
    harness.run(["config"], cwd=tmp_path).expect(OK)


def test_nothing_is_reached_from_beyond_this_machine(services: dict[str, dict]) -> None:
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert [(port["host_ip"], port["target"]) for port in published.pop("plantlake")] == [("127.0.0.1", 50051)]
    assert not any(published.values())
    model = compose()
    assert model["networks"]["databases"]["internal"] is True
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {"plantlake"}


def test_each_service_is_kept_within_limits(services: dict[str, dict]) -> None:
    assert set(services) == {"plantlake", "postgres", "qdrant"}
    demo = whole()["services"]["demo"]
    assert demo["network_mode"] == "none" and demo["cap_drop"] == ["ALL"] and demo["deploy"]["resources"]["limits"]["memory"]
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped" and service["logging"]["options"]["max-size"], name
    settings = services["plantlake"]["environment"]
    size = {"GiB": 1 << 30}
    taken = sum(int(settings[name].removesuffix("GiB")) * size["GiB"] for name in ("PLANTLAKE_SERVE_TOTAL_MEMORY", "PLANTLAKE_RESAMPLE_MEMORY"))
    memory = services["plantlake"]["deploy"]["resources"]["limits"]["memory"]
    assert int(memory.removesuffix("G")) * (1 << 30) - taken >= 1 << 30, "less than a gibibyte is left for everything else"
    assert services["plantlake"]["read_only"] is True
    assert {volume["target"] for volume in services["plantlake"]["volumes"] if not volume.get("read_only")} == {"/srv/plantlake/lake", "/var/lib/plantlake"}


def test_no_secret_is_in_the_environment(services: dict[str, dict], secrets: Path) -> None:
    told = json.dumps(services)
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|SECRET|TOKEN", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    assert (secrets / "postgres_password").read_text() not in told
    model = compose()
    assert {Path(secret["file"]).name for secret in model["secrets"].values()} <= {path.name for path in secrets.iterdir()}


# ---- deploy/make-secrets


def test_secrets_are_random_and_only_their_owner_gets_at_them(secrets: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    other = tmp_path / "other"
    assert make_secrets(other).returncode == 0
    passwords = [(folder / "postgres_password").read_text() for folder in (secrets, other)]
    assert passwords[0] != passwords[1] and all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    for url in tomllib.loads((secrets / "plantlake.toml").read_text()).values():
        assert f":{passwords[0]}@postgres:5432/" in url


def test_secrets_that_are_there_stay(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    again = make_secrets(secrets)
    assert again.returncode == 1 and "is there already" in again.stderr
    assert before == {path.name: path.read_bytes() for path in secrets.iterdir()}
    wrong = make_secrets(secrets.parent / "wrong", "a,DNS:evil.example")
    assert wrong.returncode == 1 and "not the name of a machine" in wrong.stderr and not (secrets.parent / "wrong").exists()


def test_the_certificate_is_for_the_names_that_were_given(secrets: Path) -> None:
    for name, flag in (("localhost", "-verify_hostname"), ("history.example", "-verify_hostname"), ("127.0.0.1", "-verify_ip"), ("192.0.2.7", "-verify_ip")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(secrets / "ca.pem"), flag, name, str(secrets / "tls_cert.pem")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    assert not (secrets / "ca.key").exists()


# ---- Dockerfile


def test_a_linter_has_nothing_against_the_dockerfile() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(linter), str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_a_user_that_is_not_root(services: dict[str, dict]) -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user and user[1] != "0"
    assert f"--uid {user[1]}" in last and f"--gid {user[2]}" in last
    demo = whole()["services"]["demo"]
    writable = {volume["target"] for service in (services["plantlake"], demo) for volume in service["volumes"] if not volume.get("read_only")}
    assert {volume["source"] for volume in demo["volumes"]} == {"lake", "catalog"}
    owned = " ".join(re.findall(r"install --directory --owner=plantlake --group=plantlake (.*?)(?: \\)?$", last, re.MULTILINE)).split()
    assert writable <= set(owned), "a new volume would belong to root"


def test_what_the_build_is_given_is_what_it_needs(tmp_path: Path) -> None:
    """The files that .dockerignore includes are a complete package with all files that are compiled in."""
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        source = REPOSITORY / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    for source in (tmp_path / "src").rglob("*.rs"):
        if source.name == "tests.rs" or "tests" in source.relative_to(tmp_path).parts:
            continue
        for path in re.findall(r'include_(?:str|bytes)!\(\s*(?:concat!\()?"([^"]+)"', source.read_text()):
            assert (source.parent / path).exists(), f"{source.relative_to(tmp_path)} takes in {path}, which is left out"
    if cargo := shutil.which("cargo"):
        done = subprocess.run(
            [cargo, "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        [package] = json.loads(done.stdout)["packages"]
        assert "plantlake" in {target["name"] for target in package["targets"] if "bin" in target["kind"]}
        image = re.search(r"FROM rust:([\d.]+)-", (REPOSITORY / "Dockerfile").read_text())[1]
        assert image == package["rust_version"].removesuffix(".0"), "the image has another Rust than the manifest asks for"


# ---- the services, without a container engine


@pytest.fixture(scope="module")
def running(services: dict[str, dict], secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plant, list[str]]]:
    """plantlake as compose.yaml starts it, with a Postgres that is set up as there, and the command of its health check."""
    folder = tmp_path_factory.mktemp("container")
    postgres = Postgres()
    server = re.search(r"@([^/]+)/", postgres.url)[1]
    password = (secrets / "postgres_password").read_text()
    psql(postgres.url, f"CREATE ROLE plantlake SUPERUSER LOGIN PASSWORD '{password}'")
    psql(postgres.url, "CREATE DATABASE organisation OWNER plantlake")
    own = f"postgres://plantlake:{password}@{server}/organisation"
    script = REPOSITORY / "deploy/postgres-init.sql"
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", own, "-f", str(script)], check=True, timeout=60)

    service = services["plantlake"]
    # Paths in the container, and their equivalents here.
    inside = {"/run/secrets": folder / "run", "/srv/plantlake/lake": folder / "lake", "/var/lib/plantlake": folder / "state"}
    inside |= {"/etc/plantlake/catalog": folder / "catalog", "/etc/plantlake/jobs": REPOSITORY / "jobs"}
    shutil.copytree(secrets, folder / "run")
    settings_file = folder / "run" / "plantlake.toml"
    settings_file.write_text(settings_file.read_text().replace("postgres:5432", server))
    metrics = free_port()

    def here(text: str) -> str:
        for path, real in inside.items():
            text = text.replace(path, str(real))
        return text

    settings = {name: here(value) for name, value in service["environment"].items()}
    settings |= {"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{metrics}"}
    # There is no Qdrant server here; tests/vectors covers it.
    del settings["PLANTLAKE_QDRANT_URL"]
    plant = Plant(folder, settings)
    command = [here(word) for word in service["command"]]
    flags, rest = command[:2], command[3:]
    assert command[2] == "serve"
    plant.lake.args = lambda words: [*flags, *words]
    plant.run(*whole()["services"]["demo"]["command"]).expect(OK)
    plant.tenant("Northfield", ["--all"])
    plant.serve(*rest)
    program, *check = [here(word) for word in service["healthcheck"]["test"][1:]]
    assert program == "plantlake"
    yield plant, [str(harness.binary()), *check]
    # The server may have ended already.
    plant.stop()
    postgres.stop()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_client_that_trusts_the_authority_is_answered(running: tuple[Plant, list[str]], secrets: Path) -> None:
    plant, _ = running
    assert plant.uri.startswith("grpc+tls://")
    login = {"username": plant.tenants["Northfield"].email("ana"), "password": PASSWORD}
    trusting = {TLS_ROOTS: (secrets / "ca.pem").read_text()}
    with connect(plant.uri, login | trusting) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM assets")
        assert cursor.fetchone()[0] == len(plant.assets())
    with pytest.raises(adbc_driver_manager.Error, match="certificate|tls|x509"), connect(plant.uri, login) as connection:
        connection.cursor().execute("SELECT 1")


def test_the_health_check_tells_a_server_that_is_there_from_one_that_is_not(running: tuple[Plant, list[str]]) -> None:
    plant, check = running
    inside = {"env": plant.environment(), "timeout": 10, "capture_output": True}
    assert subprocess.run(check, **inside).stdout == b"ready\n"
    assert plant.stop() == OK
    assert subprocess.run(check, **inside).returncode == harness.FAILURE


def test_tables_are_in_the_databases_that_were_made(running: tuple[Plant, list[str]]) -> None:
    plant, _ = running
    shown = plant.run("org", "list", "--json").expect(OK).text
    assert "Northfield" in shown and "@postgres" not in shown
    plant.run("resample").expect(OK, harness.LEFT_OUT)
    plant.run("mirror").expect(OK)
    mirror = tomllib.loads((plant.lake.folder / "run" / "plantlake.toml").read_text())["mirror_url"]
    assert int(psql(mirror.split("?")[0], "SELECT count(*) FROM data_h")) > 0
