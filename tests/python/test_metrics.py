"""Every metric that the dashboard or an alert uses exists, and changes when it should."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import shutil
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import adbc_driver_manager
import promql_parser
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import yaml
from cryptography.x509 import load_pem_x509_certificate

from harness import OK, REPOSITORY
from server import BEARER, Plant, any_of, connect, eventually, text_field
from test_schedule import declare, parquet
from test_server import self_signed

pytestmark = pytest.mark.local_only
MONITORING = REPOSITORY / "docs" / "monitoring"
SAMPLE = re.compile(r"^([a-z_]+)(\{.*\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
NAME = re.compile(r"\b(?:plantlake|process)_\w+")
# Sorts 864,000 rows, which takes seconds in a debug build and does not fit into 64 MiB.
LARGE = (
    "SELECT a.asset_id, a.timestamp, a.value + b.value AS v FROM data_min a CROSS JOIN "
    "(SELECT value FROM data_min LIMIT 5) b ORDER BY v, a.timestamp, a.asset_id"
)
# A separate test covers this metric.
CERTIFICATE = "plantlake_certificate_expiry_timestamp_seconds"
# Metrics that depend on settings only.
CONSTANTS = {
    "plantlake_query_places",
    "plantlake_query_memory_limit_bytes",
    "plantlake_spill_limit_bytes",
    "plantlake_journal_limit_bytes",
}


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def series(text: str) -> dict[tuple[str, tuple], float]:
    """Returns the samples of a text by name and labels, and checks that each metric has a type and a help text."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    helps = set(re.findall(r"^# HELP (\S+) .+$", text, re.M))
    assert kinds.keys() == helps
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, line
        name, labels, value = match.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in kinds or kinds.get(family) == "histogram", line
        found[name, tuple(sorted(LABEL.findall(labels or "")))] = float(value)
    return found


