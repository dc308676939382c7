"""Declarations of clients and files are not trusted. The tests change messages in transit, and construct Parquet files, so that
they declare false row counts, lengths and decompressed sizes. The server runs with an address-space limit of 8 GiB, so that
an allocation of a declared size would end the process."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import adbc_driver_manager
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from forged import (
    BINARY, FALSE, I32, I64, LIST, STRUCT, DeclaredList, ForgedFile, Patcher, i32, i64, parquet, varint, zigzag,
)
from harness import LEFT_OUT, OK
from server import Plant, Raw, any_of, eventually, fields_of, text_field

pytestmark = pytest.mark.local_only
GIB = 1 << 30
ADDRESS_SPACE = 8 * GIB
# A number that occurs only once in a message, so that it can be found and replaced.
MARKER = 31_337
HUGE = 1 << 62
START_MICROS = 1_717_200_000_000_000


def limit_address_space() -> dict:
    """Returns process options that limit the address space to 8 GiB."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("decoding")).build()
    email = "gateway@north.example"
    plant.run("user", "create", email, "--org", "North", "--role", "service", "--ingest").expect(OK)
    created = plant.run("key", "create", "--user", email, "--name", "line", "--ingest", "--json").expect(OK).json
    plant.tenants["North"].gateway = created["key"]
    settings = {"PLANTLAKE_SERVE_LARGEST_INGEST": "32MiB", "PLANTLAKE_SERVE_UNREAD_TIMEOUT": "2s"}
    plant.serve(settings=settings, **limit_address_space())
    yield plant
    assert plant.stop() == OK


def peak_memory(plant: Plant) -> int:
    """Returns the peak memory of the server in bytes, since it was last reset."""
    status = Path(f"/proc/{plant.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


@pytest.fixture(autouse=True)
def server_within_memory(plant: Plant) -> Iterator[None]:
    """Checks after each test that the server is up, has used little memory, and answers other clients."""
    Path(f"/proc/{plant.process.pid}/clear_refs").write_text("5")
    before = peak_memory(plant)
    yield
    assert plant.process.poll() is None
    assert peak_memory(plant) - before < 600 << 20
    assert plant.ask("SELECT 1 AS one")["one"][0] == 1


def put(uri: str, key: str, command: bytes, batches: list[pa.RecordBatch], **options) -> bytes:
    """Sends batches with a command and returns the server's reply."""
    client = Raw(uri, key)
    headers = [(b"authorization", f"Bearer {key}".encode())]
    call_options = flight.FlightCallOptions(headers=headers, timeout=30, write_options=pa.ipc.IpcWriteOptions(**options))
    writer, reader = client.flight.do_put(flight.FlightDescriptor.for_command(command), batches[0].schema, call_options)
    try:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        return reader.read().to_pybytes()
    finally:
        writer.close()


def assert_refused(message: str, *arguments, kind: type = pa.ArrowInvalid, **options) -> None:
    with pytest.raises((kind, flight.FlightError)) as error:
        put(*arguments, **options)
    assert message in str(error.value), str(error.value)[:1000]


def ingest_command() -> bytes:
    return any_of("CommandStatementIngest", text_field(2, "raw_readings"))


def handle_of(plant: Plant) -> bytes:
    handle = plant.client().prepare("SELECT $1 AS one")
    return any_of("CommandPreparedStatementQuery", text_field(1, handle))


def own_asset(plant: Plant) -> str:
    """Returns an asset of North."""
    return sorted(plant.tenants["North"].assets)[0]


def readings(plant: Plant, rows: int, **columns: pa.Array) -> pa.RecordBatch:
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([own_asset(plant)]))
    times = pa.array(np.full(rows, START_MICROS), pa.timestamp("us", "UTC"))
    return pa.record_batch({"id": ids, "timestamp": times, "value": pa.array(np.ones(rows))} | columns)


