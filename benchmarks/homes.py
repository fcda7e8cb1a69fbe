"""Home folders to measure in: each run gets one as it was, and what it added is compared."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
from pandas.util import hash_pandas_object

from extractors import load_extractors
from pipelines.address import local_path
from pipelines.tables import MODELS, Tables


@dataclass(frozen=True)
class Contents:
    """Rows of all tables, and a sum over their hashes.

    All columns take part but the extractor's version: dicts and row objects come from two modules.
    """

    rows: int
    checksum: int

    def __add__(self, other: Contents) -> Contents:
        return Contents(self.rows + other.rows, (self.checksum + other.checksum) % 2**64)

    def __sub__(self, other: Contents) -> Contents:
        return Contents(self.rows - other.rows, (self.checksum - other.checksum) % 2**64)


def contents(home: Path) -> Contents:
    """What the tables of a home hold, by their current snapshots."""
    tables = Tables(home)
    paths = [
        local_path(task.file.file_path)
        for name in tables.names(MODELS)
        for task in tables.load(name).scan().plan_files()
    ]
    total = Contents(0, 0)
    for batch in ds.dataset(sorted(paths)).to_batches() if paths else ():
        columns = batch.drop_columns(["extractor_version"]).to_pandas()
        hashes = hash_pandas_object(columns, index=False)
        total += Contents(len(hashes), int(hashes.sum()))
    return total


class Homes:
    """Homes of one folder. Tables hold full paths, so that every run's home has the same one."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self._templates = root / "templates"

    def fresh(self, template: str) -> Path:
        """The home as it was when the template was kept."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self._templates / template, self.home)
        return self.home

    def prepare(self, template: str, package: str) -> None:
        """Keep a home with the empty tables of a package."""
        shutil.rmtree(self.home, ignore_errors=True)
        Tables(self.home).prepare(load_extractors(package).values())
        self.keep(template)

    def keep(self, template: str) -> None:
        """Keep the home as it is now."""
        shutil.rmtree(self._templates / template, ignore_errors=True)
        shutil.copytree(self.home, self._templates / template)

    def has(self, template: str) -> bool:
        """Whether the template was kept."""
        return (self._templates / template).exists()
