"""Tests of compose.yaml, the Dockerfile and their inputs. There is no Docker engine, so the tests run the programs without
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

# The program in tests/compose, which uses the library of Docker Compose. tests/run builds it.
COMPOSE = REPOSITORY / ".compose" / "compose"


def compose(text: str | None = None, settings: dict[str, str] | None = None, folder: Path = REPOSITORY) -> dict:
    """Returns compose.yaml, or the file `text`, as parsed by Docker Compose, and checks that it is valid."""
    assert COMPOSE.exists(), ".compose is missing; tests/run builds it"
    file = folder / "compose.yaml"
    if text is not None:
        file.write_text(text)
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | (settings or {})
    done = subprocess.run([str(COMPOSE), str(file)], env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def compose_with_demo() -> dict:
    """Returns compose.yaml including the services that run on demand only."""
    return compose(settings={"COMPOSE_PROFILES": "demo"})


def example_variables() -> dict[str, str]:
    """Returns the variables of .env.example, including those that are commented out."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    """The services of compose.yaml that start by default."""
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


def test_compose_parser_rejects_invalid_file(tmp_path: Path) -> None:
    text = (REPOSITORY / "compose.yaml").read_text()
    for good, bad in (
        ("healthcheck:", "healthchek:"),
        ("networks: [databases]", "networks: [elsewhere]"),
        ("secrets: [postgres_password]", "secrets: [password]"),
    ):
        with pytest.raises(AssertionError):
            compose(text.replace(good, bad, 1), folder=tmp_path)


def test_env_example_lists_all_compose_variables() -> None:
    text = (REPOSITORY / "compose.yaml").read_text()
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    assert used == example_variables()
    assert text.count("${") == len(re.findall(r"\$\{[A-Z_]+:-", text)), "a variable has no default"
    changed = compose(settings={"PUBLISH": "0.0.0.0:6000", "LAKE_VOLUME": "./elsewhere"})["services"]["plantlake"]
    assert changed["ports"][0]["published"] == "6000"
    assert any(volume["source"].endswith("/elsewhere") and volume["type"] == "bind" for volume in changed["volumes"])


def test_plantlake_ignores_compose_variables_in_env_file(tmp_path: Path) -> None:
    # plantlake reads .env in its working folder, too, and refuses unknown settings.
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in example_variables().items()))
    harness.run(["config"], cwd=tmp_path).expect(OK)


def test_compose_publishes_ports_on_loopback_only(services: dict[str, dict]) -> None:
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert [(port["host_ip"], port["target"]) for port in published.pop("plantlake")] == [("127.0.0.1", 50051)]
    assert not any(published.values())
    model = compose()
    assert model["networks"]["databases"]["internal"] is True
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {"plantlake"}


def test_compose_limits_resources_and_privileges(services: dict[str, dict]) -> None:
    assert set(services) == {"plantlake", "postgres", "qdrant"}
    demo = compose_with_demo()["services"]["demo"]
    assert demo["network_mode"] == "none" and demo["cap_drop"] == ["ALL"] and demo["deploy"]["resources"]["limits"]["memory"]
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped" and service["logging"]["options"]["max-size"], name
    settings = services["plantlake"]["environment"]
    size = {"GiB": 1 << 30}
    names = ("PLANTLAKE_SERVE_TOTAL_MEMORY", "PLANTLAKE_RESAMPLE_MEMORY")
    configured = sum(int(settings[name].removesuffix("GiB")) * size["GiB"] for name in names)
    memory = services["plantlake"]["deploy"]["resources"]["limits"]["memory"]
    assert int(memory.removesuffix("G")) * (1 << 30) - configured >= 1 << 30, "less than 1 GiB is left for everything else"
    assert services["plantlake"]["read_only"] is True
    writable = {volume["target"] for volume in services["plantlake"]["volumes"] if not volume.get("read_only")}
    assert writable == {"/srv/plantlake/lake", "/var/lib/plantlake"}


def test_compose_environment_has_no_secret(services: dict[str, dict], secrets: Path) -> None:
    text = json.dumps(services)
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|SECRET|TOKEN", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    assert (secrets / "postgres_password").read_text() not in text
    model = compose()
    assert {Path(secret["file"]).name for secret in model["secrets"].values()} <= {path.name for path in secrets.iterdir()}


# ---- deploy/make-secrets


def test_make_secrets_creates_random_private_secrets(secrets: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    other = tmp_path / "other"
    assert make_secrets(other).returncode == 0
    passwords = [(folder / "postgres_password").read_text() for folder in (secrets, other)]
    assert passwords[0] != passwords[1] and all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    for url in tomllib.loads((secrets / "plantlake.toml").read_text()).values():
        assert f":{passwords[0]}@postgres:5432/" in url


def test_make_secrets_keeps_existing_secrets(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    again = make_secrets(secrets)
    assert again.returncode == 1 and "is there already" in again.stderr
    assert before == {path.name: path.read_bytes() for path in secrets.iterdir()}
    wrong = make_secrets(secrets.parent / "wrong", "a,DNS:evil.example")
    assert wrong.returncode == 1 and "not the name of a machine" in wrong.stderr and not (secrets.parent / "wrong").exists()


def test_make_secrets_certificate_covers_given_names(secrets: Path) -> None:
    for name, flag in (
        ("localhost", "-verify_hostname"),
        ("history.example", "-verify_hostname"),
        ("127.0.0.1", "-verify_ip"),
        ("192.0.2.7", "-verify_ip"),
    ):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(secrets / "ca.pem")]
        command += [flag, name, str(secrets / "tls_cert.pem")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    assert not (secrets / "ca.key").exists()


# ---- Dockerfile


def test_dockerfile_passes_hadolint() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(linter), str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_image_runs_as_unprivileged_user(services: dict[str, dict]) -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user and user[1] != "0"
    assert f"--uid {user[1]}" in last and f"--gid {user[2]}" in last
    demo = compose_with_demo()["services"]["demo"]
    volumes = [volume for service in (services["plantlake"], demo) for volume in service["volumes"]]
    writable = {volume["target"] for volume in volumes if not volume.get("read_only")}
    assert {volume["source"] for volume in demo["volumes"]} == {"lake", "catalog"}
    pattern = r"install --directory --owner=plantlake --group=plantlake (.*?)(?: \\)?$"
    owned = " ".join(re.findall(pattern, last, re.MULTILINE)).split()
    assert writable <= set(owned), "a new volume of this container belongs to root"


def test_dockerignore_keeps_all_files_of_the_build(tmp_path: Path) -> None:
    """The files that .dockerignore includes are a complete package with all files that are compiled in."""
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        source = REPOSITORY / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    for source in (tmp_path / "src").rglob("*.rs"):
        if source.name == "tests.rs" or "tests" in source.relative_to(tmp_path).parts:
            continue
        for path in re.findall(r'include_(?:str|bytes)!\(\s*(?:concat!\()?"([^"]+)"', source.read_text()):
            message = f"{source.relative_to(tmp_path)} includes {path}, which .dockerignore excludes"
            assert (source.parent / path).exists(), message
    if cargo := shutil.which("cargo"):
        done = subprocess.run(
            [cargo, "metadata", "--locked", "--no-deps", "--format-version", "1"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr
        [package] = json.loads(done.stdout)["packages"]
        assert "plantlake" in {target["name"] for target in package["targets"] if "bin" in target["kind"]}
        image = re.search(r"FROM rust:([\d.]+)-", (REPOSITORY / "Dockerfile").read_text())[1]
        assert image == package["rust_version"].removesuffix(".0"), "the image and the manifest have different Rust versions"


# ---- the services, without a container engine


@pytest.fixture(scope="module")
def running(
    services: dict[str, dict], secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Plant, list[str]]]:
    """A plantlake server started as in compose.yaml, with a Postgres that is set up as there, and the command of its health
    check."""
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
    # The paths in the container, and their equivalents on this machine.
    local_paths = {
        "/run/secrets": folder / "run",
        "/srv/plantlake/lake": folder / "lake",
        "/var/lib/plantlake": folder / "state",
        "/etc/plantlake/catalog": folder / "catalog",
        "/etc/plantlake/jobs": REPOSITORY / "jobs",
    }
    shutil.copytree(secrets, folder / "run")
    settings_file = folder / "run" / "plantlake.toml"
    settings_file.write_text(settings_file.read_text().replace("postgres:5432", server))
    metrics = free_port()

    def to_local(text: str) -> str:
        """Replaces paths of the container."""
        for path, real in local_paths.items():
            text = text.replace(path, str(real))
        return text

    settings = {name: to_local(value) for name, value in service["environment"].items()}
    settings |= {"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{metrics}"}
    # This machine has no Qdrant server; tests/vectors covers it.
    del settings["PLANTLAKE_QDRANT_URL"]
    plant = Plant(folder, settings)
    command = [to_local(word) for word in service["command"]]
    flags, rest = command[:2], command[3:]
    assert command[2] == "serve"
    plant.lake.args = lambda words: [*flags, *words]
    plant.run(*compose_with_demo()["services"]["demo"]["command"]).expect(OK)
    plant.tenant("Northfield", ["--all"])
    plant.serve(*rest)
    program, *check = [to_local(word) for word in service["healthcheck"]["test"][1:]]
    assert program == "plantlake"
    yield plant, [str(harness.binary()), *check]
    # A test may have stopped the server already.
    plant.stop()
    postgres.stop()


def free_port() -> int:
    """Returns a port on which no program listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_tls_client_with_ca_connects_and_without_fails(running: tuple[Plant, list[str]], secrets: Path) -> None:
    plant, _ = running
    assert plant.uri.startswith("grpc+tls://")
    login = {"username": plant.tenants["Northfield"].email("ana"), "password": PASSWORD}
    trusting = {TLS_ROOTS: (secrets / "ca.pem").read_text()}
    with connect(plant.uri, login | trusting) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM assets")
        assert cursor.fetchone()[0] == len(plant.assets())
    with pytest.raises(adbc_driver_manager.Error, match="certificate|tls|x509"), connect(plant.uri, login) as connection:
        connection.cursor().execute("SELECT 1")


def test_health_check_fails_after_server_stops(running: tuple[Plant, list[str]]) -> None:
    plant, check = running
    options = {"env": plant.environment(), "timeout": 10, "capture_output": True}
    assert subprocess.run(check, **options).stdout == b"ready\n"
    assert plant.stop() == OK
    assert subprocess.run(check, **options).returncode == harness.FAILURE


def test_databases_of_init_script_have_tables(running: tuple[Plant, list[str]]) -> None:
    plant, _ = running
    listed = plant.run("org", "list", "--json").expect(OK).text
    assert "Northfield" in listed and "@postgres" not in listed
    plant.run("resample").expect(OK, harness.LEFT_OUT)
    plant.run("mirror").expect(OK)
    mirror = tomllib.loads((plant.lake.folder / "run" / "plantlake.toml").read_text())["mirror_url"]
    assert int(psql(mirror.split("?")[0], "SELECT count(*) FROM data_h")) > 0
