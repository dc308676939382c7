"""The search models for tests: the bi-encoder that tests/run downloads, and a small cross-encoder of this repository."""

from __future__ import annotations

import os
from pathlib import Path

from harness import OK, REPOSITORY, LocalLake

BI_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"


def models_folder() -> Path:
    """Returns the folder into which tests/run downloads the bi-encoder."""
    folder = Path(os.environ.get("PLANTLAKE_TEST_MODELS") or REPOSITORY / ".models")
    assert any(folder.glob("*/**/model.safetensors")), f"{folder} has no model: tests/run downloads it"
    return folder


def fetch_models(lake: LocalLake, folder: Path, *names: str) -> dict[str, str]:
    """Fetches these models into `folder` and returns the settings for them."""
    settings = {"PLANTLAKE_SEARCH_MODELS": str(folder)}
    for name in names:
        source = REPOSITORY / "tests/search/cross-encoder"
        if name == "bi-encoder":
            source = next(models_folder().glob("**/model.safetensors")).parent
        lake.run("models", "fetch", "--only", name, "--from", str(source), settings=settings).expect(OK)
    return settings