def test_invalid_handle_is_refused_before_body_is_decoded(plant: Plant) -> None:
    batch = pa.record_batch({"$1": np.arange(MARKER)})
    command = any_of("CommandPreparedStatementQuery", text_field(1, b"no handle"))
    key = plant.tenants["North"].key
    with Patcher(plant.uri, {i64(8 * MARKER): i64(1 << 46)}) as patcher:
        assert_refused("prepared statement", patcher.uri, key, command, [batch], kind=KeyError, compression="lz4")
    # The server does not wait for the declared bytes.
    assert_refused("prepared statement", plant.uri, key, command, [batch], kind=KeyError)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_parameters_are_refused(plant: Plant, codec: str) -> None:
    batch = pa.record_batch({"$1": np.zeros(900)})
    assert_refused(
        "send them without compression", plant.uri, plant.tenants["North"].key, handle_of(plant), [batch], compression=codec
    )


PARAMETERS: dict[str, tuple[Callable[[], pa.RecordBatch], dict[bytes, bytes], str]] = {
    "null rows": (lambda: pa.record_batch({"$1": pa.nulls(MARKER)}), {i64(MARKER): i64(HUGE)}, "rows"),
    "negative rows": (lambda: pa.record_batch({"$1": pa.nulls(MARKER)}), {i64(MARKER): i64(-1)}, "rows"),
    "rows without columns": (
        lambda: pa.record_batch([pa.nulls(MARKER).cast(pa.int64())], ["$1"]),
        {i64(MARKER): i64(HUGE)},
        "rows",
    ),
    "many rows": (lambda: pa.record_batch({"$1": np.arange(MARKER)}), {}, "rows"),
    "null list": (
        lambda: pa.record_batch({"$1": pa.ListArray.from_arrays(pa.array([0, MARKER], pa.int32()), pa.nulls(MARKER))}),
        {i64(MARKER): i64(1 << 40), i32(MARKER): i32((1 << 31) - 1)},
        "declares",
    ),
    "fixed list": (
        lambda: pa.record_batch({"$1": pa.FixedSizeListArray.from_arrays(pa.nulls(MARKER), MARKER)}),
        {i32(MARKER) + bytes(4): i32((1 << 31) - 1) + bytes(4), i64(MARKER): i64(1 << 31)},
        "declares",
    ),
    "fixed list type": (lambda: pa.record_batch({"$1": pa.array([None], pa.list_(pa.null(), 0x7F3B_5C7D))}), {}, "fixed size"),
    "fixed bytes": (
        lambda: pa.record_batch({"$1": pa.array([b"x" * MARKER], pa.binary(MARKER))}),
        {i32(MARKER): i32(-MARKER)},
        "fixed size",
    ),
    "deep": (lambda: pa.record_batch({"$1": pa.array([None], nested(40))}), {}, "deep"),
    "wide": (lambda: pa.record_batch({f"${i}": pa.array([1]) for i in range(5_000)}), {}, "fields"),
    "run ends": (
        lambda: pa.record_batch({"$1": pa.RunEndEncodedArray.from_arrays([MARKER], ["a"])}),
        {i64(MARKER): i64(HUGE)},
        "is not supported",
    ),
    "list views": (lambda: pa.record_batch({"$1": pa.array([[1]], pa.list_view(pa.int64()))}), {}, "is not supported"),
    "union": (
        lambda: pa.record_batch({"$1": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
        {},
        "is not supported",
    ),
    "dictionary within": (
        lambda: pa.record_batch({"$1": pa.array([[None]], pa.list_(pa.dictionary(pa.int8(), pa.utf8())))}),
        {},
        "is not supported",
    ),
    "large": (lambda: pa.record_batch({"$1": pa.array(["x" * (3 << 20)])}), {}, "bytes"),
    "outside": (lambda: pa.record_batch({"$1": pa.array(["x" * MARKER])}), {i64(MARKER): i64(MARKER << 20)}, "not in the body"),
}


def nested(depth: int) -> pa.DataType:
    return pa.list_(nested(depth - 1)) if depth else pa.null()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_with_false_declaration_are_refused(plant: Plant, name: str) -> None:
    make, changes, message = PARAMETERS[name]
    with Patcher(plant.uri, changes) as patcher:
        assert_refused(message, patcher.uri, plant.tenants["North"].key, handle_of(plant), [make()] * 4)
        assert patcher.replaced > 0 or not changes


def test_valid_parameters_are_bound(plant: Plant) -> None:
    for value in (
        pa.array([7]),
        pa.array(["a"]),
        pa.array([[1, 2]]),
        pa.array(["a"]).dictionary_encode(),
        pa.array(["view " * 9], pa.string_view()),
    ):
        bound = put(plant.uri, plant.tenants["North"].key, handle_of(plant), [pa.record_batch({"$1": value})])
        handle = fields_of(bound)[1][0]
        client = plant.client()
        info = client.info(any_of("CommandPreparedStatementQuery", text_field(1, handle)))
        assert client.get(info.endpoints[0].ticket)["one"].to_pylist() == value.to_pylist()


def test_parameters_in_many_or_no_messages_are_refused(plant: Plant) -> None:
    key, empty = plant.tenants["North"].key, pa.record_batch({"$1": pa.array([], pa.int64())})
    assert_refused("messages", plant.uri, key, handle_of(plant), [empty] * 400)
    client = Raw(plant.uri, key)
    writer, reader = client.flight.do_put(flight.FlightDescriptor.for_command(handle_of(plant)), empty.schema, client.options)
    with pytest.raises(flight.FlightTimedOutError, match="did not arrive within 2 s"):
        reader.read()
        writer.close()


READINGS: dict[str, tuple[Callable[[Plant], list[pa.RecordBatch]], dict, dict[bytes, bytes], str]] = {
    "lz4 prefix": (
        lambda plant: [readings(plant, MARKER)],
        {"compression": "lz4"},
        {i64(8 * MARKER): i64(1 << 46)},
        "decompressed",
    ),
    "zstd prefix": (
        lambda plant: [readings(plant, MARKER)],
        {"compression": "zstd"},
        {i64(8 * MARKER): i64(1 << 46)},
        "decompressed",
    ),
    "lz4 declares less": (
        lambda plant: [readings(plant, MARKER)],
        {"compression": "lz4"},
        {i64(8 * MARKER): i64(8)},
        "declares 8 bytes",
    ),
    "zstd declares less": (
        lambda plant: [readings(plant, MARKER)],
        {"compression": "zstd"},
        {i64(8 * MARKER): i64(8)},
        "cannot decode the readings",
    ),
    "negative prefix": (
        lambda plant: [readings(plant, MARKER)],
        {"compression": "lz4"},
        {i64(8 * MARKER): i64(-2)},
        "decompressed bytes",
    ),
    "bomb": (lambda plant: [readings(plant, 9 << 20)], {"compression": "zstd"}, {}, "decompressed; send batches of fewer rows"),
    "bombs": (lambda plant: [readings(plant, 1 << 19)] * 5, {"compression": "zstd"}, {}, "exceed 33554432 bytes, decompressed"),
    "null rows": (
        lambda plant: [readings(plant, MARKER, extra=pa.nulls(MARKER))],
        {},
        {i64(MARKER): i64(HUGE)},
        "not in the body",
    ),
    "only nulls": (lambda plant: [pa.record_batch({"id": pa.nulls(MARKER)})] * 4, {}, {i64(MARKER): i64(HUGE)}, "rows"),
    "nulls of a column": (
        lambda plant: [readings(plant, MARKER, value=pa.array([None] * MARKER, pa.float64()))],
        {},
        {i64(MARKER) * 2: i64(MARKER) + i64(HUGE)},
        "null",
    ),
    "views": (lambda plant: [readings(plant, 50_000, id=views(50_000, 1 << 20))], {}, {}, "views refer to"),
    "views, compressed": (
        lambda plant: [readings(plant, 50_000, id=views(50_000, 36))],
        {"compression": "lz4"},
        {},
        "compressed string views are not supported",
    ),
    "run ends": (
        lambda plant: [readings(plant, MARKER, extra=pa.RunEndEncodedArray.from_arrays([MARKER], ["a"]))],
        {},
        {i64(MARKER): i64(HUGE)},
        "not in the body",
    ),
    "long ids": (lambda plant: [readings(plant, 30_000, id=long_ids(30_000))], {}, {}, "UUID"),
    "long ids of bytes": (lambda plant: [readings(plant, 30_000, id=long_ids(30_000, pa.large_binary()))], {}, {}, "UUID"),
    "deep": (lambda plant: [readings(plant, 2, extra=pa.array([None] * 2, nested(40)))], {}, {}, "deep"),
}


def views(rows: int, length: int) -> pa.Array:
    """Returns an array of views of one text."""
    text = b"x" * length
    view = i32(length) + text[:4] + i32(0) + i32(0)
    return pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(view * rows), pa.py_buffer(text)])


