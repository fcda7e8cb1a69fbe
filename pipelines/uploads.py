"""What Arize's receiver keeps of an upload, in memory and as a file."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from pipelines.store import Store

SPACE_KEY = b"arize-space-id"
MALFORMED = (pa.ArrowException, ValueError, OSError, DecodeError)
_SCHEMA_KEY = b"arize-schema"
_SUFFIX = ".arrow"


@dataclass(frozen=True)
class Upload:
    """One accepted upload.

    `columns` is the protobuf's ArrowSchema as a mapping: its field names to column names, lists
    of column names or, for SHAP values and embeddings, mappings of them. Unset fields are absent.
    """

    model_id: str
    model_version: str
    environment: str
    model_type: str
    batch_id: str
    space_id: str
    columns: Mapping[str, Any]
    table: pa.Table


class UploadFolder:
    """Uploads as Arrow files; a name begins with the arrival time in nanoseconds."""

    def __init__(self, path: Path) -> None:
        self._store = Store(path)
        self._last = 0

    def load(self) -> list[Upload]:
        """The uploads of earlier receivers, in the order of their arrival."""
        uploads = []
        for name in self._store.names("", _SUFFIX):
            try:
                self._last = int(name.partition("-")[0])
                uploads.append(read_upload(pa.ipc.open_file(self._store.read(name)).read_all()))
            except MALFORMED as error:
                raise ValueError(f"{self._store.root / name} is not an upload: {error}") from error
        return uploads

    def save(self, table: pa.Table) -> None:
        """Keep an upload, durably."""
        # A clock set back must not reorder uploads, nor two processes overwrite each other's.
        self._last = max(time.time_ns(), self._last + 1)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        name = f"{self._last:020d}-{uuid4().hex[:8]}{_SUFFIX}"
        self._store.write(name, memoryview(sink.getvalue()))


def read_upload(table: pa.Table) -> Upload:
    """The upload of a table whose schema metadata has what the SDK sent.

    Raises:
        Exception: one of `MALFORMED`: it is not what Arize's protocol says.
    """
    metadata = table.schema.metadata or {}
    if _SCHEMA_KEY not in metadata:
        raise ValueError("the Arrow schema's metadata has no arize-schema")
    pb2 = protobuf()
    schema = pb2.Schema.FromString(base64.b64decode(metadata[_SCHEMA_KEY], validate=True))
    if not schema.HasField("arrow_schema") or not schema.constants.model_id:
        raise ValueError("arize-schema has no arrow_schema or no model_id")
    columns = MessageToDict(schema.arrow_schema, preserving_proto_field_name=True)
    if missing := _leaves(columns) - set(table.column_names):
        raise ValueError(f"columns of arize-schema are missing: {sorted(missing)}")
    if len(set(table.column_names)) != table.num_columns:
        raise ValueError("column names are not unique")
    return Upload(
        model_id=schema.constants.model_id,
        model_version=schema.constants.model_version,
        environment=pb2.Schema.Environment.Name(schema.constants.environment),
        model_type=pb2.Schema.ModelType.Name(schema.constants.model_type),
        batch_id=schema.constants.batch_id,
        space_id=metadata.get(SPACE_KEY, b"").decode(),
        columns=columns,
        table=table,
    )


def _leaves(columns: Any) -> set[str]:
    if isinstance(columns, str):
        return {columns}
    values = columns.values() if isinstance(columns, Mapping) else columns
    return {name for value in values for name in _leaves(value)}


@cache
def protobuf() -> Any:
    """The SDK's module of protobuf classes; takes a second to import."""
    from arize._generated.protocol.rec import public_pb2

    return public_pb2
