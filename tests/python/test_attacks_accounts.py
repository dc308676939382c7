"""Attacks on accounts: password floods, unbounded texts, guesses that should lock others out, and probes for existing accounts.

The plant has two organisations. The attacker is North, and the neighbour is South.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from conftest import LONG
from harness import FAILURE, OK, USAGE
from server import PASSWORD, Plant, Raw, eventually, text_field

pytestmark = pytest.mark.local_only
NEW_PASSWORD = "another horse battery staple"
WRONG_PASSWORD = "a wrong donkey capacitor"
# The maximum number of keys of an organisation.
MAX_KEYS = 20
REFUSALS = (flight.FlightError, pa.ArrowException)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("accounts"), {"PLANTLAKE_AUTH_KEYS_PER_ORGANISATION": str(MAX_KEYS)})
    plant.lake.run(
        "simulate", "--assets", "5", "--days", "1", "--start", "2024-05-01", "--interval", "1h", "--seed", "5"
    ).expect(OK)
    for name in ("North", "South"):
        plant.tenant(name, ["--all"])
    plant.serve()
    yield plant
    assert plant.stop() == OK


# ---- client actions


def sign_in(plant: Plant, email: str, password: str = PASSWORD) -> str:
    """Signs in and returns the access token."""
    client = flight.FlightClient(plant.uri)
    with contextlib.closing(client):
        header = client.authenticate_basic_token(email, password, flight.FlightCallOptions(timeout=60))
    return header[1].decode().removeprefix("Bearer ")


def fail_sign_in(plant: Plant, email: str, password: str = WRONG_PASSWORD) -> float:
    """Signs in with a wrong password and returns the seconds until the answer."""
    began = time.monotonic()
    with pytest.raises(flight.FlightUnauthenticatedError, match="wrong e-mail address or password"):
        sign_in(plant, email, password)
    return time.monotonic() - began


def admin(plant: Plant, tenant: str = "North") -> Raw:
    return Raw(plant.uri, sign_in(plant, f"admin@{tenant.lower()}.example"))


def administer(client: Raw, kind: str, **fields: object) -> dict:
    """Sends an order of the action `plantlake.Administer` and returns its reply."""
    [body] = client.action("plantlake.Administer", json.dumps({"order": kind} | fields).encode())
    return json.loads(body)


def create_user(client: Raw, email: str, role: str = "analyst", **more: object) -> dict:
    fields = {"organisation": None, "email": email, "name": "", "role": role, "password": PASSWORD, "may_ingest": False}
    return administer(client, "create_user", **(fields | more))


def audit_trail(plant: Plant, *more: str) -> list[dict]:
    """Returns the last 500 entries of the audit trail."""
    entries = plant.run("audit", "--last", "500", "--json", *more).expect(OK)
    return json.loads(entries.text)


def time_call(call: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


# ---- audit trail (these tests run before the floods, after which names of unknown accounts are no longer recorded)


def test_failed_sign_ins_are_in_audit_trail(plant: Plant) -> None:
    south_admin = admin(plant, "South")
    create_user(south_admin, "watched@south.example")
    fail_sign_in(plant, "Watched@South.example")
    fail_sign_in(plant, "stranger@nowhere.example")
    fail_sign_in(plant, "my secret password")

    def failed(*more: str) -> dict[str, dict]:
        return {entry["subject"]: entry for entry in audit_trail(plant, *more) if entry["action"] == "sign-in.fail"}

    expected = {"watched@south.example", "stranger@nowhere.example", "(not an e-mail address)"}
    eventually(lambda: expected <= set(failed()), 10)
    entries = failed()
    watched = entries["watched@south.example"]
    assert (watched["organisation"], watched["actor"]) == ("South", "unknown caller")
    assert watched["details"]["count"] == 1 and watched["details"]["addresses"] == ["127.0.0.1"]
    assert entries["stranger@nowhere.example"]["organisation"] is None
    assert "my secret password" not in json.dumps(audit_trail(plant))
    # An admin sees only entries of their own organisation, and no names of operators.
    visible = administer(south_admin, "audit", organisation=None, last=500)["entries"]
    assert {entry["organisation"] for entry in visible} == {"South"}
    assert "watched@south.example" in {entry["subject"] for entry in visible if entry["action"] == "sign-in.fail"}
    assert {entry["actor"] for entry in visible if entry["actor"].startswith("operator")} == {"operator"}
    by_command = plant.run("audit", "--server", plant.uri, "--as", "admin@south.example", "--json", stdin=PASSWORD + "\n")
    assert {entry["organisation"] for entry in json.loads(by_command)} == {"South"}
    with pytest.raises(pa.ArrowException, match="no organisation"):
        administer(south_admin, "audit", organisation="North", last=5)
    with pytest.raises(flight.FlightUnauthorizedError):
        administer(Raw(plant.uri, sign_in(plant, "ana@south.example")), "audit", organisation=None, last=5)
    # The log contains the account and the address.
    line = next(line for line in plant.log if "watched@south.example" in line)
    assert "a sign-in failed" in line and "127.0.0.1" in line, line


# ---- floods


def test_set_password_flood_does_not_delay_other_sign_ins(plant: Plant) -> None:
    client = admin(plant)
    create_user(client, "flooded@north.example")
    quiet = statistics.median(time_call(lambda: sign_in(plant, "ana@south.example")) for _ in range(5))
    outcomes: list[str] = []

    def set_password(_: int) -> None:
        try:
            administer(client, "set_password", email="flooded@north.example", password=NEW_PASSWORD)
            outcomes.append("ok")
        except flight.FlightUnavailableError as error:
            assert "too many passwords are being checked or set at once; try again in" in str(error), error
            outcomes.append("busy")

    with ThreadPoolExecutor(80) as pool:
        flood = [pool.submit(set_password, number) for number in range(80)]
        took = []
        while not all(one.done() for one in flood):
            took.append(time_call(lambda: sign_in(plant, "ana@south.example")))
        for one in flood:
            one.result()
    assert outcomes.count("ok") >= 10 and "busy" in outcomes, outcomes
    assert took, "no sign-in finished during the flood"
    # A sign-in waits for at most one hash of the flood, and shares the two cores with the clients.
    assert max(took) < max(20 * quiet, 1.5), (quiet, took)


def test_sign_in_flood_lets_neighbour_sign_in(plant: Plant) -> None:
    """A flood from one address against unknown accounts: at most ten attempts per second are checked."""
    sign_in(plant, "admin@south.example")
    stop = threading.Event()
    answered: list[float] = []

    def guess(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            with contextlib.suppress(flight.FlightUnauthenticatedError, flight.FlightUnavailableError):
                sign_in(plant, f"{number}-{count}@nowhere.example", WRONG_PASSWORD)
            answered.append(time.monotonic())

    with ThreadPoolExecutor(20) as pool:
        flood = [pool.submit(guess, number) for number in range(20)]
        time.sleep(1.5)
        began = time.monotonic()
        known = [time_call(lambda: sign_in(plant, "admin@south.example")) for _ in range(5)]
        # A user who never signed in from this address waits only for earlier attempts.
        create_user(admin(plant, "South"), "newcomer@south.example")
        newcomer = time_call(lambda: sign_in(plant, "newcomer@south.example"))
        seconds = time.monotonic() - began
        guesses = sum(at >= began for at in answered)
        stop.set()
        for one in flood:
            one.result()
    assert max(known) < 1.5, known
    assert newcomer < 7, newcomer
    assert guesses <= 15 * seconds + 30, (guesses, seconds)


# ---- unbounded texts and numbers

MEGABYTES = "x" * (5 << 20)
LONG_TEXT = "x" * 5_000
ORDERS: dict[str, dict] = {
    "name of a new user": {"order": "create_user", "email": "long@north.example", "name": LONG_TEXT},
    "address of a new user": {"order": "create_user", "email": LONG_TEXT + "@north.example", "name": ""},
    "organisation of a new user": {
        "order": "create_user",
        "email": "long@north.example",
        "name": "",
        "organisation": LONG_TEXT,
    },
    "password of a new user": {"order": "create_user", "email": "long@north.example", "name": "", "password": LONG_TEXT},
    "line break in a name": {"order": "create_user", "email": "long@north.example", "name": "a\nb"},
    "new name": {"order": "change_user", "email": "ana@north.example", "name": LONG_TEXT, "role": None, "may_ingest": None},
    "user to change": {"order": "change_user", "email": LONG_TEXT, "name": "x", "role": None, "may_ingest": None},
    "user to show": {"order": "user", "email": LONG_TEXT},
    "users of an organisation": {"order": "users", "organisation": LONG_TEXT},
    "user of a password": {"order": "set_password", "email": LONG_TEXT, "password": PASSWORD},
    "password": {"order": "set_password", "email": "ana@north.example", "password": LONG_TEXT},
    "user to deactivate": {"order": "set_user_active", "email": LONG_TEXT, "active": False},
    "user to remove": {"order": "remove_user", "email": LONG_TEXT},
    "name of a key": {
        "order": "create_key",
        "user": "ana@north.example",
        "name": LONG_TEXT,
        "expires_at": None,
        "may_ingest": False,
    },
    "user of a key": {"order": "create_key", "user": LONG_TEXT, "name": "x", "expires_at": None, "may_ingest": False},
    "keys of an organisation": {"order": "keys", "organisation": LONG_TEXT, "user": None},
    "keys of a user": {"order": "keys", "organisation": None, "user": LONG_TEXT},
    "key to revoke": {"order": "revoke_key", "id": LONG_TEXT},
    "audit trail of an organisation": {"order": "audit", "organisation": LONG_TEXT, "last": 1},
    "own new password": {"order": "change_own_password", "current": PASSWORD, "new": LONG_TEXT},
    "unknown order": {"order": LONG_TEXT},
}


def database_bytes(plant: Plant) -> int:
    """Returns the size of the organisation database in bytes."""
    folder = plant.lake.state
    return sum(path.stat().st_size for path in folder.glob("organisation.db*"))


def test_long_texts_of_clients_are_refused_and_not_stored(plant: Plant) -> None:
    client = admin(plant)
    before, logged = database_bytes(plant), sum(map(len, plant.log))
    for what, fields in ORDERS.items():
        body = (
            {"organisation": None, "role": "analyst", "password": PASSWORD, "may_ingest": False}
            if fields["order"] == "create_user"
            else {}
        )
        for text in (LONG_TEXT, MEGABYTES):
            sent = json.dumps(body | fields).replace(LONG_TEXT, text)
            # Megabytes are refused before they are read.
            with pytest.raises(pa.ArrowInvalid if text == LONG_TEXT else REFUSALS) as caught:
                client.action("plantlake.Administer", sent.encode())
            assert len(str(caught.value)) < 1_000, what
    others: dict[str, Callable[[], object]] = {
        "action": lambda: client.action("x" * 1_000_000),
        "prepared statement": lambda: client.prepare("SELECT '" + MEGABYTES + "'"),
        "time zone": lambda: client.query(f"SET time_zone = '{'x' * 500_000}'"),
        "schema": lambda: client.query(f"SET schema = '{'x' * 500_000}'"),
        "option's name": lambda: client.action("SetSessionOptions", option("x" * 100_000, "UTC")),
        "many options": lambda: client.action("SetSessionOptions", b"".join(option(f"o{n}", "UTC") for n in range(100))),
        "sign-in": lambda: sign_in(plant, "x" * 5_000, PASSWORD),
    }
    for what, attack in others.items():
        with pytest.raises(REFUSALS) as caught:
            attack()
        assert len(str(caught.value)) < 4_000, (what, str(caught.value)[:200])
    [body] = client.action("SetSessionOptions", option("time_zone", "x" * 100_000))
    assert body, "the value was accepted"
    # The ledger has each call by name, and the texts are not stored.
    assert sum(map(len, plant.log)) - logged < 200_000
    assert database_bytes(plant) - before < 1_000_000
    assert administer(client, "users", organisation=None)["users"], "the server is down"


def option(name: str, value: str) -> bytes:
    """Returns a session option as in SetSessionOptionsRequest."""
    return text_field(1, text_field(1, name) + text_field(2, text_field(1, value)))


COMMANDS: dict[str, list[str]] = {
    "new organisation": ["org", "create", LONG_TEXT],
    "contact": ["org", "create", "Bolt", "--contact", LONG_TEXT],
    "postal address": ["org", "create", "Bolt", "--address", LONG_TEXT],
    "billing address": ["org", "create", "Bolt", "--billing-email", LONG_TEXT],
    "user limit": ["org", "create", "Bolt", "--user-limit", str(2**62)],
    "new user limit": ["org", "set-limit", "North", str(2**62)],
    "organisation to show": ["org", "show", LONG_TEXT],
    "granted location": ["org", "grant", "North", "--location", LONG_TEXT],
    "granted type": ["org", "grant", "North", "--type", LONG_TEXT],
    "granted asset": ["org", "grant", "North", "--asset", LONG_TEXT],
    "revoked type": ["org", "revoke", "North", "--type", LONG_TEXT],
    "user's name": ["user", "create", "s@north.example", "--org", "North", "--role", "service", "--name", LONG_TEXT],
    "user's address": ["user", "create", LONG_TEXT + "@x.y", "--org", "North", "--role", "service"],
    "user's organisation": ["user", "create", "s@north.example", "--org", LONG_TEXT, "--role", "service"],
    "user's new name": ["user", "change", "ana@north.example", "--name", LONG_TEXT],
    "user to deactivate": ["user", "deactivate", LONG_TEXT],
    "user to remove": ["user", "remove", LONG_TEXT],
    "user of a password": ["user", "passwd", LONG_TEXT],
    "key's name": ["key", "create", "--user", "ana@north.example", "--name", LONG_TEXT],
    "key's user": ["key", "create", "--user", LONG_TEXT, "--name", "x"],
    "key to revoke": ["key", "revoke", LONG_TEXT],
    "sessions of a user": ["session", "list", "--user", LONG_TEXT],
    "audit trail of an organisation": ["audit", "--org", LONG_TEXT],
}


def test_long_texts_of_operators_are_refused(plant: Plant) -> None:
    before = database_bytes(plant)
    with ThreadPoolExecutor(2) as pool:
        finished = list(pool.map(lambda command: plant.run(*command), COMMANDS.values()))
    for what, one in zip(COMMANDS, finished, strict=True):
        one.expect(FAILURE, USAGE)
        assert len(one.err) < 2_000, f"{what}: {one}"
    assert database_bytes(plant) - before < 200_000
    assert not [entry for entry in audit_trail(plant) if "x" * 600 in json.dumps(entry)]


def test_long_operator_name_is_truncated_in_audit_trail(plant: Plant) -> None:
    plant.lake.run("org", "create", "Created by a long name", settings={"USER": LONG_TEXT}).expect(OK)
    [entry] = [entry for entry in audit_trail(plant) if entry["subject"] == "Created by a long name"]
    assert entry["actor"].startswith("operator xxx") and len(entry["actor"]) <= 301


def test_keys_above_organisation_limit_are_refused(plant: Plant) -> None:
    client = admin(plant)
    created = []
    with pytest.raises(pa.ArrowInvalid, match=f"the limit is {MAX_KEYS}; revoke some"):
        for number in range(MAX_KEYS + 1):
            fields = {"user": "ana@north.example", "name": f"k{number}", "expires_at": None, "may_ingest": False}
            created.append(administer(client, "create_key", **fields)["made"]["id"])
    assert len(created) >= MAX_KEYS - 2
    for id in created:
        administer(client, "revoke_key", id=id)
    # The neighbour has a separate limit.
    plant.run("key", "create", "--user", "ana@south.example", "--name", "mine").expect(OK)


def test_actions_above_rate_limit_are_refused(plant: Plant) -> None:
    plant.tenant("Limited", ["--all"])
    client = admin(plant, "Limited")
    plant.run("org", "limit", "Limited", "--requests-per-second", "2").expect(OK)
    actions: dict[str, Callable[[], object]] = {
        "set options": lambda: client.action("SetSessionOptions", option("time_zone", "UTC")),
        "get options": lambda: client.action("GetSessionOptions"),
        "close": lambda: client.action("CloseSession"),
        "administer": lambda: administer(client, "users", organisation=None),
        "unknown": lambda: client.action("Nothing"),
        "list": lambda: list(client.flight.list_actions(client.options)),
    }

    def is_limited(action: Callable[[], object]) -> bool:
        try:
            action()
        except REFUSALS as error:
            return "rate limit exceeded: 2 requests per second" in str(error)
        return False

    assert eventually(lambda: any(is_limited(actions["get options"]) for _ in range(5))) < 10
    for name, action in actions.items():
        assert sum(is_limited(action) for _ in range(10)) >= 5, name
    # The neighbour is not limited.
    neighbour = Raw(plant.uri, plant.tenants["South"].key)
    for _ in range(10):
        neighbour.action("GetSessionOptions")


# ---- password guesses


def test_wrong_passwords_delay_guesses_and_do_not_lock_out(plant: Plant) -> None:
    client = admin(plant)
    create_user(client, "owner@north.example")
    took = [fail_sign_in(plant, "owner@north.example") for _ in range(8)]
    assert sum(took[5:]) > 1.5, f"guesses are not delayed: {took}"
    assert time_call(lambda: sign_in(plant, "owner@north.example")) < 5
    # An unknown account is treated in the same way.
    unknown_account = [fail_sign_in(plant, "nobody@north.example") for _ in range(8)]
    assert 0.5 < sum(unknown_account) / sum(took) < 2, (took, unknown_account)
    # The correct password is accepted while others continue to guess.
    stop = threading.Event()

    def guess(_: int) -> int:
        count = 0
        while not stop.is_set():
            with contextlib.suppress(flight.FlightUnauthenticatedError, flight.FlightUnavailableError):
                sign_in(plant, "owner@north.example", WRONG_PASSWORD)
            count += 1
        return count

    with ThreadPoolExecutor(5) as pool:
        began = time.monotonic()
        guesses = [pool.submit(guess, number) for number in range(5)]
        time.sleep(1)
        sign_in_seconds = time_call(lambda: sign_in(plant, "owner@north.example"))
        time.sleep(max(0.0, 3 - (time.monotonic() - began)))
        stop.set()
        count = sum(one.result() for one in guesses)
        seconds = time.monotonic() - began
    assert sign_in_seconds < 8, sign_in_seconds
    assert count <= 2 * seconds + 7, f"{count} guesses in {seconds} s"


def test_guesses_at_many_accounts_from_one_address_do_not_lock_out(plant: Plant) -> None:
    """All clients share one address, as behind a load balancer."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: fail_sign_in(plant, f"guess{number}@nowhere.example"), range(55)))
    for email in ("ana@south.example", "admin@south.example", "ana@north.example"):
        assert time_call(lambda email=email: sign_in(plant, email)) < 3, email


