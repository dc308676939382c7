"""Tests of tests/style/check.py: the tree passes, each rule finds a bad example, and none objects to a good one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.local_only
CHECK = Path(__file__).parents[1] / "style" / "check.py"
SPEC = importlib.util.spec_from_file_location("style_check", CHECK)
assert SPEC is not None and SPEC.loader is not None
style = importlib.util.module_from_spec(SPEC)
# Dataclasses look up their module by name.
sys.modules[SPEC.name] = style
SPEC.loader.exec_module(style)
WORDS = style.Words(CHECK.parent / "words.toml")
RECORDS = ("CHANGELOG.md", "migrations/a.sql")
LONG_BODY = "    call();\n" * 120

# By file: texts with a finding each, and a part of its message.
BAD = {
    "src/a.rs": [
        ("/// What the queue holds.\nstruct Queue;\n", "`What` in a comment"),
        ("//! Why a file is refused.\n", "`Why` in a comment"),
        ("/// How often it is read.\nstruct Queue;\n", "`How` in a comment"),
        ("/// Whose memory it is.\nstruct Queue;\n", "`Whose` in a comment"),
        ("/// Rows that are worked\n/// on later.\nstruct Queue;\n", "`worked on` in a comment"),
        ("fn run() {} // The client is told.\n", "`told` in a comment"),
        ("/* The file is taken up. */\n", "`taken up` in a comment"),
        ('const TEXT: &str = "the client was told";\n', "`told` in a string"),
        ('const TEXT: &str = "the rows are worked \\\n    on later";\n', "`worked on` in a string"),
        ('const TEXT: &str = r#"may make 2 requests and makes more"#;\n', "`and makes more` in a string"),
        ('#[error("the file {path} cannot be read")]\nstruct Failure;\n', "`cannot be read` in an error"),
        ('#[error(\n    "Cannot read {path}: {error}"\n)]\nstruct Failure;\n', "`Cannot` in an error"),
        ('#[error("cannot read the file.")]\nstruct Failure;\n', "no full stop"),
        ("const MOST_ROWS: usize = 1;\n", "`MOST_ROWS` in the name of a constant"),
        ("pub static LEAST_ROWS: usize = 1;\n", "`LEAST_ROWS` in the name of a constant"),
        ("pub async fn settle(&self) {}\n", "`settle` in the name of a function"),
        ("pub enum Whereabouts {}\n", "`Whereabouts` in the name of a type"),
        ("type Answer = u8;\n", "`Answer` in the name of a type"),
        ("mod office;\n", "`office` in the name of a module"),
        ("#[test]\nfn it_works_with_files() {}\n", "`it_works_with_files` in the name of a test"),
        ('#[tokio::test(flavor = "x")]\n#[ignore]\nasync fn what_is_read_is_kept() {}\n', "`what_is_read_is_kept` in the name"),
        ("#[test]\nfn client_is_told_nothing() {}\n", "`client_is_told_nothing` in the name of a test"),
        ("#[test]\nfn works() {}\n", "fewer than 3 words"),
        (f"fn run() {{\n{LONG_BODY}}}\n", "`run` has 122 lines"),
        ("call();\n" * 501, "the file has 501 lines"),
    ],
    "tests/it/organisation/a.rs": [
        ("on_both! {\n    async fn a_key_is_found(fresh) {\n    }\n}\n", "`a_key_is_found` in the name of a test"),
        ("on_both! {\n    the_index_is_found\n}\n", "`the_index_is_found` in the name of a test"),
        ("call();\n" * 801, "the file has 801 lines"),
    ],
    "a.py": [
        ('"""What is measured."""\n', "`What` in a comment"),
        ('def run():\n    """Runs what it was\n    told."""\n', "`told` in a comment"),
        ("# The rows are made\n# anew.\n", "`anew` in a comment"),
        ("call()\n" * 501, "the file has 501 lines"),
    ],
    "tests/python/test_a.py": [
        ("def test_what_is_read_is_kept() -> None: ...\n", "`what_is_read_is_kept` in the name of a test"),
        ("def test_it() -> None: ...\n", "fewer than 3 words"),
    ],
    "a.sql": [("-- Rows that nobody was told of.\nSELECT 1\n", "`told` in a comment")],
    "a.toml": [("# The file is taken up.\na = 1\n", "`taken up` in a comment")],
    "a.yaml": [("a: 1  # the count stands still\n", "`stands still` in a comment")],
    "run": [("#!/usr/bin/env bash\n# The build is gone on with.\n", "`gone on with` in a comment")],
    "a.md": [("The file and its\nkin are read.\n", "`kin` in the text")],
}

# Files that no rule objects to.
GOOD = {
    "src/a.rs": [
        "/// Returns the rows that `told` holds.\nfn rows() {}\n",
        "/// Whether the queue is empty.\nfn is_empty() {}\n",
        "/// ```\n/// // What is told\n/// ```\nfn rows() {}\n",
        'const KEY: &str = "told";\n',
        'const TEXT: &str = "the limit of {told} rows";\n',
        '#[error("cannot read {path}: {error}")]\nstruct Failure;\n',
        "const MAX_ROWS: usize = 1;\nconst fn settled() {}\n",
        "#[test]\nfn parser_rejects_deep_nesting() {}\n",
        f"fn run(values: [u8; 3]);\n\nfn other() {{\n{LONG_BODY[: 90 * 12]}}}\n",
        f"// style: one match arm for each setting\n/// Runs all;\n#[must_use]\nfn run() {{\n{LONG_BODY}}}\n",
        "// style: a table of settings\n" + "call();\n" * 501,
        "// style: the term of the protocol\n/// What the protocol calls so.\nstruct Queue;\n",
        "struct Answer; // style: the term of the protocol\n",
    ],
    "tests/it/organisation/a.rs": ["call();\n" * 800, 'const TEXT: &str = "the client is told";\n'],
    "a.py": [
        'SQL = "SELECT told # and so many"\n',
        'def run() -> None:\n    """Returns the rows."""\n    call(\n        """What was told"""\n    )\n',
    ],
    "tests/python/test_a.py": ["def test_server_without_key_refuses() -> None: ...\n"],
    "a.toml": ["a = '# told'\n"],
    "a.md": [
        "```sh\necho told\n```\n\nSee [the log](told.md) and `told`.\n",
        "<!-- style: the term of the protocol -->\nThe client is told.\n",
    ],
    "CHANGELOG.md": ["Clients are told.\n"],
    "migrations/a.sql": ["-- Clients are told.\n"],
}


def run_check(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the checker as the command that continuous integration runs."""
    return subprocess.run([sys.executable, CHECK, *map(str, arguments)], capture_output=True, text=True)


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def check_in_process(root: Path, path: str, text: str) -> list[str]:
    """Checks a tree that has only this file, and returns the findings. Its exceptions, which are unused, do not count."""
    write(root, path, text)
    findings, files = style.check(root, WORDS, [path])
    assert files == (0 if path in RECORDS else 1)
    return [str(finding) for finding in findings]


