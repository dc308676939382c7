"""Measurements of processes, and tables of results."""

from __future__ import annotations

import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterable

MIB = 1024 * 1024


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def memory_of(pid: int | str = "self") -> dict[str, float]:
    """Returns the resident memory of a process and its peak, in MiB, or zeros if the process has ended."""
    found = {"VmRSS": 0.0, "VmHWM": 0.0}
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in found:
                    found[name] = int(value.split()[0]) / 1024
    except OSError:
        pass
    return {"rss_mib": found["VmRSS"], "peak_mib": found["VmHWM"]}


class Sampler:
    """Samples a process's resident memory at an interval until stopped."""

    def __init__(self, pid: int, every: float) -> None:
        self.pid, self.every = pid, every
        self.samples: list[tuple[float, float]] = []  # seconds since the start, MiB
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        began = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - began, memory_of(self.pid)["rss_mib"]))
            if self._stop.wait(self.every):
                return

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, seconds: float) -> float:
        """Returns the sample nearest to a time, in MiB."""
        return min(self.samples, key=lambda sample: abs(sample[0] - seconds))[1]

    @property
    def peak(self) -> float:
        return max(mib for _, mib in self.samples)


def quantiles(milliseconds: Iterable[float]) -> dict[str, float]:
    """Returns percentiles by the nearest-rank method, so that each is a measured value."""
    found = sorted(milliseconds)
    ranks = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    at = {name: found[-(-len(found) * percent // 100) - 1] if found else math.nan for name, percent in ranks.items()}
    return at | {"count": len(found)}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Returns the median of each figure over the rounds."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def show(title: str, heads: list[str], rows: list[list[object]]) -> None:
    """Prints a table, with the first column aligned left and the others right."""
    cells = [heads] + [[cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    print(f"\n{title}")
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip())
    sys.stdout.flush()


def cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return str(value)