def test_unknown_account_and_wrong_password_get_same_error(plant: Plant) -> None:
    create_user(admin(plant), "alike@north.example")
    texts, times = [], {}
    for email in ("alike@north.example", "unlike@north.example"):
        times[email] = []
        for number in range(5):
            began = time.monotonic()
            with pytest.raises(flight.FlightUnauthenticatedError) as caught:
                sign_in(plant, email, WRONG_PASSWORD)
            times[email].append(time.monotonic() - began)
            texts.append(str(caught.value).split(". Detail")[0])
    assert len({text[:60] for text in texts}) == 1, texts
    known, unknown = (statistics.median(each) for each in times.values())
    assert 0.4 < known / unknown < 2.5, times


# ---- floods of failed sign-ins


def test_failed_sign_in_flood_does_not_fill_audit_trail(plant: Plant) -> None:
    number = 400 if LONG else 25

    def entries() -> list[dict]:
        return [entry for entry in audit_trail(plant) if entry["action"] == "sign-in.fail"]

    before = len(entries())
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: fail_sign_in(plant, "ana@north.example"), range(8)))
        list(pool.map(lambda n: fail_sign_in(plant, f"flood{n}@nowhere.example"), range(number)))
    time.sleep(3)
    after = entries()
    assert len(after) - before <= 130
    known = [entry for entry in after if entry["subject"] == "ana@north.example" and entry["organisation"] == "North"]
    assert 1 <= len(known) <= 3, "guesses at one account are not combined into one entry per minute"


