"""Organisations, users, keys and tokens on the command line, on SQLite and on a real Postgres, checked with other clients."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import pty
import select
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import argon2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from databases import MIGRATIONS, SCHEMA, Postgres, PostgresDatabase, SqliteDatabase
from harness import FAILURE, OK, USAGE, binary, environment, finish
from admin import PASSWORD, Installation, installation  # noqa: F401 (a fixture)

pytestmark = pytest.mark.local_only

OTHER_PASSWORD = "wrong donkey capacitor"


@pytest.fixture
def acme(installation: Installation) -> Installation:
    """An organisation that may see Unit 1, with an admin."""
    installation.json("org", "create", "Acme Chemicals", "--user-limit", "3")
    installation.json("org", "grant", "acme chemicals", "--location", "Works / Unit 1")
    installation.json("user", "create", "Ada@acme.example", "--org", "Acme Chemicals", "--role", "admin", stdin=f"{PASSWORD}\n")
    return installation


def test_administration_commands_update_tables_and_audit_trail(acme: Installation) -> None:
    shown = acme.json("org", "show", "ACME CHEMICALS")
    assert (shown["users"], shown["user_limit"], shown["assets_visible"], shown["assets_in_catalog"]) == (1, 3, 2, 4)
    assert shown["grants"] == [{"kind": "location", "value": "Works / Unit 1", "access": "read"}]
    assert acme.json("org", "grant", "acme chemicals", "--type", "temperature sensor")["assets_visible"] == 4
    assert "no such asset" in acme.run("org", "grant", "acme chemicals", "--type", "tank").expect(OK).err
    acme.json("org", "revoke", "acme chemicals", "--type", "tank", "--type", "temperature sensor")
    acme.json("user", "create", "gateway@acme.example", "--org", "acme chemicals", "--role", "service", "--ingest")
    made = acme.json("key", "create", "--user", "GATEWAY@acme.example", "--name", "line 3", "--expires", "90d", "--ingest")
    principal = acme.json("token", "check", stdin=made["key"])
    shown = [principal[name] for name in ("user", "role", "may_ingest", "assets_visible")]
    assert shown == ["gateway@acme.example", "service", True, 2]
    token = acme.json("token", "create", "ADA@ACME.example", stdin=PASSWORD)
    principal = acme.json("token", "check", stdin=token["token"])
    assert (principal["user"], principal["role"], principal["may_ingest"]) == ("Ada@acme.example", "admin", False)
    # The tables as seen by other clients.
    value = acme.database.value
    assert value("SELECT name, user_limit FROM organizations") == "Acme Chemicals|3"
    assert value("SELECT email, role FROM users ORDER BY email") == "Ada@acme.example|admin\ngateway@acme.example|service"
    assert value("SELECT id FROM api_keys") == made["id"] == made["key"].split("_")[1]
    assert value("SELECT last_used_at IS NOT NULL FROM api_keys") in ("t", "1")
    argon2.PasswordHasher().verify(value("SELECT password_hash FROM users WHERE role = 'admin'"), PASSWORD)
    secret = made["key"].split("_")[2].encode()
    column = "encode(secret_hash, 'hex')" if "postgres" in acme.database.url else "lower(hex(secret_hash))"
    assert value(f"SELECT {column} FROM api_keys") == hashlib.sha256(secret).hexdigest()
    # The audit trail.
    trail = [(entry["action"], entry["subject"]) for entry in acme.json("audit")]
    assert trail[::-1] == [
        ("org.create", "Acme Chemicals"), ("org.grant", "Acme Chemicals"), ("user.create", "Ada@acme.example"),
        ("org.grant", "Acme Chemicals"), ("org.grant", "Acme Chemicals"), ("org.revoke", "Acme Chemicals"),
        ("user.create", "gateway@acme.example"), ("key.create", made["id"]),
    ]
    assert all(entry["actor"].startswith("operator otto on ") for entry in acme.json("audit"))
    assert acme.json("audit", "--org", "acme chemicals", "--last", "1")[0]["subject"] == made["id"]
    for command in (["org", "list"], ["org", "show", "acme chemicals"], ["user", "list"], ["key", "list"], ["session", "list"]):
        assert "cme" in acme.ok(*command)


def test_user_limit_holds_across_processes(acme: Installation) -> None:
    processes = [
        acme.start("user", "create", f"u{i}@acme.example", "--org", "acme chemicals", "--role", "service") for i in range(24)
    ]
    finished = [finish(process, time.monotonic()) for process in processes]
    made = [one for one in finished if one.code == OK]
    assert len(made) == 2, "\n".join(map(str, finished))
    for one in finished:
        if one.code != OK:
            one.expect(FAILURE)
            assert "has reached its limit of 3 users; it has Ada@acme.example, " in one.err
    assert acme.database.value("SELECT count(*) FROM users") == "3"
    assert acme.database.value("SELECT count(*) FROM audit_trail WHERE action = 'user.create'") == "3"


def test_concurrent_processes_migrate_once(installation: Installation) -> None:
    commands = [["migrate"]] * 6 + [["org", "create", name] for name in ("Acme", "Bolt")]
    processes = [installation.start(*command, "--json") for command in commands]
    finished = [finish(process, time.monotonic()).expect(OK) for process in processes]
    made = [step for one in finished[:6] for step in one.json["made"]]
    assert made.count("1 organisations") <= 1, "\n".join(map(str, finished))
    assert installation.database.value("SELECT count(*) FROM _sqlx_migrations") == str(MIGRATIONS)
    assert installation.json("migrate") | {"database": ""} == {"database": "", "made": [], "version": SCHEMA}


def test_revoked_access_ends_within_seconds(acme: Installation) -> None:
    key = acme.json("key", "create", "--user", "ada@acme.example", "--name", "k")
    changes: list[tuple[tuple[str, ...], str]] = [
        (("org", "deactivate", "acme chemicals"), "the organisation is deactivated"),
        (("user", "deactivate", "ada@acme.example"), "the user is deactivated"),
        (("key", "revoke", key["id"]), "the API key was revoked"),
    ]
    for change, reason in changes:
        following = acme.start("token", "check", "--follow", "--json", stdin=key["key"])
        # The first line shows that the credential was accepted.
        assert json.loads(following.stdout.readline())["user"] == "Ada@acme.example"
        acme.ok(*change)
        began = time.monotonic()
        finished = finish(following, began).expect(OK)
        assert time.monotonic() - began < 10
        assert reason in json.loads(finished.text)["ended"]
        acme.fails("token", "check", stdin=key["key"], error=reason)
        if change[1] == "deactivate":
            acme.ok(change[0], "activate", change[2])


def test_removed_user_frees_place_and_stays_in_audit_trail(acme: Installation) -> None:
    token = acme.json("token", "create", "ada@acme.example", stdin=PASSWORD)["token"]
    acme.ok("user", "remove", "ADA@acme.example")
    acme.fails("token", "check", stdin=token, error="was revoked")
    acme.fails("user", "passwd", "ada@acme.example", stdin=PASSWORD, error="there is no user")
    assert acme.json("org", "show", "acme chemicals")["users"] == 0
    acme.json("user", "create", "ada@acme.example", "--org", "acme chemicals", stdin=PASSWORD)
    assert acme.database.value("SELECT count(*) FROM users") == "2"
    actions = [entry["action"] for entry in acme.json("audit")]
    assert actions.count("user.create") == 2 and actions.count("user.remove") == 1
    # Sessions are ended individually, or all of a user at once.
    first, second, third = (acme.json("token", "create", "ada@acme.example", stdin=PASSWORD) for _ in range(3))
    assert len(acme.json("session", "list", "--user", "ada@acme.example")) == 3
    assert acme.json("session", "revoke", first["session"]) == {"revoked": 1}
    acme.fails("token", "check", stdin=first["token"], error="was revoked")
    acme.json("token", "check", stdin=second["token"])
    acme.ok("user", "passwd", "ada@acme.example", stdin=OTHER_PASSWORD)
    acme.fails("token", "check", stdin=second["token"], error="was revoked")
    acme.fails("token", "create", "ada@acme.example", stdin=PASSWORD, error="wrong e-mail address or password")
    acme.json("token", "create", "ada@acme.example", stdin=OTHER_PASSWORD)
    assert acme.json("session", "revoke", "--user", "ada@acme.example") == {"revoked": 1}
    assert third["session"] != second["session"]


def _public_key(installation: Installation) -> tuple[dict, object]:
    (path,) = installation.keys_dir().glob("*.key")
    assert path.stat().st_mode & 0o777 == 0o600
    file = json.loads(path.read_text())
    private = serialization.load_der_private_key(base64.b64decode(file["signing"]), None)
    return file, private


def _sign(header: dict, claims: dict, sign: Callable[[bytes], bytes]) -> str:
    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{body}.{encode(sign(body.encode()))}"


def test_tokens_verify_with_pyjwt_and_forged_tokens_are_refused(acme: Installation) -> None:
    signed_in = acme.json("token", "create", "ada@acme.example", stdin=PASSWORD)
    token = signed_in["token"]
    file, private = _public_key(acme)
    public = private.public_key()
    claims = jwt.decode(token, public, algorithms=["EdDSA"], audience="plantlake", issuer="plantlake")
    assert set(claims) == {"iss", "aud", "sub", "org", "role", "sid", "jti", "iat", "exp"}
    assert (claims["role"], claims["sid"]) == ("admin", signed_in["session"])
    assert claims["exp"] - claims["iat"] == 12 * 3600
    end = dt.datetime.fromisoformat(signed_in["expires_at"]).timestamp()
    assert claims["exp"] == end
    header = jwt.get_unverified_header(token)
    assert header == {"typ": "at+jwt", "alg": "EdDSA", "kid": file["id"]}

    # A token that another library signed with the right key is valid.
    same = jwt.encode(claims, private, algorithm="EdDSA", headers=header)
    assert acme.json("token", "check", stdin=same)["user"] == "Ada@acme.example"

    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    forged = {
        "alg none": _sign(header | {"alg": "none"}, claims, lambda _: b""),
        "alg None": _sign(header | {"alg": "None"}, claims, lambda _: b"x" * 64),
        "another issuer": jwt.encode(claims | {"iss": "x"}, private, "EdDSA", header),
        "another audience": jwt.encode(claims | {"aud": "x"}, private, "EdDSA", header),
        "expired": jwt.encode(claims | {"exp": int(time.time()) - 1}, private, "EdDSA", header),
        "no expiry": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, private, "EdDSA", header),
        "another user": jwt.encode(claims | {"sub": claims["org"]}, private, "EdDSA", header),
        "changed byte": token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:],
        "last character": token[:-1] + chr(ord(token[-1]) ^ 1),
        "not a token": "a.b.c",
    }
    for name, secret in (("PEM", pem), ("raw", raw), ("PEM without its end", pem.strip())):
        sign = lambda body, secret=secret: hmac.new(secret, body, hashlib.sha256).digest()  # noqa: E731
        forged[f"HS256 with the public key, {name}"] = _sign(header | {"alg": "HS256"}, claims, sign)
    for name, text in forged.items():
        err = acme.fails("token", "check", stdin=text)
        assert "error: the access token" in err or "error: the credential is neither" in err, f"{name}: {err}"

    # Rotating keys ends no session; removing a key ends the sessions that it signed.
    rotated = acme.json("token", "keys", "rotate")
    assert rotated["made"]["signs"] and rotated["deleted"] == []
    acme.json("token", "check", stdin=token)
    newer = acme.json("token", "create", "ada@acme.example", stdin=PASSWORD)["token"]
    assert jwt.get_unverified_header(newer)["kid"] == rotated["made"]["id"] != file["id"]
    acme.ok("token", "keys", "remove", file["id"])
    acme.fails("token", "check", stdin=token, error="unknown key")
    acme.json("token", "check", stdin=newer)
    acme.fails("token", "keys", "remove", file["id"], error="there is no signing key")
    assert [key["id"] for key in acme.json("token", "keys", "list")] == [rotated["made"]["id"]]


def test_key_with_one_changed_character_is_refused(acme: Installation) -> None:
    key = acme.json("key", "create", "--user", "ada@acme.example", "--name", "k")["key"]
    for at in (0, 3, 10, 19, 20, 50, len(key) - 1):
        other = "0" if key[at] != "0" else "1"
        acme.fails("token", "check", stdin=key[:at] + other + key[at + 1 :])
    acme.json("token", "check", stdin=key)


def test_secrets_are_neither_printed_nor_stored(installation: Installation) -> None:
    """Searches all output, logs and stored data for secrets."""
    log = {"PLANTLAKE_LOG": "trace"}
    secrets: dict[str, str] = {"password": PASSWORD, "another password": OTHER_PASSWORD}
    installation.ok("org", "create", "acme", "--json", **log)
    installation.ok("user", "create", "ada@x.y", "--org", "acme", "--role", "admin", stdin=PASSWORD, **log)
    installation.ok("user", "passwd", "ada@x.y", stdin=OTHER_PASSWORD, **log)
    installation.run("token", "create", "ada@x.y", stdin=PASSWORD, **log).expect(FAILURE)
    installation.run("user", "create", "bob@x.y", "--org", "nobody", stdin=PASSWORD, **log).expect(FAILURE)
    # These secrets are shown once, on standard output only.
    for command, name in ((["key", "create", "--user", "ada@x.y", "--name", "k"], "key"), (["token", "create", "ada@x.y"], "token")):
        finished = finish(installation.start(*command, "--json", stdin=OTHER_PASSWORD, **log), time.monotonic()).expect(OK)
        assert finished.text.count(finished.json[name]) == 1
        # A key is pl_<public>_<secret>. Secrets and tokens may contain more underscores.
        secrets[name] = finished.json[name].split("_", 2)[2] if name == "key" else finished.json[name]
        installation.output += finished.err.encode()
    for credential in (secrets["token"], f"pl_0123456789abcdef_{secrets['key']}"):
        installation.run("token", "check", "--json", stdin=credential, **log)
        installation.run("token", "check", stdin=f"{credential}x", **log).expect(FAILURE)
    installation.ok("token", "keys", "rotate", "--json", **log)
    for command in (["audit"], ["key", "list", "--all"], ["user", "list"], ["session", "list"], ["org", "show", "acme"], ["token", "keys", "list"], ["config"]):
        installation.ok(*command, "--json", **log)
        installation.ok(*command, **log)
    for path in installation.keys_dir().glob("*.key"):
        file = json.loads(path.read_text())
        secrets |= {f"signing {path.name}": file["signing"], f"sealing {path.name}": file["sealing"]}
    if "postgres" in installation.database.url:
        secrets["database password"] = installation.database.url.split(":")[2].split("@")[0]
        broken = installation.database.url.replace("@127.0.0.1:", "@127.0.0.1:1", 1)
        installation.run("org", "list", PLANTLAKE_ORGANISATION_URL=broken, **log)
    assert b"sqlx" in installation.output, "the log at level trace is expected to show statements"
    stored = installation.database.dump()
    for name, secret in secrets.items():
        assert secret.encode() not in installation.output, f"{name} was printed"
        assert secret.encode() not in stored, f"{name} was stored"
    hashes = installation.database.value("SELECT password_hash FROM users").encode()
    assert hashes in stored and hashes not in installation.output


def test_original_variables_configure_database(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.new_database()
    installation = Installation(tmp_path, PostgresDatabase(url))
    del installation.settings["PLANTLAKE_ORGANISATION_URL"]
    credentials, place = url.removeprefix("postgres://").split("@")
    user, password = credentials.split(":")
    host, port = place.split("/")[0].split(":")
    (tmp_path / ".env").write_text(
        f"DB_HOST={host}\nDB_PORT={port}\nDB_NAME=chemical\nDB_USER={user}\nDB_PASSWORD={password}\n\n"
        f"auth_host={host}\nauth_port={port}\nauth_db={place.split('/')[1]}\nauth_user={user}\nauth_password={password}\n"
    )
    installation.json("org", "create", "acme")
    assert installation.database.value("SELECT name FROM organizations") == "acme"
    settings = {entry["setting"]: entry for entry in installation.json("config")}
    assert settings["organisation_url"]["value"] == url.replace(password, "******")
    assert settings["mirror_url"]["value"] == f"postgres://{user}:******@{host}:{port}/chemical"
    assert settings["mirror_url"]["source"] == ".env:1"
    assert password.encode() not in installation.output


INVALID_COMMANDS = [
    (["org", "create", ""], "must not be empty", FAILURE, None),
    (["org", "create", "ACME chemicals"], "already", FAILURE, None),
    (["org", "create", "x", "--user-limit", "-1"], "must be between 0 and 100000, not -1", FAILURE, None),
    (["org", "show", "nobody"], "there is no organisation \"nobody\"; `plantlake org list` shows all", FAILURE, None),
    (["org", "grant", "acme chemicals"], "--all", USAGE, None),
    (["org", "grant", "acme chemicals", "--asset", "pump 7"], "is not a UUID", USAGE, None),
    (["org", "grant", "acme chemicals", "--location", " / "], "names no place", USAGE, None),
    (["org", "revoke", "acme chemicals", "--all"], "has no grant of all assets", FAILURE, None),
    (["org", "set-limit", "acme chemicals", "0"], "to 0: it has 1 users: Ada@acme.example", FAILURE, None),
    (["user", "create", "ada", "--org", "acme chemicals"], "is not an e-mail address", USAGE, PASSWORD),
    (["user", "create", "ADA@ACME.example", "--org", "acme chemicals"], "already exists", FAILURE, PASSWORD),
    (["user", "create", "b@c.d", "--org", "acme chemicals"], "at least 12 characters", USAGE, "short"),
    (["user", "create", "b@c.d", "--org", "acme chemicals"], "cannot read the password: standard input is empty", USAGE, ""),
    (["user", "create", "b@c.d", "--org", "acme chemicals", "--role", "root"], "possible values: admin, analyst, service", USAGE, PASSWORD),
    (["user", "change", "ada@acme.example", "--role", "service"], "make another user", FAILURE, None),
    (["user", "change", "ada@acme.example"], "--role", USAGE, None),
    (["key", "create", "--user", "ada@acme.example", "--name", "k", "--ingest"], "`plantlake user change Ada@acme.example --ingest on` permits it", FAILURE, None),
    (["key", "create", "--user", "ada@acme.example", "--name", "k", "--expires", "soon"], "--expires: invalid expiry \"soon\"", USAGE, None),
    (["key", "revoke", "0123456789abcdef"], "there is no key", FAILURE, None),
    (["key", "revoke", "pl_0123456789abcdef_00"], "shell's history", USAGE, None),
    (["session", "revoke", "x"], "invalid session id \"x\"", USAGE, None),
    (["token", "check"], "cannot read the API key or access token: standard input is empty", USAGE, ""),
    (["token", "create", "nobody@x.y"], "wrong e-mail address or password", FAILURE, PASSWORD),
]


def test_invalid_commands_report_cause(acme: Installation) -> None:
    for command, says, code, stdin in INVALID_COMMANDS:
        acme.fails(*command, code=code, error=says, stdin=stdin)
    assert acme.json("org", "show", "acme chemicals")["users"] == 1


def test_unusable_database_is_named_in_error(tmp_path: Path, postgres: Postgres) -> None:
    installation = Installation(tmp_path, SqliteDatabase(f"sqlite:{tmp_path / 'o.db'}"))
    wrong = {
        "mysql://root@localhost/x": (USAGE, "unknown scheme"),
        "sqlite::memory:": (USAGE, "names no file"),
        f"sqlite:{tmp_path}": (FAILURE, str(tmp_path)),
        postgres.url.replace("/postgres", "/nothing_here").replace("postgres:/nothing_here/", "postgres://"): (FAILURE, "nothing_here"),
    }
    for url, (code, says) in wrong.items():
        finished = installation.run("org", "list", PLANTLAKE_ORGANISATION_URL=url).expect(code)
        assert says in finished.err and "rganisation" in finished.err, str(finished)
    (tmp_path / "o.db").write_bytes(b"this is not a database" * 100)
    finished = installation.run("org", "list").expect(FAILURE)
    assert "o.db" in finished.err, str(finished)


def test_key_files_readable_by_others_are_refused(acme: Installation) -> None:
    acme.json("token", "create", "ada@acme.example", stdin=PASSWORD)
    (path,) = acme.keys_dir().glob("*.key")
    path.chmod(0o644)
    acme.fails("token", "create", "ada@acme.example", stdin=PASSWORD, error="mode 644")
    path.chmod(0o600)
    shutil.copytree(acme.keys_dir(), acme.folder / "shared-keys")
    # A server with the same keys accepts the token; one with other keys does not.
    token = acme.json("token", "create", "ada@acme.example", stdin=PASSWORD)["token"]
    acme.ok("token", "check", stdin=token, PLANTLAKE_KEYS_DIR=str(acme.folder / "shared-keys"))
    acme.run("token", "check", stdin=token, PLANTLAKE_KEYS_DIR=str(acme.folder / "other")).expect(FAILURE)


class Typist:
    """Types at a prompt on a pseudo-terminal."""

    def __init__(self, installation: Installation, *args: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(installation.folder)
            os.execve(str(binary()), [str(binary()), *args], environment(installation.settings))
        self.seen = ""

    def expect(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not appear: {self.seen!r}"
            if select.select([self.terminal], [], [], 1)[0]:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        # A prompt without echo discards input that arrives before it is shown.
        time.sleep(0.3)
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        try:
            while chunk := os.read(self.terminal, 4096):
                self.seen += chunk.decode(errors="replace")
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_password_prompt_asks_twice_without_echo(acme: Installation) -> None:
    for second, code in ((OTHER_PASSWORD, USAGE), (PASSWORD, OK)):
        typist = Typist(acme, "user", "create", "bob@acme.example", "--org", "acme chemicals")
        typist.expect("password: ")
        typist.type(f"{PASSWORD}\n")
        typist.expect("password again: ")
        typist.type(f"{second}\n")
        assert typist.end() == code, typist.seen
        assert PASSWORD not in typist.seen and OTHER_PASSWORD not in typist.seen
    assert [user["email"] for user in acme.json("user", "list")] == ["Ada@acme.example", "bob@acme.example"]
    typist = Typist(acme, "token", "create", "bob@acme.example")
    typist.expect("password: ")
    typist.type("\x03")
    assert typist.end() == 130, typist.seen