def cases(examples: dict[str, list]) -> list[tuple]:
    every = [(path, example) for path in examples for example in examples[path]]
    return [(path, *example) if isinstance(example, tuple) else (path, example) for path, example in every]


def test_style_of_tree_passes() -> None:
    done = run_check()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("path", "text", "message"), cases(BAD))
def test_check_of_bad_example_finds_it(tmp_path: Path, path: str, text: str, message: str) -> None:
    findings = check_in_process(tmp_path, path, text)
    assert len(findings) == 1 and findings[0].startswith(f"{path}:") and message in findings[0], findings


@pytest.mark.parametrize(("path", "text"), cases(GOOD))
def test_check_of_good_example_passes(tmp_path: Path, path: str, text: str) -> None:
    assert check_in_process(tmp_path, path, text) == []


@pytest.mark.parametrize("section", style.Words.SECTIONS)
def test_rules_of_section_have_bad_examples(section: str) -> None:
    found = {message for examples in BAD.values() for _, message in examples}
    places = {"phrase": "in the text", "opening": "`What` in a comment", "error": "in an error"}
    assert WORDS.rules[section]
    assert any(places.get(section, f"in the name of a {section}") in message for message in found)


def test_finding_names_line_and_replacement(tmp_path: Path) -> None:
    findings = check_in_process(tmp_path, "src/a.rs", "\n/// The rows,\n/// of which some\n/// are made anew.\nstruct Rows;\n")
    assert findings == ["src/a.rs:4: `anew` in a comment: archaic (use again, newly)"]


def test_command_prints_findings_and_exits(tmp_path: Path) -> None:
    write(tmp_path, "src/a.md", "Made anew.\n\nThe client is told.\n")
    write(tmp_path, "docs/a.md", "Clients know.\n")
    done = run_check("--root", tmp_path, "src")
    assert done.returncode == 1 and done.stderr == ""
    starts = [line.split("`")[0] for line in done.stdout.splitlines()]
    assert starts == ["src/a.md:1: ", "src/a.md:3: ", "findings: 2, files: 1"]
    done = run_check("--root", tmp_path, "docs")
    assert (done.returncode, done.stdout) == (0, "findings: 0, files: 1\n")


def test_list_groups_findings_by_rule(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "The client is told.\n\nMade anew and anew\nand anew.\n")
    done = run_check("--root", tmp_path, "--list", "a.md")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:2] == [["2", "phrase", "anew:", "a.md", "2"], ["1", "phrase", "told:", "a.md", "1"]]


def test_exception_without_finding_is_reported(tmp_path: Path) -> None:
    rule = '[[phrase]]\npattern = "told"\nwhy = "nobody speaks"\nuse = "reported"\n'
    words = tmp_path / "words"
    words.write_text(f'{rule}[[allow]]\npath = "docs/*"\npattern = "told"\nreason = "a test"\n')
    for text, code in (("Clients are told.\n", 0), ("Clients know.\n", 1)):
        write(tmp_path, "docs/a.md", text)
        done = run_check("--root", tmp_path, "--words", words)
        assert done.returncode == code, done.stdout
    assert "no finding of 'told' in docs/*" in done.stdout
