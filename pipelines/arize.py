"""Uploads data frames to Arize with its SDK: own time-outs, retries and checks of the answer."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.secrets import Secret
from pipelines.spaces import Space, space_named
from schemas import ConfigurationError, RetriableError
from schemas.arize import ModelType

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
# What its validator raises on values that it did not expect, instead of a verdict.
_SDK_BREAKS = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAY_BE_TAKEN = frozenset({408, 500, 502, 504})
"""What a server or a proxy before it may answer although the rows were taken."""
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
    """Arize did not take the rows now; they stay where they are."""


class RowsRefused(Exception):
    """Arize, or its SDK, refuses these rows for good."""


class _Passing(Exception):
    def __init__(self, reason: str, ambiguous: bool = False) -> None:
        super().__init__(reason)
        self.ambiguous = ambiguous


@dataclass(frozen=True)
class Heading:
    """What the rows of one upload are filed under.

    Attributes:
        environment: "PRODUCTION", "TRAINING" or "VALIDATION".
        batch_id: names a validation set.
    """

    space: str
    model_id: str
    model_type: ModelType
    model_version: str
    environment: str = "PRODUCTION"
    batch_id: str = ""


@dataclass
class Sent:
    """What became of rows that were given to be sent."""

    rows: int = 0
    attempts: int = 0
    possible_duplicates: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Row id and error of each single row that was refused."""


class Uploader:
    """Uploads for all threads of a process.

    Args:
        access: where to, and as whom.
        pause: waits before another attempt; takes seconds.
    """

    def __init__(self, access: ArizeAccess, pause: Callable[[float], object] = time.sleep) -> None:
        self.access = access
        self._pause = pause
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    def upload(
        self, frame: pd.DataFrame, schema: Any, heading: Heading, sent: Sent, attempts: int
    ) -> None:
        """Upload until it is acknowledged. Attempts and possible duplicates are added to `sent`.

        Raises:
            RowsRefused: for good, by the SDK or by Arize.
            ArizeUnavailable: not one of the attempts was acknowledged.
            ConfigurationError: the key or the space is refused.
        """
        for attempt in range(attempts):
            if attempt:
                self._pause(random.uniform(0.5, 1.0) * BACKOFF_SECONDS * 2**attempt)
            sent.attempts += 1
            try:
                self._post(frame, schema, heading)
                return
            except _Passing as error:
                reason = str(error)
                sent.possible_duplicates += len(frame) if error.ambiguous else 0
        raise ArizeUnavailable(reason)

    def _post(self, frame: pd.DataFrame, schema: Any, heading: Heading) -> None:
        import requests
        from arize.exceptions.auth import AuthenticationError
        from arize.exceptions.base import ValidationFailure
        from arize.exceptions.http import APIError
        from arize.ml.types import Environments, ModelTypes

        space = self.access.space(heading.space)
        try:
            client, space_id = self._client(heading.space), space.id.value()
        except ConnectionError as error:  # Secret Manager's
            raise _Passing(str(error)) from None
        try:
            response = client.log(
                space_id=space_id,
                model_name=heading.model_id,
                model_type=ModelTypes[_MODEL_TYPES[heading.model_type]],
                dataframe=frame,
                schema=schema,
                environment=Environments[heading.environment],
                model_version=heading.model_version,
                batch_id=heading.batch_id,
                timeout=TIMEOUT_SECONDS,
            )
        except AuthenticationError:
            raise ConfigurationError(f"Arize refuses {space.api_key} or {space.id}") from None
        except ValidationFailure as error:
            names = sorted({type(item).__name__ for item in error.errors})
            raise RowsRefused(f"the SDK's validation: {', '.join(names)}") from None
        except APIError as error:
            if error.status_code in _REFUSED:
                raise RowsRefused(f"HTTP {error.status_code}") from None
            if error.status_code in _RETRIED:
                taken = error.status_code in _MAY_BE_TAKEN
                raise _Passing(f"HTTP {error.status_code}", ambiguous=taken) from None
            raise ArizeUnavailable(f"HTTP {error.status_code}") from None
        except requests.exceptions.ConnectTimeout:
            raise _Passing("no connection in time") from None
        except requests.exceptions.ConnectionError as error:
            refused = "refused" in str(error).lower()
            raise _Passing("no connection", ambiguous=not refused) from None
        except requests.exceptions.Timeout:
            raise _Passing("no answer in time", ambiguous=True) from None
        except requests.exceptions.TooManyRedirects:
            raise ArizeUnavailable("redirected; --arize_url must name the final address") from None
        except requests.exceptions.RequestException:
            raise _Passing("a broken answer", ambiguous=True) from None
        except _SDK_BREAKS as error:
            raise RowsRefused(f"the SDK breaks on them: {type(error).__name__}") from None
        # A redirect is followed as GET without a body and ends in 200: the rows would be gone.
        if response.history or response.request.method != "POST":
            raise ArizeUnavailable("redirected; --arize_url must name the final address")
        if "realTimeIngestionUri" not in response.text:
            raise _Passing("an answer that is not Arize's", ambiguous=True)

    def _client(self, space: str) -> Any:
        """One for each key: a new version of a secret comes into use."""
        key = (space, self.access.space(space).api_key.value())
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self.access.client(space)
            return self._clients[key]
