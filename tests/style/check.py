#!/usr/bin/env python3
"""Checks the style rules of docs/internals/style.md over the whole tree: words, names and sizes.

    python3 tests/style/check.py               prints findings as `path:line: message (use …)`; exits with 1 if there are any
    python3 tests/style/check.py --list        groups the findings by rule, with the files that have most of them
    python3 tests/style/check.py src/engine    checks only these files and folders

The rules on words and names are in words.toml, beside this file. They apply to:

- phrase: comments, docstrings, Markdown, and string literals in src/**/*.rs that have several words;
- opening: the beginning of a comment or docstring;
- error: the texts of `#[error("…")]`;
- constant, function, type, module: definitions in Rust;
- test: names of test functions in Rust and Python.

Inline code, code blocks, URLs and the placeholders of format strings are not prose.

Exceptions, each with a reason:

- a line: a comment `style: <reason>` at its end or on the line before (in Markdown `<!-- style: <reason> -->`);
- the length of a function: `// style: <reason>` above it, before or after its documentation;
- the length of a file: `// style: <reason>` in its first 5 lines;
- a rule in certain files: `[[allow]]` in words.toml. An entry that matches no finding is a finding.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from itertools import groupby, pairwise, takewhile
from pathlib import Path

MAX_FILE_LINES = 500
MAX_TEST_FILE_LINES = 800
MAX_FUNCTION_LINES = 100
MIN_TEST_WORDS = 3
# The number of lines at the beginning of a file that may hold the reason for its length.
HEAD_LINES = 5
LISTED_FILES = 5

TESTS = re.compile(r"^tests/|/tests?/|(^|/)tests?\.rs$")
REASON = re.compile(r"(//|#|--|<!--)\s*style:\s*\w")


@dataclass(frozen=True)
class Finding:
    """A violation of a rule: the section of words.toml and the pattern, or a length."""

    path: str
    line: int
    section: str
    pattern: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Rule:
    """A pattern of words.toml. In phrases and openings, a space matches any white space, including the end of a line."""

    section: str
    pattern: str
    why: str
    use: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        if self.section == "phrase":
            return re.compile(rf"\b(?:{spaced(self.pattern)})\b", re.I)
        if self.section == "opening":
            return re.compile(rf"(?:{spaced(self.pattern)})\b")
        return re.compile(self.pattern)

    def finding(self, path: str, line: int, found: str, place: str) -> Finding:
        message = f"`{' '.join(found.split())}` in {place}: {self.why} (use {self.use})"
        return Finding(path, line, self.section, self.pattern, message)


def spaced(pattern: str) -> str:
    return pattern.replace(" ", r"\s+")


@dataclass
class Allowed:
    """An exception in words.toml: findings of the rule with this pattern, in files whose paths match."""

    path: str
    pattern: str
    reason: str
    is_used: bool = False

    def covers(self, finding: Finding) -> bool:
        return self.pattern in ("*", finding.pattern) and fnmatch(finding.path, self.path)


class Words:
    """The rules and exceptions of a file like words.toml."""

    SECTIONS = ("phrase", "opening", "error", "constant", "function", "type", "module", "test")

    def __init__(self, file: Path) -> None:
        content = tomllib.loads(file.read_text())
        if unknown := content.keys() - {*self.SECTIONS, "allow"}:
            raise ValueError(f"unknown sections in {file}: {', '.join(sorted(unknown))}")
        self.rules = {section: [Rule(section, **rule) for rule in content.get(section, [])] for section in self.SECTIONS}
        self.allowed = [Allowed(**entry) for entry in content.get("allow", [])]
        # One pass with all phrases together decides whether a text must be searched for each of them.
        alternatives = "|".join(f"(?:{spaced(rule.pattern)})" for rule in self.rules["phrase"]) or "(?!)"
        self.any_phrase = re.compile(rf"\b(?:{alternatives})\b", re.I)


@dataclass
class Text:
    """Prose of a file: a block of comments, a docstring, a string literal, or a whole Markdown document.

    `prose` is as long as the original, so that its offsets plus `start` are offsets in the file.
    """

    start: int
    place: str
    prose: str


# ---- languages

RUST = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<string>\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)|(?:\b[bc])?"(?:\\.|[^"\\])*")
      | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])'""",
    re.S | re.X,
)
PYTHON = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>(?<![^\n])[ \t]*r?\"{3}(?:\\.|[^\\])*?\"{3})
      | [rbfRBF]*(?:\"{3}(?:\\.|[^\\])*?\"{3}|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.S | re.X,
)
SQL = re.compile(r"(?P<comment>--[^\n]*)|'[^']*'|\"[^\"\n]*\"")
HASH = re.compile(r"(?P<comment>(?:(?<=\s)|(?<![^\n]))\#[^\n]*)|\"\"\".*?\"\"\"|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'", re.S)
LANGUAGES = {".rs": RUST, ".py": PYTHON, ".sql": SQL, ".sh": HASH, ".toml": HASH, ".yaml": HASH, ".yml": HASH}