def long_ids(rows: int, kind: pa.DataType = pa.large_utf8()) -> pa.Array:
    """Returns rows that share an id of a megabyte."""
    values = pa.array(["x" * (1 << 20)]).cast(kind)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), values)


@pytest.mark.parametrize("name", READINGS)
def test_readings_with_false_declaration_are_refused(plant: Plant, name: str) -> None:
    make, options, changes, message = READINGS[name]
    raw = plant.lake.folder / "lake" / "raw" / "ingested"
    before = set(raw.rglob("*"))
    with Patcher(plant.uri, changes) as patcher:
        assert_refused(message, patcher.uri, plant.tenants["North"].gateway, ingest_command(), make(plant), **options)
        assert patcher.replaced > 0 or not changes
    assert {path for path in raw.rglob("*") if path.is_file()} <= before


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_valid_readings_are_accepted(plant: Plant, codec: str | None) -> None:
    batches = [readings(plant, 1_000), readings(plant, 500)]
    put(plant.uri, plant.tenants["North"].gateway, ingest_command(), batches, compression=codec)


def test_dictionary_deltas_above_limit_are_refused(plant: Plant) -> None:
    dictionaries = [pa.array([own_asset(plant), *(f"{i:036}" for i in range(count))]) for count in range(0, 30_000, 400)]
    batches = [
        readings(plant, 1, id=pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), values)) for values in dictionaries
    ]
    assert_refused(
        "exceed 33554432 bytes",
        plant.uri,
        plant.tenants["North"].gateway,
        ingest_command(),
        batches,
        emit_dictionary_deltas=True,
    )