# ---- unknown accounts


def test_create_user_with_foreign_address_does_not_reveal_account(plant: Plant) -> None:
    client = admin(plant)
    create_user(admin(plant, "South"), "taken@shared.example")
    sign_in(plant, "taken@shared.example")
    answers, times = {}, {"taken": [], "free": []}
    for name in ("taken", "free"):
        began = time.monotonic()
        answers[name] = create_user(client, f"{name}@shared.example", password=NEW_PASSWORD)["user"]
        times[name].append(time.monotonic() - began)
    shape = {
        name: {key: value for key, value in user.items() if key not in ("id", "email", "created_at")}
        for name, user in answers.items()
    }
    assert shape["taken"] == shape["free"]
    # All actions of an admin work equally for both users.
    for name in ("taken", "free"):
        email = f"{name}@shared.example"
        assert not json.loads(plant.run("token", "check", "--json", stdin=sign_in(plant, email, NEW_PASSWORD)))["may_ingest"]
        assert (
            administer(client, "change_user", email=email, name="Someone", role=None, may_ingest=None)["user"]["organisation"]
            == "North"
        )
        assert administer(client, "user", email=email)["user"]["organisation"] == "North"
        times[name] += [time_call(lambda email=email: fail_sign_in(plant, email)) for _ in range(3)]
        assert administer(client, "remove_user", email=email)["changed"]
        with pytest.raises(pa.ArrowException, match="there is no user"):
            administer(client, "user", email=email)
        assert create_user(client, email, password=NEW_PASSWORD)["user"]["email"] == email
    assert 0.3 < statistics.median(times["taken"]) / statistics.median(times["free"]) < 3, times
    # The other organisation's user is unchanged.
    checked = json.loads(plant.run("token", "check", "--json", stdin=sign_in(plant, "taken@shared.example")))
    assert checked["organisation"] == "South"
    users = administer(admin(plant, "South"), "users", organisation=None)["users"]
    assert [user["name"] for user in users if user["email"] == "taken@shared.example"] == [""]
    # A duplicate address in the own organisation is an error, whose text may name the duplicate.
    with pytest.raises(REFUSALS, match="already"):
        create_user(client, "taken@shared.example")
    # The operator must name one of the users by id.
    refused = plant.lake.run("user", "deactivate", "taken@shared.example").expect(FAILURE)
    assert "is the address of 2 users; name one by id" in refused.err


