"""A low-level HTTP/2 client for frames that no ordinary client sends, and measurements of a server under attack."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hpack

from server import Plant

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
FLIGHT = "/arrow.flight.protocol.FlightService/"
HEALTH = "/grpc.health.v1.Health/Check"
UNAUTHENTICATED, DEADLINE_EXCEEDED, OUT_OF_RANGE, UNAVAILABLE = "16", "4", "11", "14"
# The maximum size of a DATA frame.
FRAME_BYTES = 16 << 10
MIB = 1 << 20
# The initial HTTP/2 window.
WINDOW_BYTES = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def message(length: int, payload: bytes | None = None) -> bytes:
    """Returns the start of a gRPC message that declares `length` bytes, or a whole message."""
    return b"\0" + struct.pack(">I", length) + (payload if payload is not None else b"")


@dataclass
class Answer:
    """The data received on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_over: bool = False
    window: int = WINDOW_BYTES

    @property
    def status(self) -> str | None:
        return self.headers.get("grpc-status")


class Wire:
    """An HTTP/2 connection. `receive` processes what the server has sent so far."""

    def __init__(self, uri: str, tls: ssl.SSLContext | None = None, before: bytes = b"", begin: bool = True) -> None:
        self.host, port = uri.split("://")[1].rsplit(":", 1)
        self.socket: socket.socket = socket.create_connection((self.host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            self.socket.sendall(before)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.decoder, self.encoder = hpack.Decoder(), hpack.Encoder()
        self.answers: dict[int, Answer] = {}
        self.window = WINDOW_BYTES
        self.initial_window = WINDOW_BYTES
        self.buffer = b""
        self.is_closed = False
        # The error code and the last stream of the server's latest GOAWAY.
        self.goaway: int | None = None
        self.last_stream: int | None = None
        self.pongs = 0
        # Whether received data is returned to the flow-control windows of the server at once.
        self.returns_credit = True
        self.next_stream = 1
        if begin:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data: bytes) -> None:
        """Sends data, unless the server has closed the connection."""
        try:
            self.socket.sendall(data)
        except (OSError, ssl.SSLError):
            self.is_closed = True

    def block(self, path: str, credential: str | None = None, **more: str) -> bytes:
        """Returns the compressed headers of a call."""
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"),
                   ("te", "trailers"), ("content-type", "application/grpc")]
        if credential:
            headers.append(("authorization", credential if " " in credential else f"Bearer {credential}"))
        headers += [(name.replace("_", "-"), value) for name, value in more.items()]
        return self.encoder.encode(headers)

    def open(self, path: str, credential: str | None = None, ends: bool = False, **more: str) -> int:
        """Starts a call and returns its stream."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.answers[stream] = Answer(window=self.initial_window)
        flags = END_HEADERS | (END_STREAM if ends else 0)
        self.send(frame(HEADERS, flags, stream, self.block(path, credential, **more)))
        return stream

    def data(self, stream: int, payload: bytes, ends: bool = False) -> None:
        """Sends a DATA frame; `ends` half-closes the stream."""
        self.window -= len(payload)
        self.answers[stream].window -= len(payload)
        self.send(frame(DATA, END_STREAM if ends else 0, stream, payload))

    def send_body(self, stream: int, left: int) -> int:
        """Sends as much of a body as the flow-control windows permit, and returns the number of remaining bytes."""
        answer = self.answers[stream]
        while left and not answer.is_over and not self.is_closed:
            size = min(FRAME_BYTES, left, self.window, answer.window)
            if size <= 0:
                break
            self.data(stream, b"\0" * size)
            left -= size
        return left

    def call(self, path: str, credential: str | None = None, body: bytes = b"", seconds: float = 10, **more: str) -> Answer:
        """Makes a complete call and returns its answer."""
        stream = self.open(path, credential, **more)
        self.data(stream, body, ends=True)
        return self.wait(stream, seconds)

    def wait(self, stream: int, seconds: float = 10) -> Answer:
        """Waits for the end of an answer or of the connection."""
        end = time.monotonic() + seconds
        while not (self.answers[stream].is_over or self.is_closed) and time.monotonic() < end:
            self.receive(0.05)
        return self.answers[stream]

    def wait_closed(self, seconds: float) -> float:
        """Waits until the server closes the connection, and returns the elapsed seconds."""
        began = time.monotonic()
        while not self.is_closed:
            assert time.monotonic() - began < seconds, f"open after {seconds} s"
            self.receive(0.1)
        return time.monotonic() - began

    def receive(self, seconds: float = 0.0) -> None:
        """Processes received data, and waits up to `seconds` for some."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            received = self.socket.recv(1 << 20)
            self.is_closed |= not received
            self.buffer += received
        except TimeoutError:
            pass
        except (OSError, ssl.SSLError):
            self.is_closed = True
        finally:
            with contextlib.suppress(OSError):
                self.socket.settimeout(10)
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                break
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
            self._handle_frame(kind, flags, stream, payload)

    def _handle_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        answer = self.answers.get(stream)
        if kind == HEADERS:
            headers = {str(name): str(value) for name, value in self.decoder.decode(payload)}
            if answer:
                answer.headers |= headers
        elif kind == DATA:
            if answer:
                answer.body += payload
            if payload and self.returns_credit:
                size = struct.pack(">I", len(payload))
                self.send(frame(WINDOW_UPDATE, 0, 0, size) + frame(WINDOW_UPDATE, 0, stream, size))
        elif kind == WINDOW_UPDATE:
            size = struct.unpack(">I", payload)[0]
            if not stream:
                self.window += size
            elif answer:
                answer.window += size
        elif kind == SETTINGS and not flags & 1:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                if name == 4:
                    for each in self.answers.values():
                        each.window += value - self.initial_window
                    self.initial_window = value
            self.send(frame(SETTINGS, 1, 0))
        elif kind == PING:
            if flags & 1:
                self.pongs += 1
            else:
                self.send(frame(PING, 1, 0, payload))
        elif kind == GOAWAY:
            self.last_stream, self.goaway = struct.unpack(">II", payload[:8])
        if answer and (kind == RST_STREAM or kind in (HEADERS, DATA) and flags & END_STREAM):
            answer.is_over = True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tls_context(plant: Plant) -> ssl.SSLContext:
    """Returns a context that trusts the server's certificate."""
    context = ssl.create_default_context(cafile=plant.startup["certificate"])
    context.set_alpn_protocols(["h2"])
    return context


