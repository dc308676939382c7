"""Tests of shell completions of commands, flags and values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import harness
from harness import OK, USAGE

pytestmark = pytest.mark.local_only


def bash_completions(line: str, folder: Path) -> set[str]:
    """Returns bash's completions of the last word of a line, by the function that the script registers."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        source <(plantlake completions bash)
        COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1} COMP_LINE='{line}' COMP_POINT={len(line)}
        function=$(complete -p plantlake | sed -E 's/.*-F ([^ ]+).*/\\1/')
        "$function" plantlake "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    (folder / "bin").mkdir(exist_ok=True)
    link = folder / "bin" / "plantlake"
    if not link.exists():
        link.symlink_to(harness.binary())
    environment = harness.environment()
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def commands_in_help(*command: str) -> set[str]:
    """Returns the commands listed in the help."""
    help_text = harness.run([*command, "--help"]).expect(OK).text
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", help_text, re.MULTILINE)
    return set(re.findall(r"^  ([a-z][a-z-]*)", listed[1], re.MULTILINE))


def test_bash_completes_commands_flags_and_values(tmp_path: Path) -> None:
    assert commands_in_help() <= bash_completions("plantlake ", tmp_path)
    assert {"resample", "restore"} == bash_completions("plantlake res", tmp_path)
    assert commands_in_help("usage") <= bash_completions("plantlake usage ", tmp_path)
    assert {"--to", "--check", "--only", "--json", "--config"} <= bash_completions("plantlake backup --", tmp_path)
    assert bash_completions("plantlake completions z", tmp_path) == {"zsh"}
    assert {"csv", "json", "parquet", "table"} <= bash_completions("plantlake query x --format ", tmp_path)
    (tmp_path / "old.tar.zst").touch()
    assert "old.tar.zst" in bash_completions("plantlake restore --from o", tmp_path)


def test_completions_of_other_shells_are_valid(tmp_path: Path) -> None:
    for shell in ("zsh", "fish", "elvish", "powershell"):
        script = harness.run(["completions", shell], cwd=tmp_path).expect(OK).text
        assert "resample" in script and "organisations" in script.lower()
        if shutil.which(shell):
            (tmp_path / shell).write_text(script)
            check = {"zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}.get(shell)
            if check:
                subprocess.run([*check, str(tmp_path / shell)], check=True, timeout=60)
    assert "bash" in harness.run(["completions", "tcsh"], cwd=tmp_path).expect(USAGE).err


def test_completions_need_no_valid_settings(tmp_path: Path) -> None:
    (tmp_path / "plantlake.toml").write_text(json.dumps({"nonsense": 1}))
    harness.run(["config"], cwd=tmp_path).expect(USAGE)
    assert "complete" in harness.run(["completions", "bash"], cwd=tmp_path).expect(OK).text
    assert [path.name for path in tmp_path.iterdir()] == ["plantlake.toml"]
