"""Where data files wait for their load job: objects below a folder of a bucket."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import google.cloud.storage as storage
import pyarrow as pa
from google.auth.credentials import AnonymousCredentials

from pipelines.bigquery.access import at_launch, at_work, credentials_needed

_ROLES = "grant it roles/storage.objectUser on the bucket"


@dataclass
class Staging:
    """A folder on Cloud Storage. Pickles as its address; opens its client on use.

    Args:
        root: such as gs://bucket/prefix.
    """

    root: str
    _bucket: Any = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_bucket": None}

    def check(self) -> None:
        """See that objects can be listed and written.

        Raises:
            ConfigurationError: there is no such bucket, or we may not use it.
        """
        name = self.root.removeprefix("gs://").partition("/")[0]
        create = f"create the bucket, e.g. `gcloud storage buckets create gs://{name}`"
        with at_launch(f"--staging {self.root}", create, _ROLES):
            blob = self._blob(self.path(".check"))
            blob.upload_from_string(b"")

    def path(self, name: str) -> str:
        """The address of an object."""
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write an object; one that exists is replaced by the same."""
        path = self.path(name)
        with at_work(path):
            self._blob(path).upload_from_file(BytesIO(data), size=len(data))

    def paths(self, folder: str) -> list[str]:
        """Addresses of the objects below a folder, in order."""
        root = self._blob(self.path(folder))
        with at_work(self.path(folder)):
            names = sorted(blob.name for blob in root.bucket.list_blobs(prefix=root.name))
        return [f"gs://{root.bucket.name}/{name}" for name in names]

    def open(self, path: str) -> pa.BufferReader:
        """A data file."""
        with at_work(path):
            return pa.BufferReader(self._blob(path).download_as_bytes())

    def _blob(self, path: str) -> Any:
        bucket, _, key = path.removeprefix("gs://").partition("/")
        if self._bucket is None:
            emulated = "STORAGE_EMULATOR_HOST" in os.environ
            with credentials_needed():
                # Named, as objects need no project and the library would look for one.
                client = storage.Client("none", AnonymousCredentials() if emulated else None)
            self._bucket = client.bucket(bucket)
        return self._bucket.blob(key)
