"""The steps of the unbounded graph, called one after another in this process, without a runner."""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from benchmarks.homes import Homes
from benchmarks.scaling.stages import COMMIT, REST, WRITE, Stages
from extractors import Extractors, load_extractors
from pipelines import local_catalog
from pipelines.address import local_path
from pipelines.committer import commit_now
from pipelines.extract import ExtractRows
from pipelines.files import FileRef
from pipelines.outbox import Outbox
from pipelines.shuffle import ShuffleRows, _gathered
from pipelines.tables import RowTable, Tables
from pipelines.write import WriteAnyway
from weighbridge.archive import Message

MAX_FUTURE, MAX_ENVELOPE_BYTES = 600.0, 10 << 20
"""Those of a run."""


@dataclass
class Passed:
    """What one pass cost, and what it made.

    Attributes:
        stages: nanoseconds of CPU.
        rows: written.
        shuffled: bytes of rows between the two halves of the stream, with their keys.
        elements: that carried them.
        files: data files.
        file_bytes: of them.
        metadata_bytes: that the commits added beside them.
        commits: how many.
    """

    stages: Stages = field(default_factory=Stages)
    rows: int = 0
    shuffled: int = 0
    elements: int = 0
    files: int = 0
    file_bytes: int = 0
    metadata_bytes: int = 0
    commits: int = 0


class Steps:
    """Empty tables of a package, and the steps before them.

    Args:
        package: of the extractors.
        homes: where the home folder is, and is prepared once.
    """

    def __init__(self, package: str, homes: Homes) -> None:
        self._extractors: Extractors = load_extractors(package)
        name = package.rpartition(".")[2]
        if not homes.has(name):
            homes.prepare(name, package)
        self._home = homes.fresh(name)
        local_catalog._seen.clear()  # as a new process
        self.tables = Tables(self._home)

    def run(self, messages: Sequence[Message], bundle: int, panes: int = 1) -> Passed:
        """Pass messages through all steps.

        Args:
            messages: in order of their publish times.
            bundle: messages of one bundle.
            panes: groups that bundles are shared among; each is written and committed by itself.
        """
        passed = Passed()
        stages = passed.stages
        step = ExtractRows(
            self._extractors, ShuffleRows(), MAX_FUTURE, MAX_ENVELOPE_BYTES, self._home, False
        ).step
        step.setup()
        gc.collect()
        with stages.watching():
            each = -(-len(messages) // panes)
            for first in range(0, len(messages), each):
                held: dict[tuple[str, int], list[bytes]] = defaultdict(list)
                part = messages[first : first + each]
                for start in range(0, len(part), bundle):
                    for key, rows in stages.call(
                        REST, _extracted, step, part[start : start + bundle]
                    ):
                        held[key].append(rows)
                        passed.elements += 1
                        passed.shuffled += len(rows) + len(key[0]) + 2
                self._land(held, passed)
        step.teardown()
        return passed

    def _land(self, held: dict[tuple[str, int], list[bytes]], passed: Passed) -> None:
        write = WriteAnyway(self.tables)
        files: dict[str, list[FileRef]] = defaultdict(list)
        for (name, _), elements in held.items():
            found = passed.stages.call(WRITE, _written, write, RowTable(name), elements)
            files[name] += [FileRef.from_json(ref) for _, ref in found]
        before = _size(self._home, "metadata")
        for name, refs in files.items():
            passed.stages.call(COMMIT, commit_now, self.tables, name, refs, Outbox(None))
            passed.commits += 1
            passed.rows += sum(ref.rows for ref in refs) if name.startswith("models.") else 0
            passed.files += len(refs)
            passed.file_bytes += sum(os.path.getsize(local_path(ref.path)) for ref in refs)
        passed.metadata_bytes += _size(self._home, "metadata") - before


def _extracted(step: Any, messages: Sequence[Message]) -> list[tuple[tuple[str, int], bytes]]:
    step.start_bundle()
    outputs = [output for message in messages for output in step.process(message)]
    outputs += step.finish_bundle()
    return list(_rows(outputs))


def _rows(outputs: list[Any]) -> Iterator[tuple[tuple[str, int], bytes]]:
    for output in outputs:
        value = output.value if isinstance(output, WindowedValue) else output
        if isinstance(value, TaggedOutput):
            raise AssertionError("a message of the benchmark failed, or was parked")
        yield value


def _written(write: WriteAnyway, table: RowTable, elements: list[bytes]) -> list[tuple[str, str]]:
    return [ref for batches in _gathered(elements) for ref in write(table, batches)]


def _size(home: Path, folder: str) -> int:
    return sum(path.stat().st_size for path in home.rglob(f"{folder}/*") if path.is_file())