# ---- raw Parquet files


ASSET: dict[str, str] = {}
DAY = "2024-06-11"


def asset_id_bytes() -> bytes:
    return bytes.fromhex(ASSET["id"].replace("-", ""))


def table(rows: int = 1_000, **columns: pa.Array) -> pa.Table:
    times = pa.array(START_MICROS + 10 * 86_400_000_000 + np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC"))
    ids = pa.array([ASSET["id"]] * rows)
    return pa.table({"id": ids, "timestamp": times, "value": pa.array(np.ones(rows))} | columns)


def forge(change: Callable[[ForgedFile], None], data: pa.Table | None = None, **options) -> bytes:
    file = ForgedFile(parquet(data if data is not None else table(), **options))
    change(file)
    return file.data()


def change_page(column: int, change: Callable[[dict, bytes], bytes], at: int = -1) -> Callable[[ForgedFile], None]:
    """Returns a function that changes the header and data of a column's page."""

    def apply(file: ForgedFile) -> None:
        pages = file.pages(column)
        header, data = pages[at]
        data = change(header, data)
        header[3] = (I32, len(data))
        pages[at] = (header, data)
        file.put_pages(column, pages)

    return apply


def declare(number: int, value: int) -> Callable[[dict, bytes], bytes]:
    def change(header: dict, data: bytes) -> bytes:
        header[number] = (I32, value)
        return data

    return change


def declare_values(part: int) -> Callable[[dict, bytes], bytes]:
    def change(header: dict, data: bytes) -> bytes:
        header[part][1][1] = (I32, (1 << 31) - 1)
        return data

    return change


def bomb(codec: str) -> Callable[[dict, bytes], bytes]:
    def change(_: dict, __: bytes) -> bytes:
        return (
            gzip.compress(bytes(200 << 20), 1) if codec == "gzip" else pa.compress(bytes(64 << 20), codec=codec, asbytes=True)
        )

    return change


def huge_group(file: ForgedFile) -> None:
    file.groups[0][3] = (I64, 1 << 62)


def negative_group(file: ForgedFile) -> None:
    file.groups[0][3] = (I64, -5)


def many_children(file: ForgedFile) -> None:
    file.schema[0][5] = (I32, (1 << 31) - 1)


def deep_schema(file: ForgedFile) -> None:
    group = {3: (I32, 1), 4: (BINARY, b"g"), 5: (I32, 1)}
    file.schema[0][5] = (I32, 4)
    file.schema.extend([group] * 50_000 + [{1: (I32, 1), 3: (I32, 1), 4: (BINARY, b"x")}])


def same_groups(file: ForgedFile) -> None:
    file.footer[4] = (LIST, [STRUCT, [{key: field for key, field in file.groups[0].items() if key != 7}] * 300])


def wide_value(file: ForgedFile) -> None:
    file.schema[3][2] = (I32, (1 << 31) - 1)


def delta_lengths(encoding: int) -> Callable[[ForgedFile], None]:
    """Returns a function that makes a page declare two billion lengths without encoding them."""

    def change(header: dict, data: bytes) -> bytes:
        values = varint(128 << 12) + varint(1) + varint((1 << 31) - 1) + zigzag(0)
        header[5][1][2] = (I32, encoding)
        header[2] = (I32, len(data[:6] + values))
        return data[:6] + values

    return change_page(0, change)


def huge_index(file: ForgedFile) -> None:
    for group in file.groups:
        for column in group[1][1][1]:
            column[4], column[5] = (I64, len(file.body)), (I32, 16)
    file.body += b"\x19\xfc" + varint((1 << 31) - 1) + bytes(9)


def one_long_id(kind: pa.DataType) -> pa.Table:
    """Returns rows, most of which refer to the single long text of a dictionary."""
    texts = pa.array([f"{i:036}" for i in range(1_999)] + ["x" * (1 << 20)]).cast(kind)
    keys = np.concatenate([np.arange(2_000), np.full(98_000, 1_999)])
    return table(100_000, id=pa.DictionaryArray.from_arrays(pa.array(keys, pa.int32()), texts))


PLAIN = {"compression": "zstd", "use_dictionary": False}
FORGED_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "row groups": (
        lambda: forge(lambda file: file.footer.update({4: (LIST, DeclaredList(STRUCT, (1 << 31) - 1, []))})),
        "list of 2147483647 elements",
    ),
    "children": (lambda: forge(many_children), "2147483647 children"),
    "deep": (lambda: forge(deep_schema), "50005 columns, and the limit is 10000"),
    "pairs": (lambda: forge(lambda file: file.footer.update({5: (LIST, DeclaredList(STRUCT, 1 << 30, []))})), "list of"),
    "endless": (
        lambda: forge(lambda file: file.footer.update({90: (LIST, DeclaredList(FALSE, (1 << 31) - 1, []))})),
        "list of",
    ),
    "rows": (lambda: forge(huge_group), "rows"),
    "negative rows": (lambda: forge(negative_group), "-5 rows"),
    "overlap": (lambda: forge(same_groups), "overlap"),
    "outside": (lambda: forge(lambda file: file.chunk(1).update({9: (I64, 1 << 60)}), **PLAIN), "not inside the file"),
    "footer length": (lambda: parquet(table())[:-8] + i32(0x7FFF_FFFF) + b"PAR1", "footer declares"),
    "wide value": (lambda: forge(wide_value, table(value=pa.array([None] * 1_000, pa.decimal128(20)))), "2147483647"),
    "page size": (lambda: forge(change_page(2, declare(2, (1 << 31) - 1)), **PLAIN), "page of 2147483647 bytes"),
    "page ratio": (
        lambda: forge(change_page(2, declare(2, 100 << 20)), compression="snappy", use_dictionary=False),
        "another length",
    ),
    "page values": (lambda: forge(change_page(2, declare_values(5)), **PLAIN), "values or more"),
    "page length": (
        lambda: forge(lambda file: file.put_pages(2, [(file.pages(2)[0][0] | {3: (I32, 1 << 30)}, b"")]), **PLAIN),
        "page of 1073741824 bytes",
    ),
    "dictionary": (lambda: forge(change_page(2, declare_values(7), 0), compression="zstd"), "dictionary of 2147483647 values"),
    "gzip": (lambda: forge(change_page(2, bomb("gzip")), compression="gzip", use_dictionary=False), "there are more"),
    "brotli": (lambda: forge(change_page(2, bomb("brotli")), compression="brotli", use_dictionary=False), "there are more"),
    "zstd": (lambda: forge(change_page(2, bomb("zstd")), **PLAIN), ""),
    "zstd window": (lambda: forge(change_page(2, lambda header, data: b"\x28\xb5\x2f\xfd\x00\xf8" + data[6:]), **PLAIN), ""),
    "lz4 frame": (
        lambda: forge(lambda file: (change_page(2, bomb("lz4"))(file), file.set_codec(2, 5)), **PLAIN),
        "another length",
    ),
    "lengths": (lambda: forge(delta_lengths(6), compression="none", use_dictionary=False), "data declares 2147483647"),
    "prefixes": (lambda: forge(delta_lengths(7), compression="none", use_dictionary=False), "data declares 2147483647"),
    "long id": (lambda: parquet(one_long_id(pa.utf8()), dictionary_pagesize_limit=8 << 20), "among its ids"),
    "long bytes": (lambda: parquet(one_long_id(pa.large_binary()), dictionary_pagesize_limit=8 << 20), "among its ids"),
    "long ids": (
        lambda: parquet(table(100, id=pa.array(["x" * (1 << 20)] * 100)), use_dictionary=False),
        "an asset's id has 36",
    ),
}
# Valid files, and files with a false declaration that is not used.
VALID_FILES: dict[str, Callable[[], bytes]] = {
    "index": lambda: forge(huge_index, write_page_index=True),
    "plain": lambda: parquet(table()),
    "gzip": lambda: parquet(
        table(100_000, value=pa.array(np.random.default_rng(1).normal(size=100_000))), compression="gzip", use_dictionary=False
    ),
    "brotli": lambda: parquet(table(), compression="brotli"),
    "lz4": lambda: parquet(table(), compression="lz4"),
    "bytes": lambda: parquet(table(id=pa.array([asset_id_bytes()] * 1_000))),
    "bytes, large": lambda: parquet(table(id=pa.array([asset_id_bytes()] * 1_000, pa.large_binary()))),
    "bytes, dictionary": lambda: parquet(table(id=pa.array([asset_id_bytes()] * 1_000).dictionary_encode())),
    "prefixes": lambda: parquet(
        table(), use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY", "timestamp": "DELTA_BINARY_PACKED"}
    ),
    "lengths": lambda: parquet(
        table(), use_dictionary=False, data_page_version="2.0", column_encoding={"id": "DELTA_LENGTH_BYTE_ARRAY"}
    ),
    "many ids": lambda: parquet(
        table(2_000, id=pa.array([ASSET["id"]] * 2_000), other=pa.array([f"{i:036}" for i in range(2_000)]))
    ),
}


