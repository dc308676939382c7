"""A parser of README and docs/: fenced blocks, commands, links and code names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import REPOSITORY

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: str  # path relative to the repository
    line: int  # line number of the first line of its text, from 1
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Returns the paths of all documents. README comes first, because the others build on its steps."""
    return ["README.md", *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md"))]


def blocks(document: str) -> Iterator[Block]:
    """Yields the fenced blocks of a document."""
    text = (REPOSITORY / document).read_text()
    for found in FENCE.finditer(text):
        yield Block(document, text[: found.start("text")].count("\n") + 1, found["language"], found["text"])


def commands(block: Block) -> list[str]:
    """Returns the commands of a shell block. A command may span lines; whole-line comments are omitted."""
    complete: list[str] = []
    rest = ""
    for line in block.text.splitlines():
        rest = f"{rest}\n{line}" if rest else line
        if not rest.strip() or rest.lstrip().startswith("#"):
            rest = ""
            continue
        try:
            shlex.split(rest, comments=True)
        except ValueError:  # a quotation continues on the next line
            continue
        if not rest.endswith("\\"):
            complete.append(rest.strip())
            rest = ""
    assert not rest, f"{block}: {rest!r} is not complete"
    return complete


def prose(document: str) -> str:
    """Returns the text without fenced blocks."""
    return FENCE.sub("", (REPOSITORY / document).read_text())


def inline_code(document: str) -> list[str]:
    """Returns the inline `code` of the prose."""
    return re.findall(r"`([^`\n]+)`", prose(document))


def links(document: str) -> list[str]:
    """Returns the targets of the links in the prose."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(document))


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub generates from the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(document: str) -> dict[str, list[list[str]]]:
    """Returns the rows of the tables under each heading, cell by cell, without header rows and separators."""
    found: dict[str, list[list[str]]] = {}
    heading, in_table = "", 0
    for line in prose(document).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            in_table = 0
            continue
        in_table += 1
        if in_table > 2:
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.setdefault(heading, []).append(cells)
    return found
