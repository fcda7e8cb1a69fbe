"""Archive files as messages."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.metrics import UNKNOWN, counter
from schemas import ConfigurationError
from weighbridge.archive import Message, UnreadableArchive, is_archive_name, read_archive

_log = logging.getLogger("weighbridge")


def match_files(pattern: str) -> list[str]:
    """The archive files that a glob names (`**` for any depth), in order of their names.

    Their names begin with the time, and reading in that order keeps what must be compared small.

    Raises:
        ConfigurationError: there is none.
    """
    if Path(pattern).is_dir():
        pattern = f"{pattern}/**/*.avro"
    paths = sorted(glob.glob(pattern, recursive=True))
    found = [path for path in paths if is_archive_name(path) and Path(path).is_file()]
    if not found:
        raise ConfigurationError(f"--input_files: no file matches {pattern}")
    return found


class ReadArchive(beam.PTransform[Any, Any]):
    """Reads archive files. In: the pipeline. Out: `Message`.

    A part that cannot be read is logged and counted with its file's name; the rest is read.
    """

    def __init__(self, files: list[str]) -> None:
        super().__init__()
        self._files = files

    def expand(self, pipeline: Any) -> Any:
        """Spread the files over workers, then read them."""
        return (
            pipeline
            | "Files" >> beam.Create(self._files, reshuffle=False)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadMessages" >> beam.FlatMap(_read)
        )


def _read(path: str) -> Iterator[Message]:
    try:
        with open(path, "rb") as stream:
            yield from read_archive(stream)
    except UnreadableArchive as error:
        counter(UNKNOWN, "files_damaged").inc()
        _log.warning("%s is damaged: %s", path, error)
