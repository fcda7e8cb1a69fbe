"""Objects on Cloud Storage and S3: a single put each, no rename and no lock."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.utils.config import Config

from pipelines.address import Address
from pipelines.store import Store
from pipelines.table_io import TableIO, UnreachableError

CATALOG = "weighbridge"
"""Name of the catalog, in SQL catalogs and in PyIceberg's own settings."""


class ObjectStore(Store):
    """Objects below an address, as `Store(address)` gives it.

    Listing, reading and writing are those of object stores: what is listed is complete, and the
    last of two writers wins. Nobody locks anything: objects are named by their content or have one
    writer, and work that is done twice adds nothing twice.
    """

    def __init__(self, root: Address) -> None:
        self.folder: Address = root

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put an object."""
        with refusals(self.folder.text), self._files.open_output_stream(self._key(name)) as stream:
            stream.write(data)

    def append(self, name: str, data: bytes) -> None:
        """Put it anew, with more at its end."""
        before = b""
        with suppress(FileNotFoundError):
            before = self.read(name)
        self.write(name, before + data)

    def path(self, name: str) -> str:
        """The object's address."""
        return f"{self.folder}/{name}"

    def scratch(self, name: str) -> Path:
        """A folder for temporary files, the same for all processes of this machine."""
        here = blake2b(str(self.folder).encode(), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"weighbridge-{here}" / name

    def read(self, name: str) -> bytes:
        """The object's bytes; see `Store.read`."""
        with refusals(self.folder.text), self._files.open_input_file(self._key(name)) as stream:
            data: bytes = stream.read()
            return data

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with refusals(self.folder.text), suppress(FileNotFoundError):
            self._files.delete_file(self._key(name))

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        return bool(self._info(name).type == FileType.File)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the objects below a folder, in order."""
        return [name for name, _, _ in self.files(folder, suffix)]

    def files(self, folder: str, suffix: str) -> list[tuple[str, int, int]]:
        """Names of the objects below a folder, in order; their bytes, and when they were put."""
        selector = FileSelector(self._key(folder).rstrip("/"), recursive=True, allow_not_found=True)
        with refusals(self.folder.text):
            found = self._files.get_file_info(selector)
        start = len(self._key(""))
        return sorted(
            (info.path[start:], info.size, info.mtime_ns or 0)
            for info in found
            if info.type == FileType.File
            and info.path.endswith(suffix)
            and not PurePosixPath(info.path).name.startswith(".")
        )

    def unfinished(self) -> list[str]:
        """None: an object appears whole or not at all."""
        return []

    def age(self, name: str) -> float:
        """Seconds since the object was put; 0 if it is not there."""
        moment = self._info(name).mtime_ns
        return 0.0 if moment is None else time.time() - moment / 1e9

    def described(self, name: str) -> tuple[int, int]:
        """Bytes of an object, and when it was put; see `Store.described`."""
        found = self._info(name)
        if found.type != FileType.File:
            raise FileNotFoundError(self.path(name))
        return found.size, found.mtime_ns or 0

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Go on at once."""
        yield True

    try_locked = locked

    def _info(self, name: str) -> Any:
        with refusals(self.folder.text):
            return self._files.get_file_info(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self.folder.text.partition('://')[2]}/{name}"

    @property
    def _files(self) -> FileSystem:
        scheme, _, rest = self.folder.text.partition("://")
        return _file_system(scheme, rest.partition("/")[0], os.getpid())


class TableFiles:
    """Where the data files of a table are put whose location is elsewhere: a `files.Place`.

    Args:
        location: the table's own.
        io: the table's own, as a catalog may lend it credentials.
    """

    def __init__(self, location: str, io: FileIO) -> None:
        self._location = location
        self._io = io

    def path(self, name: str) -> str:
        """The address of a file."""
        return f"{self._location}/{name}"

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put a file; one that is there is replaced by the same."""
        file = self._io.new_output(self.path(name))
        with refusals(self._location), file.create(overwrite=True) as stream:
            stream.write(bytes(data))


def settings() -> dict[str, Any]:
    """What PyIceberg's own settings say about our catalog and its storage, secrets included.

    They are read from the environment (PYICEBERG_CATALOG__WEIGHBRIDGE__*) and `.pyiceberg.yaml`,
    where they are used, and are not to be kept. STORAGE_EMULATOR_HOST leads to an emulator.
    """
    found: dict[str, Any] = dict(Config().get_catalog_config(CATALOG) or {})
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        host = emulator if "://" in emulator else f"http://{emulator}"
        token = {"gcs.oauth2.token": "none", "gcs.oauth2.token-expires-at": "4102444800000"}
        found = {"gcs.service.host": host, **token, **found}
    return found


_MEANINGS: dict[str, tuple[type[OSError], str]] = {
    "AWS Error ACCESS_DENIED": (PermissionError, "S3 does not allow it"),
    "AWS Error NO_SUCH_BUCKET": (FileNotFoundError, "no such bucket on S3"),
    "AWS Error NETWORK_CONNECTION": (UnreachableError, "S3 cannot be reached"),
    "google::cloud::Status(PERMISSION_DENIED": (PermissionError, "Cloud Storage does not allow it"),
    "google::cloud::Status(UNAUTHENTICATED": (PermissionError, "Cloud Storage refuses who we are"),
    "create a OAuth2 access token": (
        UnreachableError,
        "Google gives no access token; see that it can be reached, or log in anew with `gcloud "
        "auth application-default login`",
    ),
    "google::cloud::Status(UNAVAILABLE": (UnreachableError, "Cloud Storage does not answer"),
}
"""What Arrow's texts say, the first that fits; it has one class for most of its errors."""


@contextmanager
def refusals(where: str = "") -> Iterator[None]:
    """Raise what object stores refuse as what it is, in our words: theirs quote the request.

    Args:
        where: a place, for the message.

    Raises:
        PermissionError, FileNotFoundError: it stays refused.
        UnreachableError: it may pass.
    """
    try:
        yield
    except OSError as error:
        text = str(error)
        for sign, (kind, meaning) in _MEANINGS.items():
            if sign in text:
                raise kind(f"{where}: {meaning}" if where else meaning) from None
        raise


@lru_cache
def _file_system(scheme: str, bucket: str, process: int) -> FileSystem:
    """One for each process: a fork must not use its parent's connections."""
    return TableIO(settings()).fs_by_scheme(scheme, bucket)
