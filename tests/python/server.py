"""A running server with several organisations, and independent clients to reach it."""

from __future__ import annotations

import copy
import functools
import json
import queue
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import adbc_driver_flightsql
import adbc_driver_manager
import adbc_driver_flightsql.dbapi as dbapi
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight

from harness import OK, LocalLake, start
from prepared import copy_lake, new_template

PASSWORD = "correct horse battery staple"
SIMULATE = ["simulate", "--assets", "40", "--days", "3", "--start", "2024-05-01", "--interval", "60s", "--seed", "5"]
# The maximum time in seconds until a change takes effect on a running server.
MAX_DELAY_SECONDS = 5.0
BEARER = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
HEADER = adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
TLS_ROOTS = adbc_driver_flightsql.DatabaseOptions.TLS_ROOT_CERTS.value


@dataclass
class Tenant:
    """An organisation with an admin, an analyst and an API key of the analyst."""

    name: str
    grants: list[str]
    key: str = ""
    key_id: str = ""
    assets: set[str] = field(default_factory=set)

    def email(self, who: str) -> str:
        return f"{who}@{self.name.lower()}.example"


class Plant:
    """A lake with a catalog and organisations, and a server on it."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.lake = LocalLake(folder, settings)
        self.process: subprocess.Popen | None = None
        self.uri = ""
        self.log: list[str] = []
        self.tenants: dict[str, Tenant] = {}

    # ---- setup

    def build(self) -> "Plant":
        """Builds a simulated plant. Two organisations have disjoint grants, a third may see everything, and a fourth
        nothing. Without settings, the plant is a copy of one that is built only once."""
        if self.lake.settings:
            return self._build()
        built = _built_plant()
        copy_lake(built.lake.folder, self.lake.folder)
        self.tenants = copy.deepcopy(built.tenants)
        return self

    def _build(self) -> "Plant":
        self.lake.run(*SIMULATE).expect(OK)
        self.lake.resample().expect(OK)
        self.tenant("North", ["--type", "temperature sensor", "--type", "site"])
        self.tenant("South", ["--type", "pressure sensor", "--type", "flow sensor", "--type", "level sensor"])
        self.tenant("Everything", ["--all"])
        self.tenant("Nobody", [])
        for name in ("North", "South"):
            # Sending readings also needs the permission of a user or key, which none has yet.
            self.run("org", "grant", name, *self.tenants[name].grants, "--write").expect(OK)
        return self

    def run(self, *command: str, stdin: str | None = None):
        if stdin is None:
            return self.lake.run(*command)
        process = subprocess.Popen(
            [str(self.binary()), *self.lake.args(list(command))],
            env=self.environment(),
            cwd=self.lake.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = process.communicate(stdin.encode(), timeout=60)
        assert process.returncode == OK, err.decode()
        return out.decode()

    @staticmethod
    def binary() -> Path:
        import harness

        return harness.binary()

    def environment(self) -> dict[str, str]:
        import harness

        return harness.environment(self.lake.settings)

    def tenant(self, name: str, grants: list[str]) -> Tenant:
        tenant = Tenant(name, grants)
        self.run("org", "create", name, "--user-limit", "20").expect(OK)
        if grants:
            self.run("org", "grant", name, *grants).expect(OK)
        for who, role in (("admin", "admin"), ("ana", "analyst")):
            self.run("user", "create", tenant.email(who), "--org", name, "--role", role, stdin=PASSWORD + "\n")
        made = self.run("key", "create", "--user", tenant.email("ana"), "--name", "tests", "--json").expect(OK).json
        tenant.key, tenant.key_id = made["key"], made["id"]
        shown = self.run("org", "show", name, "--json").expect(OK).json
        kinds = {grants[i + 1] for i, flag in enumerate(grants) if flag == "--type"}
        tenant.assets = {a["id"] for a in self.assets() if "--all" in grants or a["type"] in kinds}
        assert shown["assets_visible"] == len(tenant.assets)
        self.tenants[name] = tenant
        return tenant

    def assets(self) -> list[dict]:
        return json.loads((self.lake.folder / "catalog" / "assets.json").read_text())

    # ---- the server

    def serve(self, *flags: str, settings: dict[str, str] | None = None, **more) -> "Plant":
        """Starts the server on a free port and waits until it listens. `more` are options of the process."""
        args = self.lake.args(["serve", "--listen", "127.0.0.1:0", "--json", "--log", "plantlake=info", *flags])
        self.process = start(args, self.lake.settings | (settings or {}), self.lake.folder, **more)
        lines: queue.Queue[bytes] = queue.Queue()
        process = self.process
        threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True).start()
        self.log = log = []
        threading.Thread(target=lambda: [log.append(line.decode()) for line in process.stderr], daemon=True).start()
        try:
            self.startup = json.loads(lines.get(timeout=60))
        except queue.Empty:
            process.kill()
            raise AssertionError(f"the server does not listen:\n{''.join(log)}") from None
        self.uri = self.startup["listening"]
        return self

    def stop(self) -> int:
        """Terminates the server and returns its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.process = None
        return code

    # ---- clients

    def connect(self, tenant: str = "North", who: str = "ana", **options: str) -> dbapi.Connection:
        """Connects by ADBC with a password."""
        login = {"username": self.tenants[tenant].email(who), "password": PASSWORD}
        return connect(self.uri, login | options)

    def with_key(self, tenant: str = "North", **options: str) -> dbapi.Connection:
        """Connects by ADBC with an API key."""
        return connect(self.uri, {BEARER: f"Bearer {self.tenants[tenant].key}"} | options)

    def ask(self, sql: str, tenant: str = "North", parameters: tuple | None = None) -> pd.DataFrame:
        """Runs a query with the organisation's API key."""
        with self.with_key(tenant) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table().to_pandas()

    def client(self, tenant: str | None = "North") -> "Raw":
        """Returns a pyarrow client, which can send messages that no driver would send."""
        key = self.tenants[tenant].key if tenant else None
        return Raw(self.uri, key)


