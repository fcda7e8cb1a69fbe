"""The archive files that a glob names, on this machine or on an object store."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipelines.address import Address, folder_of
from pipelines.batches import InputFile, input_file
from pipelines.objects import ObjectStore
from pipelines.table_io import UnreachableError
from schemas import ConfigurationError
from weighbridge.archive import is_archive_name

_WILD = re.compile(r"[*?\[]")
_TOKENS = re.compile(r"\*+|\?|\[!?[^\]]+\]|.", re.DOTALL)


def match_files(pattern: str, flag: str = "--input_files") -> list[InputFile]:
    """The archive files that a glob names (`**` for any depth), in order of their names.

    Their names begin with the time, and reading in that order keeps what must be compared small.

    Args:
        pattern: the glob, also of gs:// and s3://; a folder stands for all `*.avro` below it.
        flag: that named it, for messages.

    Raises:
        ConfigurationError: there is none, or the bucket cannot be listed.
    """
    try:
        found = list_files(pattern)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}") from None
    except UnreachableError as error:
        raise ConfigurationError(f"{flag}: {error}") from None
    except OSError as error:
        if "://" not in pattern:
            raise
        # Arrow's text may be long, and names the request.
        raise ConfigurationError(
            f"{flag}: {pattern} cannot be listed ({type(error).__name__}); see that the bucket "
            "exists, and that this account may list and read it"
        ) from None
    if not found:
        raise ConfigurationError(f"{flag}: no file matches {pattern}")
    return found


def list_files(pattern: str) -> list[InputFile]:
    """Like `match_files`, where there may be none yet.

    Raises:
        ValueError: an address that is none.
        OSError: an object store that does not answer, or refuses.
    """
    if "://" in pattern:
        return list(_objects(pattern))
    if Path(pattern).is_dir():
        pattern = f"{pattern}/**/*.avro"
    found = []
    for path in sorted(glob.glob(pattern, recursive=True)):
        with suppress(FileNotFoundError):  # removed meanwhile
            if is_archive_name(path) and os.path.isfile(path):
                found.append(input_file(path))
    return found


def _objects(pattern: str) -> Iterator[InputFile]:
    folder, wanted = _parted(pattern)
    store = ObjectStore(folder)
    for name, size, written in store.files("", ""):
        if is_archive_name(name) and wanted.fullmatch(name):
            yield InputFile(store.path(name), size, written, written)


def _parted(pattern: str) -> tuple[Address, re.Pattern[str]]:
    """The folder that is listed, and what the names below it must be."""
    wild = _WILD.search(pattern)
    if wild is None and not pattern.endswith(".avro"):
        return _address(pattern), re.compile(r".*\.avro", re.DOTALL)
    # The folder is known up to the first part with a wildcard in it.
    folder, _, rest = pattern[: wild.start() if wild else None].rpartition("/")
    *above, last = f"{rest}{pattern[wild.start() :] if wild else ''}".split("/")
    text = "".join("(.*/)?" if part == "**" else f"{_part(part)}/" for part in above)
    text += ".*" if last == "**" else _part(last)
    return _address(folder), re.compile(text, re.DOTALL)


def _address(text: str) -> Address:
    folder = folder_of(text)
    if not isinstance(folder, Address):
        raise ValueError(f"{text} is no address of a bucket")
    return folder


def _part(glob: str) -> str:
    """The expression for one part of a path, between slashes."""
    return "".join(map(_meaning, _TOKENS.findall(glob)))


def _meaning(token: str) -> str:
    if token[0] == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) > 1:
        return token.replace("\\", "\\\\").replace("[!", "[^", 1)
    return re.escape(token)
