"""How PyIceberg reads and writes files: on this disk durably, on Cloud Storage not for ever."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import FileSystem, GcsFileSystem
from pyiceberg.io import (
    GCS_DEFAULT_LOCATION,
    GCS_SERVICE_HOST,
    GCS_TOKEN,
    GCS_TOKEN_EXPIRES_AT_MS,
    OutputStream,
)
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.utils.datetime import millis_to_datetime

from schemas import RetriableError
from weighbridge.durable import sync_folder

RETRY_FOR = timedelta(minutes=1)
"""How long one operation on Cloud Storage is tried, as for other destinations that do not answer.

Google's C++ client goes on for 15 minutes.
"""
_LAST = ".json"
"""A commit's last file, beside its others: to sync their folder once is enough."""


class UnreachableError(RetriableError, ConnectionError):
    """An object store does not answer, or asks for credentials; it may pass."""


class TableIO(PyArrowFileIO):
    """PyIceberg's own, but synced to disk, and with an end to what it tries on Cloud Storage.

    SQLite syncs what it writes: a power cut could leave it naming an empty file.
    """

    def new_output(self, location: str) -> PyArrowFile:
        """An output that is on disk once it is closed."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _SyncedFile(fs=self.fs_by_scheme(scheme, netloc), location=location, path=path)

    # PyIceberg 0.12 has no property for the time limit; tests see that this is what it calls.
    def _initialize_gcs_fs(self) -> FileSystem:
        if not self.properties.get(GCS_TOKEN):
            _see_credentials()
        host = urlsplit(self.properties.get(GCS_SERVICE_HOST, ""))
        expires = self.properties.get(GCS_TOKEN_EXPIRES_AT_MS)
        return GcsFileSystem(
            access_token=self.properties.get(GCS_TOKEN),
            credential_token_expiration=millis_to_datetime(int(expires)) if expires else None,
            default_bucket_location=self.properties.get(GCS_DEFAULT_LOCATION, "US"),
            scheme=host.scheme or None,
            endpoint_override=host.netloc or None,
            retry_time_limit=RETRY_FOR,
        )


def _see_credentials() -> None:
    """Ask for them where Google's C++ client looks, too: it takes their want for an outage."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError:
        raise UnreachableError(
            "no Google Cloud credentials: log in with `gcloud auth application-default login`, or "
            "name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None


class _SyncedStream(io.BufferedWriter):
    raw: io.FileIO

    def close(self) -> None:
        if not self.closed:
            self.flush()
            os.fsync(self.fileno())
            path = Path(str(self.raw.name))
            if path.suffix == _LAST:
                sync_folder(path.parent)
        super().close()


class _SyncedFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _SyncedStream(io.FileIO(path, "w" if overwrite else "x"))