class Watch:
    """Reads the metrics repeatedly and records all values."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: dict[tuple[str, tuple], set[float]] = defaultdict(set)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self.read()
            self._stop.wait(0.25)

    def read(self) -> None:
        try:
            text = get(self.url)[1]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return
        for key, value in series(text).items():
            self.seen[key].add(value)

    def value(self, name: str, **labels: str) -> float:
        """Returns the current sum of all series with these labels."""
        # All lines are checked by `read`.
        matches = [SAMPLE.match(line) for line in get(self.url)[1].splitlines() if line.startswith(name)]
        found = [(dict(LABEL.findall(match[2] or "")), float(match[3])) for match in matches if match and match[1] == name]
        return sum(value for given, value in found if labels.items() <= given.items())

    def names(self) -> set[str]:
        return {name for name, _ in self.seen}

    def changed(self) -> set[str]:
        return {name for (name, _), values in self.seen.items() if len(values) > 1}


def expressions() -> list[str]:
    """Returns all PromQL expressions of the dashboard and the alerts."""
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    found = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    found += [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    return found


class WebhookHandler(BaseHTTPRequestHandler):
    """A webhook receiver that rejects the first request and accepts all later ones."""

    calls = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).calls += 1
        self.send_response(500 if self.calls == 1 else 204)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (WebhookHandler,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_promql_expressions_parse() -> None:
    found = expressions()
    assert len(found) > 60
    for expression in found:
        if not expression.startswith("label_values("):
            promql_parser.parse(expression.replace("$__rate_interval", "5m").replace("$instance", ".*"))


def test_metrics_of_dashboard_and_alerts_exist_and_change(tmp_path: Path, webhook: str) -> None:
    settings = {
        "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0",
        "PLANTLAKE_SCHEDULE_WEBHOOK_URL": webhook,
        "PLANTLAKE_SERVE_QUERIES": "2",
        "PLANTLAKE_SERVE_QUERY_MEMORY": "64MiB",
        "PLANTLAKE_SERVE_TOTAL_MEMORY": "128MiB",
        "PLANTLAKE_SERVE_SPILL": "4GiB",
        "PLANTLAKE_SERVE_QUEUE_TIMEOUT": "1s",
        "PLANTLAKE_METERING_SQL": "true",
        "PLANTLAKE_METERING_JOURNAL_SIZE": "1MiB",
        "PLANTLAKE_METERING_JOURNAL_FULL": "go-on",
    }
    plant = Plant(tmp_path, settings).build()
    lake = plant.lake
    declare(lake, "resample", 'schedule = "*/10 * * * * *"\n')
    declare(lake, "mirror", 'schedule = "*/5 * * * * *"\nretries = 0\n')
    declare(lake, "yearly", 'kind = "resample"\nschedule = "0 0 1 1 *"\n')
    path = lake.state / "organisation.db"
    plant.serve("--with-jobs")
    url = plant.startup["metrics"]
    assert get(url.replace("/metrics", "/healthz")) == (200, "ok\n")
    eventually(lambda: get(url.replace("/metrics", "/readyz")) == (200, "ready\n"), 10)
    assert get(url.replace("/metrics", "/nothing"))[0] == 404
    try:
        with Watch(url) as watch, ThreadPoolExecutor(8) as pool:
            insert_foreign_job_runs(path)
            exercise_queries(plant, watch, pool)
            exercise_raw_and_catalog(plant, watch)
            exercise_metering(plant, watch, path)
            eventually(lambda: watch.value("plantlake_job_runs_total", job="mirror", result="failed") > 0, 30)
            eventually(lambda: watch.value("plantlake_webhook_calls_total", result="failed") > 0, 30)
            eventually(lambda: watch.value("plantlake_webhook_calls_total", result="ok") > 0, 30)
            eventually(lambda: watch.value("plantlake_job_runs_taken_over_total", job="yearly") == 1, 60)
            eventually(lambda: watch.value("plantlake_job_runs_total", job="yearly", result="ok") == 1, 60)
            assert watch.value("plantlake_mirror_lag_seconds") >= 3_600
            exercise_shutdown(plant, watch)
    finally:
        plant.stop()
    wanted = {name for expression in expressions() for name in NAME.findall(expression)} - {CERTIFICATE}
    assert wanted - watch.names() == set(), "metrics that do not exist"
    assert wanted - watch.changed() == CONSTANTS & wanted, "metrics that do not change"
    # With other settings, these metrics have other values.
    plant.lake.settings.clear()
    plant.serve(settings={"PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"})
    try:
        other = series(get(plant.startup["metrics"])[1])
        for name in CONSTANTS:
            assert other[name, ()] not in watch.seen[name, ()], name
    finally:
        assert plant.stop() == OK


def insert_foreign_job_runs(path: Path) -> None:
    """Inserts a run whose process has died, and a mirror job that finished an hour ago."""
    now = dt.datetime.now(dt.UTC)
    text = lambda time: f"{time:%Y-%m-%dT%H:%M:%S.000000Z}"  # noqa: E731
    hour = dt.timedelta(hours=1)
    rows = [
        ("yearly", text(now), "running", None),
        ("mirror", text(now - hour), "ok", text(now - hour + dt.timedelta(minutes=1))),
    ]
    connection = sqlite3.connect(path, timeout=20)
    for job, at, status, end in rows:
        connection.execute(
            "INSERT INTO job_runs (id, job, scheduled_for, by_hand, status, attempt, failures, holder, beats, host, pid, started_at,"
            " renewed_at, ended_at) VALUES (?, ?, ?, 0, ?, 1, 0, ?, 0, 'elsewhere', 1, ?, ?, ?)",
            [str(uuid.uuid4()), job, at, status, str(uuid.uuid4()), at, at, end],
        )
    connection.commit()
    connection.close()


def exercise_queries(plant: Plant, watch: Watch, pool: ThreadPoolExecutor) -> None:
    count = lambda kind, status: watch.value("plantlake_requests_total", kind=kind, status=status)  # noqa: E731
    before = count("query", "OK")
    for _ in range(3):
        plant.ask("SELECT * FROM data_h ORDER BY timestamp LIMIT 10", "Everything")
    assert count("query", "OK") == before + 3
    assert watch.value("plantlake_cache_requests_total", cache="plans", result="hit") >= 2
    assert watch.value("plantlake_cache_requests_total", cache="credentials", result="hit") > 0
    with pytest.raises(adbc_driver_manager.ProgrammingError):
        plant.ask("SELECT nothing FROM data_h", "Everything")
    assert count("plan", "INVALID_ARGUMENT") >= 1
    with pytest.raises(adbc_driver_manager.Error):
        with connect(plant.uri, {BEARER: "Bearer pl_nobody_knows"}) as unknown, unknown.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert watch.value("plantlake_unknown_callers_total") > 0
    asset = next(iter(plant.tenants["Everything"].assets))
    plant.run("org", "grant", "Everything", "--all", "--write", "--share-writing").expect(OK)
    plant.run("user", "create", "gate@everything.example", "--org", "Everything", "--role", "service", "--ingest").expect(OK)
    made = plant.run("key", "create", "--user", "gate@everything.example", "--name", "gate", "--ingest", "--json").expect(OK).json
    with connect(plant.uri, {BEARER: f"Bearer {made['key']}"}) as gate, gate.cursor() as cursor:
        table = pa.table({"id": [asset], "timestamp": pa.array([1_716_000_000_000_000], pa.timestamp("us", "UTC")), "value": [1.0]})
        cursor.adbc_ingest("raw_readings", table, mode="append")
    assert watch.value("plantlake_rows_ingested_total") == 1
    # More large queries at once than permits, with a queue timeout of 1 s.
    def large() -> str:
        try:
            with plant.with_key("Everything") as connection, connection.cursor() as cursor:
                cursor.execute(LARGE)
                cursor.fetch_record_batch().read_next_batch()
            return "done"
        except (adbc_driver_manager.Error, OSError) as error:
            return str(error)

    outcomes = list(pool.map(lambda _: large(), range(4)))
    assert any("the server is busy" in outcome for outcome in outcomes), outcomes
    assert any(outcome == "done" for outcome in outcomes), outcomes
    assert watch.value("plantlake_queries_cut_short_total", reason="waited") > 0
    eventually(lambda: watch.value("plantlake_queries_running") == 0, 20)
    assert max(watch.seen["plantlake_queries_waiting", ()]) > 0
    assert max(watch.seen["plantlake_spill_bytes", ()]) > 0
    plant.run("org", "limit", "North", "--requests-per-second", "1").expect(OK)

    def refused() -> bool:
        try:
            plant.ask("SELECT 1", "North")
            return False
        except adbc_driver_manager.Error as error:
            return "requests per second" in str(error)

    eventually(refused, 20)
    assert watch.value("plantlake_refused_requests_total", limit="rate") > 0


def exercise_raw_and_catalog(plant: Plant, watch: Watch) -> None:
    lake = plant.lake
    eventually(lambda: watch.value("plantlake_job_runs_total", job="resample", result="ok") > 0, 30)
    asset = next(iter(plant.tenants["Everything"].assets))
    run = watch.value("plantlake_published_run")
    newest = watch.value("plantlake_table_newest_bucket_timestamp_seconds", table="data_min")
    number = 0

    def is_behind() -> bool:
        nonlocal number
        number += 1
        lake.put(f"late{number}.parquet", parquet([(asset, 1_716_100_000_000_000 + number * 60_000_000, 1.0)]))
        time.sleep(0.5)
        return watch.value("plantlake_table_lag_seconds", table="data_d") > 0 and watch.value("plantlake_raw_files_waiting") > 0

    eventually(is_behind, 40)
    eventually(lambda: watch.value("plantlake_table_lag_seconds") == 0 and watch.value("plantlake_raw_files_waiting") == 0, 40)
    eventually(lambda: watch.value("plantlake_published_run") > run, 20)
    assert watch.value("plantlake_table_newest_bucket_timestamp_seconds", table="data_min") > newest
    assert watch.value("plantlake_job_rows_total", job="resample") > 0
    # An unreadable publication.
    broken = lake.root / "published" / "0000999999.json"
    broken.write_text("no JSON")
    eventually(lambda: watch.value("plantlake_lake_looks_total", result="failed") > 0, 20)
    broken.unlink()
    assets = lake.folder / "catalog" / "assets.json"
    right = assets.read_text()
    assets.write_text(right[:-20])
    eventually(lambda: watch.value("plantlake_catalog_reloads_total", result="refused") == 1, 20)
    renamed = json.loads(right)
    other = lake.folder / "catalog" / "id2assets.json"
    renamed[0]["name"] = "another"
    other.unlink(missing_ok=True)
    (lake.folder / "catalog" / "graph.json").unlink(missing_ok=True)
    assets.write_text(json.dumps(renamed))
    eventually(lambda: watch.value("plantlake_catalog_reloads_total", result="ok") >= 1, 20)


def exercise_metering(plant: Plant, watch: Watch, path: Path) -> None:
    """Locks the database for a while, so that the journal fills."""
    eventually(lambda: watch.value("plantlake_journal_records") == 0, 30)
    added = watch.value("plantlake_ledger_records_total")
    blocker = sqlite3.connect(path, timeout=20, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        def drops() -> bool:
            with plant.with_key("Everything") as connection, connection.cursor() as cursor:
                for _ in range(20):
                    # The text is in the records, so that a few hundred fill the journal.
                    cursor.execute(f"SELECT 1 -- {'x' * 3_000}")
                    cursor.fetchall()
            return watch.value("plantlake_unrecorded_requests_total") > 0

        eventually(drops, 120)
        assert watch.value("plantlake_journal_records") > 100
        assert watch.value("plantlake_ledger_lag_seconds") > 0
        assert watch.value("plantlake_journal_bytes") > 500_000
    finally:
        blocker.rollback()
        blocker.close()
    eventually(lambda: watch.value("plantlake_journal_records") == 0, 60)
    assert watch.value("plantlake_ledger_lag_seconds") == 0
    assert watch.value("plantlake_ledger_records_total") > added + 100


def exercise_shutdown(plant: Plant, watch: Watch) -> None:
    """During shutdown, while a result is still being sent, the process reports that it is not ready."""
    client = plant.client("Everything")
    endless = "SELECT a.*, b.value AS other FROM data_min a CROSS JOIN (SELECT value FROM data_min LIMIT 500) b"
    info = client.info(any_of("CommandStatementQuery", text_field(1, endless)))
    reader = client.flight.do_get(info.endpoints[0].ticket, client.options)
    reader.read_chunk()
    plant.process.terminate()
    ready = watch.url.replace("/metrics", "/readyz")
    eventually(lambda: get(ready) == (503, "stopping\n"), 10)
    assert get(watch.url.replace("/metrics", "/healthz"))[0] == 200
    assert watch.value("plantlake_ready") == 0
    watch.read()
    reader.cancel()


def test_certificate_expiry_metric_follows_certificate(tmp_path: Path) -> None:
    """An alert uses the metric of the certificate's expiry; a server without TLS does not have it."""
    assert any(CERTIFICATE in expression for expression in expressions())

    def ends(name: str) -> float:
        return load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes()).not_valid_after_utc.timestamp()

    plant = Plant(tmp_path, {"PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}).build()
    live = self_signed(tmp_path, "live", days=3)
    plant.serve("--tls-cert", str(live[0]), "--tls-key", str(live[1]))
    try:
        watch = Watch(plant.startup["metrics"])
        first = ends("live")
        assert watch.value(CERTIFICATE) == first
        # The key is replaced first; with the old certificate it has no effect.
        other = self_signed(tmp_path, "other", days=90)
        shutil.copy(other[1], live[1])
        shutil.copy(other[0], live[0])
        eventually(lambda: watch.value(CERTIFICATE) == ends("other") > first, 10)
    finally:
        assert plant.stop() == OK
    plant.serve()
    try:
        assert CERTIFICATE not in {name for name, _ in series(get(plant.startup["metrics"])[1])}
    finally:
        assert plant.stop() == OK


def test_metric_labels_contain_no_client_text(tmp_path: Path) -> None:
    plant = Plant(tmp_path, {"PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}).build().serve()
    try:
        plant.ask("SELECT 'a secret' AS x", "Everything")
        client = plant.client("Everything")
        with pytest.raises(pa.ArrowNotImplementedError):
            client.action("a name that nobody knows")
        text = get(plant.startup["metrics"])[1]
        for foreign in ("secret", "nobody knows", "Everything", plant.tenants["Everything"].key_id):
            assert foreign not in text
        assert len(series(text)) < 1_000
    finally:
        assert plant.stop() == OK


def test_server_without_metrics_port_answers_queries(tmp_path: Path) -> None:
    plant = Plant(tmp_path).build()
    with HTTPServer(("127.0.0.1", 9464), BaseHTTPRequestHandler) if is_free(9464) else contextlib.nullcontext():
        plant.serve()
        try:
            assert plant.startup["metrics"] is None
            assert any("metrics are not served" in line for line in plant.log)
            assert plant.ask("SELECT 1 AS one", "Everything")["one"][0] == 1
        finally:
            assert plant.stop() == OK


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

