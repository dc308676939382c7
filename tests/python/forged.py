"""Messages and files with false declarations: a proxy that changes bytes in transit, and Parquet footers that are parsed,
changed and rewritten."""

from __future__ import annotations

import io
import socket
import struct
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class Patcher:
    """A proxy that forwards a client's bytes to a server and replaces some of them by others of the same length."""

    def __init__(self, uri: str, changes: dict[bytes, bytes]) -> None:
        assert all(len(old) == len(new) for old, new in changes.items())
        host, port = uri.split("//")[1].rsplit(":", 1)
        self.target = (host, int(port))
        self.changes = changes
        self.replaced = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"grpc://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Patcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for source, sink, changes in ((client, server, self.changes), (server, client, {})):
                threading.Thread(target=self._forward, args=(source, sink, changes), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, changes: dict[bytes, bytes]) -> None:
        try:
            while data := source.recv(1 << 20):
                for old, new in changes.items():
                    self.replaced += data.count(old)
                    data = data.replace(old, new)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for connection in (source, sink):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def i64(number: int) -> bytes:
    return struct.pack("<q", number)


def i32(number: int) -> bytes:
    return struct.pack("<i", number)


# ---- Thrift's compact protocol: a struct is a dictionary from field number to (type, value)

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    return varint((number << 1) ^ (number >> 63))


class Cursor:
    """Reads Thrift values from bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def zigzag(self) -> int:
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def read_value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return None
        if kind == BYTE:
            return self.byte()
        if kind in (I16, I32, I64):
            return self.zigzag()
        if kind == DOUBLE:
            return self.take(8)
        if kind == BINARY:
            return self.take(self.varint())
        if kind == STRUCT:
            return self.read_struct()
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        return [head & 15, [self.byte() if head & 15 in (TRUE, FALSE) else self.read_value(head & 15) for _ in range(count)]]

    def read_struct(self) -> dict:
        fields: dict[int, tuple[int, Any]] = {}
        last = 0
        while head := self.byte():
            last = last + (head >> 4) if head >> 4 else self.zigzag()
            fields[last] = (head & 15, self.read_value(head & 15))
        return fields


class DeclaredList:
    """A list that declares more elements than it has."""

    def __init__(self, kind: int, count: int, elements: list) -> None:
        self.kind, self.count, self.elements = kind, count, elements


def encode_value(kind: int, value: Any) -> bytes:
    """Returns the encoding of a Thrift value."""
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return zigzag(value)
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return varint(len(value)) + value
    if kind == STRUCT:
        return encode_struct(value)
    if isinstance(value, DeclaredList):
        element_kind, count, elements = value.kind, value.count, value.elements
    else:
        (element_kind, elements), count = value, len(value[1])
    head = bytes([count << 4 | element_kind]) if count < 15 else bytes([0xF0 | element_kind]) + varint(count)
    if element_kind in (TRUE, FALSE):
        return head + bytes(elements)
    return head + b"".join(encode_value(element_kind, element) for element in elements)


def encode_struct(fields: dict) -> bytes:
    """Returns the encoding of a Thrift struct."""
    out = b""
    for number, (kind, value) in fields.items():
        # With full field numbers instead of deltas, fields may be written in any order.
        out += bytes([kind]) + zigzag(number) + encode_value(kind, value)
    return out + b"\0"


# ---- Parquet


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Returns a table as a Parquet file, written by pyarrow."""
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


class ForgedFile:
    """A Parquet file whose footer and pages can be changed."""

    def __init__(self, data: bytes) -> None:
        length = struct.unpack("<I", data[-8:-4])[0]
        self.body = data[: -8 - length]
        self.footer = Cursor(data, len(data) - 8 - length).read_struct()

    def data(self) -> bytes:
        footer = encode_struct(self.footer)
        return self.body + footer + struct.pack("<I", len(footer)) + b"PAR1"

    @property
    def groups(self) -> list[dict]:
        return self.footer[4][1][1]

    @property
    def schema(self) -> list[dict]:
        return self.footer[2][1][1]

    def chunk(self, column: int) -> dict:
        """Returns the metadata of a column in the first row group."""
        return self.groups[0][1][1][1][column][3][1]

    def pages(self, column: int) -> list[tuple[dict, bytes]]:
        """Returns the headers and data of a column's pages in the first row group."""
        chunk = self.chunk(column)
        start = chunk.get(11, chunk[9])[1]
        cursor, pages = Cursor(self.body, start), []
        while cursor.at < start + chunk[7][1]:
            header = cursor.read_struct()
            pages.append((header, cursor.take(header[3][1])))
        return pages

    def put_pages(self, column: int, pages: list[tuple[dict, bytes]]) -> None:
        """Appends new pages for a column to the file, and points the footer to them."""
        chunk = self.chunk(column)
        start = len(self.body)
        offsets = []
        for header, data in pages:
            offsets.append(len(self.body))
            self.body += encode_struct(header) + data
        chunk[7] = (I64, len(self.body) - start)
        chunk[9] = (I64, offsets[1] if len(offsets) > 1 and pages[0][0][1][1] == 2 else offsets[0])
        if pages[0][0][1][1] == 2:
            chunk[11] = (I64, offsets[0])
        else:
            chunk.pop(11, None)

    def set_codec(self, column: int, codec: int) -> None:
        self.chunk(column)[4] = (I32, codec)
