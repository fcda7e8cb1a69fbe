"""Input cut into batches: parts that never change, small enough to hold and large enough to pay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

MAX_BATCH_BYTES = 256 << 20
"""Each batch has a fixed cost, a commit for each of its tables above all."""


class InputFile(NamedTuple):
    """An archive file. Times in nanoseconds since 1970; `published`: of its oldest message."""

    path: str
    bytes: int
    written: int
    published: int


class Input(NamedTuple):
    """Files to be run, and what is to be told once the rows of some are committed."""

    files: Sequence[InputFile]
    done: Callable[[Sequence[InputFile]], None] = lambda files: None


def input_file(path: str, published: int | None = None) -> InputFile:
    """The file as it is on disk; what nobody has looked into counts as published when written.

    Raises:
        FileNotFoundError: it is not there.
    """
    status = os.stat(path)
    written = status.st_mtime_ns
    return InputFile(path, status.st_size, written, written if published is None else published)


def cut(files: Sequence[InputFile], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[list[InputFile]]:
    """The files in their order, in parts of up to that size; a larger file is one by itself."""
    part: list[InputFile] = []
    size = 0
    for file in files:
        if part and size + file.bytes > max_bytes:
            yield part
            part, size = [], 0
        part.append(file)
        size += file.bytes
    if part:
        yield part


def shares(files: Sequence[InputFile], workers: int) -> list[list[str]]:
    """Paths for each worker: about the same number of bytes, each share in the files' order."""
    sizes = [0] * workers
    chosen = {}
    for file in sorted(files, key=_bytes, reverse=True):
        worker = sizes.index(min(sizes))
        sizes[worker] += max(file.bytes, 1)
        chosen[file.path] = worker
    parts: list[list[str]] = [[] for _ in range(workers)]
    for file in files:
        parts[chosen[file.path]].append(file.path)
    return [part for part in parts if part]


def _bytes(file: InputFile) -> int:
    return file.bytes
