"""Lakes on the local disk that are built once, and then copied for each test that needs the same one."""

from __future__ import annotations

import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa

from harness import Lake, LocalLake


class Model(Protocol):
    """A lake and its expected state."""

    lake: Lake


AnyModel = TypeVar("AnyModel", bound=Model)


_templates: list[Path] = []


def new_template() -> Path:
    """Returns a new folder for a lake that will be copied."""
    _templates.append(Path(tempfile.mkdtemp(prefix="plantlake-prepared-")))
    return _templates[-1]


def remove_templates() -> None:
    """Removes the lakes that were copied, at the end of all tests."""
    while _templates:
        shutil.rmtree(_templates.pop(), ignore_errors=True)


def copy_lake(source: Path, target: Path, links_raw: bool = True) -> None:
    """Copies the folder of a lake, with its state and catalog, so that the copy is as if it had been built in its place.

    Runs compare the paths, times and inodes of raw files with those that the last run recorded. So all times are kept, the path
    is replaced in the files that record it, and raw files are linked. A test that changes a raw file in place, instead of
    replacing it, needs `links_raw=False`; the next run of its lake then reads all raw files again.
    """
    raw = source / "lake" / "raw"

    def copy_file(one: str, other: str) -> None:
        if links_raw and raw in Path(one).parents:
            Path(other).hardlink_to(one)
            return
        shutil.copy2(one, other)
        is_log = Path(one).parent.name == "_delta_log" and one.endswith(".json")
        if not is_log and not one.endswith("/ledger.json.zst"):
            return
        compression = None if is_log else "zstd"
        with pa.input_stream(one, compression=compression) as stream:
            content = stream.read()
        with pa.output_stream(other, compression=compression) as stream:
            stream.write(content.replace(bytes(source), bytes(target)))
        shutil.copystat(one, other)

    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=copy_file)


def prepared(build: Callable[..., AnyModel]) -> Callable[..., AnyModel]:
    """Decorates a function that fills an empty lake and returns its model. Calls with the same arguments copy the first lake.

    In a bucket, each call fills its own lake, because copies of raw files have other modification times.
    """
    known: dict[str, tuple[Path, AnyModel]] = {}

    @functools.wraps(build)
    def build_or_copy(lake: Lake, *args: object) -> AnyModel:
        if not isinstance(lake, LocalLake) or lake.settings:
            return build(lake, *args)
        if repr(args) not in known:
            model, folder = build(lake, *args), new_template()
            copy_lake(lake.folder, folder)
            known[repr(args)] = folder, copy.deepcopy(model, {id(lake): None})
            return model
        folder, model = known[repr(args)]
        copy_lake(folder, lake.folder)
        own = copy.deepcopy(model)
        own.lake = lake
        return own

    return build_or_copy