# Parts of texts that are not prose.
NOT_PROSE = re.compile(r"`[^`\n]*(?:\n[^`\n]*)?`|https?://\S+")
FENCES = re.compile(r"^(?P<indent>[^\S\n]*(?://[/!] *)?)(?P<fence>```+|~~~+).*?^(?P=indent)(?P=fence)\s*?$", re.M | re.S)
COMMENT_MARKS = re.compile(r"^[^\S\n]*(?://[/!]?|/\*+|\*/|\*|#|--)", re.M)
PLACEHOLDERS = re.compile(r"\{[^{}]*\}")
QUOTES = re.compile(r"^\s*\w*#*\"+|\"+#*$|\\[nrt\n\"\\]")
LINK_TARGETS = re.compile(r"(?<=\])\([^)\s]*\)|^\[[^\]]+\]: [^\n]*$|<!--.*?-->", re.M | re.S)


def masked(pattern: re.Pattern[str], text: str, mask: str = "\0") -> str:
    """Replaces matches by a character that is neither a letter nor white space, except for the ends of lines."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", mask, match[0]), text)


class Source:
    """A file, its lines and its prose."""

    def __init__(self, path: str, content: str) -> None:
        self.path = path
        self.content = content
        self.lines = content.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.language = LANGUAGES.get(Path(path).suffix)
        if "." not in Path(path).name and content.startswith("#!"):
            self.language = PYTHON if "python" in self.lines[0] else HASH

    def line_at(self, offset: int) -> int:
        return bisect_right(self.starts, offset)

    def has_reason(self, line: int) -> bool:
        """Whether the line or the one before has a comment with the reason for an exception."""
        return any(REASON.search(text) for text in self.lines[max(0, line - 2) : line])

    @cached_property
    def code(self) -> str:
        """The file without comments and literals, with the same offsets."""
        return masked(self.language, self.content, " ") if self.language else self.content

    def texts(self) -> Iterator[Text]:
        if self.path.endswith(".md"):
            yield Text(0, "the text", masked(NOT_PROSE, masked(LINK_TARGETS, masked(FENCES, self.content))))
        elif self.language:
            tokens = list(self.language.finditer(self.content))
            yield from self.comments([match for match in tokens if match["comment"]])
            if self.language is PYTHON:
                yield from (self.literal(match, "a comment") for match in tokens if self.is_docstring(match))
            if self.language is RUST and self.path.startswith("src/"):
                yield from (self.literal(match, "a string") for match in tokens if match["string"])

    def comments(self, tokens: list[re.Match[str]]) -> Iterator[Text]:
        """Joins comments of the same kind on consecutive lines, because sentences continue on the next line."""

        def block(numbered: tuple[int, re.Match[str]]) -> tuple[str, int]:
            index, match = numbered
            return re.match(r"//[/!]?|/\*|--|#", match[0])[0], self.line_at(match.start()) - index

        def prose(comment: str) -> str:
            return masked(NOT_PROSE, masked(COMMENT_MARKS, masked(FENCES, comment), " "))

        for _, group in groupby(enumerate(tokens), block):
            matches = [match for _, match in group]
            start = matches[0].start()
            if any(self.content[one.end() : other.start()].strip() for one, other in pairwise(matches)):
                # Comments at the ends of lines, with code between them.
                yield from (Text(match.start(), "a comment", prose(match[0])) for match in matches)
            else:
                yield Text(start, "a comment", prose(self.content[start : matches[-1].end()]))

    def is_docstring(self, match: re.Match[str]) -> bool:
        """Whether the string opens a file or the body of a function or class."""
        before = self.code[max(0, match.start() - 1_000) : match.start()].rstrip()
        return bool(match["string"]) and before[-1:] in ("", ":")

    def literal(self, match: re.Match[str], place: str) -> Text:
        start = match.start()
        if self.content[max(0, start - 80) : start].rstrip().endswith("#[error("):
            place = "an error"
        return Text(start, place, masked(NOT_PROSE, masked(PLACEHOLDERS, masked(QUOTES, match[0], " "))))


# ---- rules


def check_words(source: Source, words: Words) -> Iterator[Finding]:
    """Checks phrases, the openings of comments, and the form of errors."""
    for text in source.texts():
        if text.place in ("a string", "an error") and len(text.prose.split()) < 2:
            continue
        matches = []
        if words.any_phrase.search(text.prose):
            matches += [(rule, match) for rule in words.rules["phrase"] for match in rule.regex.finditer(text.prose)]
        if text.place == "a comment" and (first := re.search(r"\S", text.prose)):
            matches += [(rule, rule.regex.match(text.prose, first.start())) for rule in words.rules["opening"]]
        if text.place == "an error":
            matches += [(rule, rule.regex.search(text.prose)) for rule in words.rules["error"]]
        for rule, match in matches:
            if match:
                yield rule.finding(source.path, source.line_at(text.start + match.start()), match[0], text.place)


DEFINITIONS = re.compile(
    r"\b(?:(?P<constant>(?:const|static)\s+(?:mut\s+)?(?=[A-Z]))|(?P<function>fn)\s+"
    r"|(?P<type>struct|enum|trait|union|type)\s+|(?P<module>mod)\s+)(?P<name>\w+)"
)
RUST_TESTS = re.compile(r"#\[(?:\w+::)*test\b[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)")
PYTHON_TESTS = re.compile(r"^\s*(?:async )?def test_(\w+)", re.M)
# The macros of tests/organisation and tests/vectors, which create a test for each kind of database or index.
TEST_MACROS = re.compile(r"^on_both! \{\n.*?^\}", re.M | re.S)
TESTS_OF_MACROS = re.compile(r"^    (?:async fn )?(\w+)(?:\(\w+\) \{)?$", re.M)


def check_names(source: Source, words: Words) -> Iterator[Finding]:
    """Checks the names of definitions in Rust, and of tests."""
    if source.language is RUST:
        for match in DEFINITIONS.finditer(source.code):
            section = next(kind for kind in ("constant", "function", "type", "module") if match[kind])
            for rule in words.rules[section]:
                if rule.regex.search(match["name"]):
                    line = source.line_at(match.start("name"))
                    yield rule.finding(source.path, line, match["name"], f"the name of a {section}")
    for name, line in names_of_tests(source):
        found = [rule for rule in words.rules["test"] if rule.regex.search(name)]
        found += [rule for rule in words.rules["phrase"] if rule.regex.search(name.replace("_", " "))]
        yield from (rule.finding(source.path, line, name, "the name of a test") for rule in found)
        if len(name.split("_")) < MIN_TEST_WORDS:
            message = f"`{name}` has fewer than {MIN_TEST_WORDS} words (use <unit>_<condition>_<result>)"
            yield Finding(source.path, line, "test", "words", message)


def names_of_tests(source: Source) -> Iterator[tuple[str, int]]:
    """Returns the names of tests, without `test_`, and their lines."""
    matches = list((PYTHON_TESTS if source.language is PYTHON else RUST_TESTS).finditer(source.code))
    for macro in TEST_MACROS.finditer(source.code):
        matches += TESTS_OF_MACROS.finditer(source.code, macro.start(), macro.end())
    yield from ((match[1], source.line_at(match.start(1))) for match in matches)


def check_sizes(source: Source) -> Iterator[Finding]:
    """Checks the lengths of files and of functions in Rust."""
    if source.language not in (RUST, PYTHON):
        return
    limit = MAX_TEST_FILE_LINES if TESTS.search(source.path) else MAX_FILE_LINES
    length = len(source.content.splitlines())
    if length > limit and not any(REASON.search(line) for line in source.lines[:HEAD_LINES]):
        message = f"the file has {length} lines, more than {limit} (use one file per responsibility)"
        yield Finding(source.path, 1, "file", "length", message)
    for name, first, last in functions(source) if source.language is RUST else ():
        if last - first >= MAX_FUNCTION_LINES and not has_function_reason(source, first):
            message = f"`{name}` has {last - first + 1} lines, more than {MAX_FUNCTION_LINES} (use one function per step)"
            yield Finding(source.path, first, "function", "length", message)


def functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """Returns the functions with a body: the name, the line of `fn`, and that of the closing brace."""
    for match in re.finditer(r"\bfn\s+(\w+)", source.code):
        depth = 0
        for bracket in re.compile(r"[(){}\[\];]").finditer(source.code, match.end()):
            if bracket[0] == ";" and depth == 0:
                break
            depth += {"(": 1, "[": 1, "{": 1, ";": 0}.get(bracket[0], -1)
            if bracket[0] == "}" and depth == 0:
                yield match[1], source.line_at(match.start()), source.line_at(bracket.start())
                break


def has_function_reason(source: Source, line: int) -> bool:
    """Whether the attributes and comments directly above a function include the reason for its length."""
    above = takewhile(lambda text: re.search(r"^\s*//|[^\s};{]\s*$", text), reversed(source.lines[: line - 1]))
    return any(REASON.search(text) for text in above)


# ---- the tree


def listed(root: Path) -> list[str]:
    """Returns the files that git tracks or would add; all files if `root` is no working tree."""
    if not (root / ".git").exists():
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return sorted(set(listing.stdout.split("\0")) - {""})


def is_checked(file: Path, path: str) -> bool:
    """Whether the rules apply to a file. The changelog and landed migrations are records, which do not change."""
    is_record = path == "CHANGELOG.md" or path.startswith("migrations/")
    return not is_record and file.suffix in (*LANGUAGES, ".md", "") and file.is_file() and not file.is_symlink()


def check(root: Path, words: Words, below: list[str] | None = None) -> tuple[list[Finding], int]:
    """Checks the files of `root`, or those in the files and folders `below`. Returns the findings and the number of files."""
    findings: set[Finding] = set()
    count = 0
    for path in listed(root):
        file = root / path
        is_selected = not below or any(path == name or path.startswith(f"{name.rstrip('/')}/") for name in below)
        if not (is_selected and is_checked(file, path)):
            continue
        source = Source(path, file.read_text(errors="replace"))
        count += 1
        for finding in (*check_words(source, words), *check_names(source, words), *check_sizes(source)):
            allowed = [entry for entry in words.allowed if entry.covers(finding)]
            for entry in allowed:
                entry.is_used = True
            if not allowed and (finding.pattern == "length" or not source.has_reason(finding.line)):
                findings.add(finding)
    for entry in words.allowed:
        if not below and not entry.is_used:
            message = f"no finding of {entry.pattern!r} in {entry.path} (use no exception)"
            findings.add(Finding("tests/style/words.toml", 1, "allow", entry.pattern, message))
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.message)), count


def print_groups(findings: list[Finding]) -> None:
    """Prints the number of findings of each rule, and the files with most of them."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        groups[f"{finding.section} {finding.pattern}"][finding.path] += 1
    for rule, paths in sorted(groups.items(), key=lambda group: -group[1].total()):
        top = ", ".join(f"{path} {count}" for path, count in paths.most_common(LISTED_FILES))
        print(f"{paths.total():5} {rule}: {top}")


def main() -> int:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Checks the style rules of docs/internals/style.md.")
    parser.add_argument("paths", nargs="*", help="files and folders to check, relative to the root [default: all]")
    parser.add_argument("--list", action="store_true", help="group the findings by rule")
    parser.add_argument("--root", type=Path, default=here.parents[1], help="the root of the tree [default: this repository]")
    parser.add_argument("--words", type=Path, default=here / "words.toml", help="the rules on words and names")
    arguments = parser.parse_args()
    findings, files = check(arguments.root, Words(arguments.words), arguments.paths)
    if arguments.list:
        print_groups(findings)
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
    print(f"findings: {len(findings)}, files: {files}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
