"""Sends rows of one table to Arize with its SDK: pinned types, own retries and time-outs."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from extractors import Extractor
from pipelines.secrets import Secret
from pipelines.spaces import Space, space_named
from schemas import ConfigurationError, RetriableError
from schemas.arize import schema_fields, sdk_limits
from schemas.arrow import CLASS_SCORES
from schemas.columns import columns_of

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
# What its validator raises on values that it did not expect, instead of a verdict.
_SDK_BREAKS = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED = frozenset({400, 413, 422})
_MODEL_TYPES = {
    "regression": "REGRESSION",
    "binary": "BINARY_CLASSIFICATION",
    "categorical": "SCORE_CATEGORICAL",
    "multiclass": "MULTI_CLASS",
    "ranking": "RANKING",
}


@dataclass(frozen=True)
class ArizeAccess:
    """Where Arize is, and who we are. Pickles without ids and keys, only where these are.

    Args:
        url: "" for Arize's own address, else e.g. "http://127.0.0.1:8100" of a local receiver.
        spaces: those whose settings are not the default ones.
    """

    url: str = ""
    spaces: tuple[Space, ...] = ()

    def check(self, spaces: set[str]) -> None:
        """Fail at launch where something is missing.

        Raises:
            ConfigurationError: naming every variable that is not set.
        """
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise ConfigurationError(
                    f"--arize_url: {self.url} is not of the form http://HOST:PORT or https://HOST"
                )
        missing = [secret.name for secret in self._secrets(spaces) if secret.missing]
        if missing:
            raise ConfigurationError(
                f"set {' and '.join(missing)}, or run with --no_arize to fill the tables only"
            )

    def resolve(self, spaces: set[str]) -> None:
        """Fail at launch where a process like this one cannot read an id or a key.

        Raises:
            ConfigurationError: it is not there, or may not be read.
            RetriableError: Secret Manager does not answer now.
        """
        for secret in self._secrets(spaces):
            try:
                secret.value()
            except ConnectionError as error:
                raise RetriableError(str(error)) from None

    def _secrets(self, spaces: set[str]) -> list[Secret]:
        """Keys first, each once."""
        found = [self.space(name) for name in sorted(spaces)]
        return list(dict.fromkeys([*(s.api_key for s in found), *(s.id for s in found)]))

    def space(self, name: str) -> Space:
        """A space by its name, "" for the default."""
        return space_named(name, self.spaces)

    def client(self, space: str = "") -> Any:
        """The SDK's client for model data, with the key of a space."""
        from arize import ArizeClient

        # It prints each upload and each validation error to stdout, where our own report stands.
        logging.getLogger("arize").setLevel(logging.CRITICAL)

        address: dict[str, Any] = {}
        if self.url:
            parts = urlsplit(self.url)
            address = {"api_host": parts.hostname, "api_scheme": parts.scheme}
            if parts.port:
                address["api_port"] = parts.port
        return ArizeClient(api_key=self.space(space).api_key.value(), **address).ml


class ArizeUnavailable(Exception):
    """Arize did not take the rows now; they stay in the outbox."""


class RowsRefused(Exception):
    """Arize, or its SDK, refuses these rows for good."""


