"""Controls `tests/jdbc/Probe.java`, which runs the Flight SQL JDBC driver and reads commands from standard input."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "tests" / "jdbc" / "Probe.java"
DRIVERS = Path(os.environ.get("PLANTLAKE_JDBC_DRIVERS") or ROOT / ".jdbc")
VERSIONS = (ROOT / "tests" / "jdbc" / "versions.txt").read_text().split()


class JdbcError(Exception):
    """An SQLException with the messages of its causes."""


@dataclass
class Answer:
    columns: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    value: list[str | None] = field(default_factory=list)

    def column(self, name: str) -> list[str | None]:
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def driver(version: str) -> Path:
    return DRIVERS / f"flight-sql-jdbc-driver-{version}.jar"


class Jdbc:
    """A Java process with one version of the driver."""

    def __init__(self, version: str) -> None:
        java = shutil.which("java")
        assert java, "java is not installed; tests/run installs it"
        command = [java, "--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-Xmx512m", "-cp", str(driver(version)), str(PROBE)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: [self.log.append(line.decode()) for line in self.process.stderr], daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.decode().rstrip("\r\n"))
        self.lines.put(None)

    def stop(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def send(self, *command: str | None) -> list[list[str | None]]:
        """Sends one command and returns the lines of the probe's answer, unparsed."""
        self.process.stdin.write(("\t".join(escaped(part) for part in command) + "\n").encode())
        self.process.stdin.flush()
        lines = []
        while True:
            try:
                line = self.lines.get(timeout=90)
            except queue.Empty:
                raise AssertionError(f"no answer to {command}:\n{''.join(self.log)}") from None
            assert line is not None, f"the probe ended:\n{''.join(self.log)}"
            if line == ".":
                return lines
            lines.append([unescaped(part) for part in line.split("\t")])

    def __call__(self, *command: str | None) -> Answer:
        answer = Answer()
        for first, *rest in self.send(*command):
            # A row may begin with one of these words, too, but rows come only after the line of types.
            is_head = not answer.types
            if first == "error" and is_head:
                raise JdbcError(rest[-1])
            if first in ("columns", "types", "parameters", "value") and is_head:
                setattr(answer, first, rest)
            else:
                answer.rows.append([first, *rest])
        return answer


def escaped(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescaped(text: str) -> str | None:
    if text == "\\N":
        return None
    out, rest = [], iter(text)
    for c in rest:
        if c == "\\":
            following = next(rest, "")
            out.append({"t": "\t", "n": "\n", "r": "\r"}.get(following, following))
        else:
            out.append(c)
    return "".join(out)