# ---- permissions


def test_last_admin_cannot_remove_own_role(plant: Plant) -> None:
    plant.tenant("Lonely", ["--all"])
    client, own = admin(plant, "Lonely"), "admin@lonely.example"
    attempts = {
        "remove": lambda: administer(client, "remove_user", email=own),
        "deactivate": lambda: administer(client, "set_user_active", email=own, active=False),
        "demote": lambda: administer(client, "change_user", email=own, role="analyst", name=None, may_ingest=None),
    }
    for what, attempt in attempts.items():
        with pytest.raises(pa.ArrowInvalid, match="is the last active admin of \"Lonely\""):
            attempt()
        assert administer(client, "user", email=own)["user"]["role"] == "admin", what
    # A deactivated second admin does not count; an active one does.
    create_user(client, "second@lonely.example", role="admin")
    administer(client, "set_user_active", email="second@lonely.example", active=False)
    with pytest.raises(pa.ArrowInvalid):
        attempts["demote"]()
    administer(client, "set_user_active", email="second@lonely.example", active=True)
    assert attempts["demote"]()["user"]["role"] == "analyst"


def test_user_changes_own_password(plant: Plant) -> None:
    plant.tenant("Selfish", ["--all"])
    email = "ana@selfish.example"
    token = sign_in(plant, email)
    client = Raw(plant.uri, token)
    with pytest.raises(pa.ArrowInvalid, match="the current password is wrong"):
        administer(client, "change_own_password", current=WRONG_PASSWORD, new=NEW_PASSWORD)
    with pytest.raises(pa.ArrowInvalid, match="at least 12 characters"):
        administer(client, "change_own_password", current=PASSWORD, new="short")
    with pytest.raises(flight.FlightUnauthorizedError):
        administer(client, "set_password", email="admin@selfish.example", password=NEW_PASSWORD)
    assert administer(client, "change_own_password", current=PASSWORD, new=NEW_PASSWORD)["user"]["email"] == email
    fail_sign_in(plant, email, PASSWORD)
    # The session of the old password ends.
    def is_over() -> bool:
        try:
            client.action("GetSessionOptions")
        except flight.FlightUnauthenticatedError:
            return True
        return False

    eventually(is_over)
    # The command line changes the password back to the first one.
    command = ["user", "passwd", email.upper(), "--server", plant.uri, "--as", email, "--json"]
    changed = json.loads(plant.run(*command, stdin=f"{NEW_PASSWORD}\n{PASSWORD}\n"))
    assert changed["email"] == email
    sign_in(plant, email)
    entries = audit_trail(plant, "--org", "Selfish")
    assert [entry["actor"] for entry in entries if entry["action"] == "user.passwd"] == [f"user {email}"] * 2