@functools.cache
def _built_plant() -> Plant:
    return Plant(new_template())._build()


def connect(uri: str, options: dict[str, str]) -> dbapi.Connection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dbapi.connect(uri, db_kwargs=options, autocommit=True)


def eventually(check: Callable[[], bool], seconds: float = MAX_DELAY_SECONDS) -> float:
    """Waits until `check` returns true, and returns the elapsed seconds. The server aborts a query if its owner's access is
    reduced meanwhile, and asks the client to retry; so does this function."""
    began = time.monotonic()
    while True:
        try:
            if check():
                return time.monotonic() - began
        except (adbc_driver_manager.OperationalError, flight.FlightUnavailableError) as error:
            if "repeat the request" not in str(error):
                raise
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.05)


# ---- Flight SQL messages encoded by hand, as in FlightSql.proto


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 0x7F
        out += bytes([low | (0x80 if number else 0)])
        if not number:
            return out


def text_field(number: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def bool_field(number: int, value: bool) -> bytes:
    return varint(number << 3) + varint(int(value))


def any_of(name: str, body: bytes = b"") -> bytes:
    """Returns a message packed into a google.protobuf.Any."""
    return text_field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}") + text_field(2, body)


def fields_of(message: bytes) -> dict[int, list]:
    """Returns the fields of a message, without decoding their contents."""
    fields: dict[int, list] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 2:
            size = number()
            value = message[at : at + size]
            at += size
        elif tag & 7 == 0:
            value = number()
        else:
            raise ValueError(f"wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


class Raw:
    """A pyarrow client that sends arbitrary messages."""

    def __init__(self, uri: str, credential: str | None, **options) -> None:
        self.flight = flight.FlightClient(uri, **options)
        headers = [(b"authorization", f"Bearer {credential}".encode())] if credential else []
        self.options = flight.FlightCallOptions(headers=headers, timeout=60)

    def info(self, command: bytes) -> flight.FlightInfo:
        return self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)

    def query(self, sql: str) -> pa.Table:
        info = self.info(any_of("CommandStatementQuery", text_field(1, sql)))
        return self.get(info.endpoints[0].ticket)

    def get(self, ticket: flight.Ticket | bytes) -> pa.Table:
        ticket = ticket if isinstance(ticket, flight.Ticket) else flight.Ticket(ticket)
        return self.flight.do_get(ticket, self.options).read_all()

    def action(self, name: str, body: bytes = b"") -> list[bytes]:
        return [result.body.to_pybytes() for result in self.flight.do_action(flight.Action(name, body), self.options)]

    def prepare(self, sql: str) -> bytes:
        """Returns the handle of a prepared statement."""
        [body] = self.action("CreatePreparedStatement", any_of("ActionCreatePreparedStatementRequest", text_field(1, sql)))
        return fields_of(fields_of(body)[2][0])[1][0]