# ---- the server during attacks


def rss(plant: Plant) -> int:
    """Returns the resident memory of the server in bytes."""
    text = Path(f"/proc/{plant.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024


def descriptors(plant: Plant) -> int:
    """Returns the number of open file descriptors of the server."""
    return len(os.listdir(f"/proc/{plant.process.pid}/fd"))


class PeakMemory:
    """Measures the peak memory of a server during a block of code."""

    def __init__(self, plant: Plant) -> None:
        self.plant, self.before = plant, rss(plant)
        self.peak = self.before
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        while not self.is_over.wait(0.02):
            self.peak = max(self.peak, rss(self.plant))

    def __enter__(self) -> "PeakMemory":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    @property
    def growth(self) -> float:
        """The growth of the resident memory, in MiB."""
        return (self.peak - self.before) / MIB


def open_silent(plant: Plant, first: bytes = b"") -> socket.socket:
    """Opens a connection that sends nothing after its first bytes."""
    host, port = plant.uri.split("://")[1].rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=10)
    if first:
        with contextlib.suppress(OSError):
            connection.sendall(first)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection. Received data is discarded."""
    connection.settimeout(0.001)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def flood(connection: Wire, next_piece: Callable[[], bytes], max_bytes: int, seconds: float = 3) -> int:
    """Sends pieces until the connection is closed, `max_bytes` are sent, or the time is over. Returns the number of sent
    bytes."""
    sent = 0
    end = time.monotonic() + seconds
    connection.socket.setblocking(False)
    while not connection.is_closed and sent < max_bytes and time.monotonic() < end:
        data = next_piece()
        while data and time.monotonic() < end:
            try:
                size = connection.socket.send(data)
                data, sent = data[size:], sent + size
            except BlockingIOError:
                time.sleep(0.01)
                connection.receive()
                connection.socket.setblocking(False)
            except OSError:
                connection.is_closed = True
                break
    return sent