def test_files_with_false_declarations_are_quarantined(plant: Plant) -> None:
    ASSET["id"] = own_asset(plant)
    for name, (make, _) in FORGED_FILES.items():
        plant.lake.put(f"bad {name}.parquet", make())
    rows = []
    for name, make in VALID_FILES.items():
        plant.lake.put(f"good {name}.parquet", data := make())
        rows.append(ForgedFile(data).footer[3][1])
    failures = 0

    def counted(since: str) -> int:
        """Repeats a query until it succeeds. A query that finds a damaged page fails, and later queries skip that file."""
        nonlocal failures
        while failures < len(FORGED_FILES):
            try:
                return plant.ask(f"SELECT count(*) AS n FROM raw_readings WHERE timestamp >= '{DAY}T{since}'")["n"][0]
            except adbc_driver_manager.OperationalError:
                failures += 1
        raise AssertionError("queries still fail")

    eventually(lambda: counted("00:10:00Z") == sum(rows) - 600 * len(rows), 20)
    assert counted("00:00:00Z") == sum(rows)
    assert failures > 0
    finished = plant.lake.run("resample", "--json", **limit_address_space()).expect(LEFT_OUT)
    reasons = {Path(fault["path"]).stem: fault["reason"] for fault in finished.json["quarantined"]}
    assert sorted(reasons) == sorted(f"bad {name}" for name in FORGED_FILES), finished
    unexpected = {
        name: reasons[f"bad {name}"] for name, (_, message) in FORGED_FILES.items() if message not in reasons[f"bad {name}"]
    }
    assert not unexpected
    status = plant.lake.run("status", "--json", **limit_address_space()).expect(OK)
    assert all(f"bad {name}.parquet" in status.text for name in FORGED_FILES), status
