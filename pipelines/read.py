"""Archive files as messages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import apache_beam as beam

from pipelines.address import folder_of
from pipelines.logs import log
from pipelines.metrics import UNKNOWN, counter
from pipelines.selection import EVERYTHING, Selection
from pipelines.store import Store
from weighbridge.archive import Message, UnreadableArchive, read_archive


class ReadArchive(beam.PTransform[Any, Any]):
    """Reads archive files. In: paths. Out: `Message`.

    A part that cannot be read is logged and counted with its file's name; the rest is read.

    Args:
        selection: of the messages, those that are wanted.
    """

    def __init__(self, selection: Selection = EVERYTHING) -> None:
        super().__init__()
        self._selection = selection

    def expand(self, paths: Any) -> Any:
        """Spread the files over workers, then read them."""
        read = beam.FlatMap(read_messages, self._selection)
        return paths | "SpreadFiles" >> beam.Reshuffle() | "ReadMessages" >> read


def read_messages(path: str, selection: Selection = EVERYTHING) -> Iterator[Message]:
    """The wanted messages of an archive file, as far as it can be read."""
    try:
        with _opened(path) as stream:
            messages = read_archive(stream)
            yield from messages if selection == EVERYTHING else filter(selection.takes, messages)
    except UnreadableArchive as error:
        counter(UNKNOWN, "files_damaged").inc()
        log.warning("%s is damaged: %s", path, error)


def _opened(path: str) -> BinaryIO:
    if "://" not in path:
        return open(path, "rb")
    folder, _, name = path.rpartition("/")
    return io.BytesIO(Store(folder_of(folder)).read(name))