@dataclass
class Sent:
    """What became of rows that were given to `ArizeSender.send`."""

    rows: int = 0
    attempts: int = 0
    possible_duplicates: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Row id and error of each single row that was refused."""


class ArizeSender:
    """Sends rows of one extractor's table.

    Args:
        extractor: whose row class names the roles.
        access: where to, and as whom.
        pause: waits before another attempt; takes seconds.
    """

    def __init__(
        self,
        extractor: Extractor,
        access: ArizeAccess,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._extractor = extractor
        self._access = access
        self._pause = pause
        self._client: Any = None
        self._columns = columns_of(extractor.row)
        self._sent = [c for c in self._columns if c.role.kind not in _NOT_SENT]

    @property
    def columns(self) -> list[str]:
        """Columns of the table that sending needs."""
        stamped = ["envelope_id", "row_id", "prediction_id", "model_version", "event_time"]
        return [*stamped, *(c.name for c in self._sent if c.name not in stamped)]

    def selected(self, rows: pa.Table, now: datetime) -> tuple[pa.Table, int, int]:
        """The rows to send, and how many are outside of Arize's look-back, and sampled out."""
        limits = sdk_limits()
        year = timedelta(days=365)
        oldest = now - limits.MAX_PAST_YEARS_FROM_CURRENT_TIME * year
        newest = now + limits.MAX_FUTURE_YEARS_FROM_CURRENT_TIME * year
        time = rows[self._time_column()]
        fits = pc.and_(pc.greater(time, pa.scalar(oldest, time.type)),
                       pc.less(time, pa.scalar(newest, time.type)))  # fmt: skip
        kept = rows.filter(fits)
        outside = rows.num_rows - kept.num_rows
        rate, unit = self._extractor.settings.arize_sample_rate, self._sampling_unit()
        if rate < 1 and unit:
            chosen = [_share(id_) < rate for id_ in kept[unit].to_pylist()]
            kept = kept.filter(pa.array(chosen, pa.bool_()))
        return kept, outside, rows.num_rows - outside - kept.num_rows

    def _sampling_unit(self) -> str:
        """The column whose values are pushed or left out as a whole; "" pushes all."""
        if self._extractor.settings.arize_sample_by == "prediction":
            return "prediction_id"
        # The envelope of an actual is another than that of its prediction, which must not miss it.
        if self._extractor.kind == "actual":
            return ""
        return next((c.name for c in self._columns if c.role.kind == "group_id"), "envelope_id")

    def send(self, rows: pa.Table, model_version: str, sent: Sent) -> None:
        """Send rows of one model version, and add to `sent` what becomes of them, also on failure.

        Raises:
            ArizeUnavailable: after the last attempt; some rows may have been taken.
            ConfigurationError: the key or the space is refused.
        """
        most = self._extractor.settings.arize_batch_rows
        if rows.num_rows > most:
            for start in range(0, rows.num_rows, most):
                self.send(rows.slice(start, most), model_version, sent)
            return
        try:
            self._log(rows, model_version, sent)
            sent.rows += rows.num_rows
        except RowsRefused as error:
            if rows.num_rows == 1:
                sent.refused.append((rows["row_id"][0].as_py(), str(error)))
                return
            # One row is enough to have a whole batch refused: halve until it stands alone.
            middle = rows.num_rows // 2
            self.send(rows.slice(0, middle), model_version, sent)
            self.send(rows.slice(middle), model_version, sent)

    def _log(self, rows: pa.Table, model_version: str, sent: Sent) -> None:
        frame, schema = self._frame(rows), self._schema(rows)
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(random.uniform(0.5, 1.0) * BACKOFF_SECONDS * 2**attempt)
            sent.attempts += 1
            try:
                self._call(frame, schema, model_version)
                return
            except _Passing as error:
                reason = str(error)
                sent.possible_duplicates += rows.num_rows if error.ambiguous else 0
        raise ArizeUnavailable(reason)

    def _call(self, frame: pd.DataFrame, schema: Any, model_version: str) -> None:
        import requests
        from arize.exceptions.auth import AuthenticationError
        from arize.exceptions.base import ValidationFailure
        from arize.exceptions.http import APIError
        from arize.ml.types import Environments, ModelTypes

        if self._client is None:
            self._client = self._access.client(self._extractor.settings.arize_space)
        space = self._access.space(self._extractor.settings.arize_space)
        try:
            response = self._client.log(
                space_id=space.id.value(),
                model_name=self._extractor.model_id,
                model_type=ModelTypes[_MODEL_TYPES[self._extractor.model_type]],
                dataframe=frame,
                schema=schema,
                environment=Environments.PRODUCTION,
                model_version=model_version,
                timeout=TIMEOUT_SECONDS,
            )
        except AuthenticationError:
            raise ConfigurationError(f"Arize refuses {space.api_key} or {space.id}") from None
        except ValidationFailure as error:
            names = sorted({type(item).__name__ for item in error.errors})
            raise RowsRefused(f"the SDK's validation: {', '.join(names)}") from None
        except _SDK_BREAKS as error:
            raise RowsRefused(f"the SDK breaks on them: {type(error).__name__}") from None
        except APIError as error:
            if error.status_code in _REFUSED:
                raise RowsRefused(f"HTTP {error.status_code}") from None
            if error.status_code in _RETRIED:
                raise _Passing(f"HTTP {error.status_code}") from None
            raise ArizeUnavailable(f"HTTP {error.status_code}") from None
        except requests.exceptions.ConnectTimeout:
            raise _Passing("no connection in time") from None
        except requests.exceptions.ConnectionError as error:
            refused = "refused" in str(error).lower()
            raise _Passing("no connection", ambiguous=not refused) from None
        except requests.exceptions.Timeout:
            raise _Passing("no answer in time", ambiguous=True) from None
        # A redirect is followed as GET without a body and ends in 200: the rows would be gone.
        if response.history or response.request.method != "POST":
            raise ArizeUnavailable("redirected; --arize_url must name the final address")
        if "realTimeIngestionUri" not in response.text:
            raise _Passing("an answer that is not Arize's", ambiguous=True)

    def _schema(self, rows: pa.Table) -> Any:
        from arize.ml.types import EmbeddingColumnNames, Schema

        # Columns that hold nothing in this batch: the SDK refuses them for these roles.
        sent = [
            column
            for column in self._sent
            if not column.role.needs_name or rows[column.name].null_count < rows.num_rows
        ]
        vectors = {c.role.of for c in sent if c.role.kind == "embedding_vector"}
        sent = [c for c in sent if "embedding" not in c.role.kind or c.role.of in vectors]
        fields = schema_fields(sent, self._extractor.model_type)
        if self._extractor.kind == "prediction":
            fields.setdefault("timestamp_column_name", "event_time")
        embeddings = fields.pop("embedding_feature_column_names", {})
        if embeddings:
            fields["embedding_feature_column_names"] = {
                name: EmbeddingColumnNames(**parts) for name, parts in embeddings.items()
            }
        return Schema(**fields)

    def _frame(self, rows: pa.Table) -> pd.DataFrame:
        """A data frame whose types follow from the row class, whatever this batch holds."""
        data: dict[str, Any] = {}
        as_objects = {c.name for c in self._sent if c.role.kind in _AS_OBJECTS}
        for name in ("prediction_id", self._time_column(), *(c.name for c in self._sent)):
            plain = name in as_objects or rows[name].type == CLASS_SCORES
            data[name] = _objects(rows[name]) if plain else _typed(rows[name])
        return pd.DataFrame(data)

    def _time_column(self) -> str:
        named = [column.name for column in self._columns if column.role.kind == "event_time"]
        return named[0] if named else "event_time"


# The SDK's validator breaks on Arrow-backed columns of these, and wants lists and None.
_AS_OBJECTS = frozenset({"embedding_vector", "embedding_text", "relevance_label"})
_NOT_SENT = frozenset({"table_only", "model_version", "prediction_id"})


class _Passing(Exception):
    def __init__(self, reason: str, ambiguous: bool = False) -> None:
        super().__init__(reason)
        self.ambiguous = ambiguous


def _typed(column: pa.ChunkedArray) -> Any:
    if pa.types.is_large_string(column.type):  # what a table gives back; the SDK refuses it
        column = column.cast(pa.string())
    return pd.Series(pd.array(column, dtype=pd.ArrowDtype(column.type)))


def _objects(column: pa.ChunkedArray) -> Any:
    return pd.Series(column.to_pylist(), dtype=object)


def _share(name: str) -> float:
    """A number in [0, 1) that belongs to what is sampled as a whole, wherever it is computed."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
