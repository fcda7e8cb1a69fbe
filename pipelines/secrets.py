"""Values that stand in no file and no option: named here, read where and when they are used."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import ConfigurationError

KEPT_SECONDS = 300.0
"""After this time a process asks Secret Manager again, so that a new version comes into use."""
TIMEOUT_SECONDS = 15.0
EMULATOR = "SECRET_MANAGER_EMULATOR_HOST"
SOURCES = {
    "env": (re.compile(r"[A-Z_][A-Z0-9_]*"), "ARIZE_API_KEY"),
    "secret": (
        re.compile(r"projects/[^/\s]+/secrets/[\w-]+/versions/[\w-]+"),
        "projects/P/secrets/S/versions/latest",
    ),
}
"""What names of each source look like, and an example."""
_kept: dict[str, tuple[float, str]] = {}


class SecretMissing(ConfigurationError):
    """Secret Manager has no such version."""


@dataclass(frozen=True)
class Secret:
    """Where a value is. It pickles and prints as its name; the value is not kept in it.

    Args:
        source: "env", a variable of the process that uses it; "secret", Google Secret Manager.
        name: of the variable, or the resource `projects/P/secrets/S/versions/V`.
    """

    source: Literal["env", "secret"]
    name: str

    def __str__(self) -> str:
        return self.name if self.source == "env" else f"secret {self.name}"

    @property
    def missing(self) -> bool:
        """Whether it is a variable that is not set here."""
        return self.source == "env" and not os.environ.get(self.name)

    def value(self) -> str:
        """The value, without white space around it.

        Raises:
            ConfigurationError: it is not there, or may not be read.
            ConnectionError: Secret Manager does not answer now.
        """
        if self.source == "env":
            if self.missing:
                raise ConfigurationError(f"set {self.name}")
            return os.environ[self.name].strip()
        until, value = _kept.get(self.name, (0.0, ""))
        if time.monotonic() >= until:
            value = _accessed(self.name)
            _kept[self.name] = time.monotonic() + KEPT_SECONDS, value
        return value


def _accessed(resource: str) -> str:
    try:
        from google.cloud import secretmanager_v1
    except ImportError:
        raise ConfigurationError(
            f"secret {resource} needs pip install 'weighbridge-pipeline[secrets]'"
        ) from None
    from google.api_core import exceptions as google
    from google.api_core.retry import Retry, if_exception_type
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    passing = (google.ServiceUnavailable, google.ResourceExhausted, google.DeadlineExceeded)
    retry = Retry(predicate=if_exception_type(*passing), initial=0.2, timeout=TIMEOUT_SECONDS)
    try:
        with _client(secretmanager_v1.SecretManagerServiceClient) as client:
            found = client.access_secret_version(
                name=resource, retry=retry, timeout=TIMEOUT_SECONDS
            )
        value: str = found.payload.data.decode().strip()
    except DefaultCredentialsError:
        raise ConfigurationError(
            f"secret {resource}: no Google credentials were found; run `gcloud auth "
            "application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    except google.NotFound:
        raise SecretMissing(f"secret {resource} is not there; create this version") from None
    except (google.Forbidden, google.Unauthorized):
        raise ConfigurationError(
            f"secret {resource} may not be read by this account; grant it "
            "roles/secretmanager.secretAccessor"
        ) from None
    except google.ClientError as error:
        if isinstance(error, passing):
            raise ConnectionError(f"secret {resource}: {type(error).__name__}") from None
        raise ConfigurationError(
            f"secret {resource} is refused ({type(error).__name__}); enable this version"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"secret {resource} is not text") from None
    except (google.GoogleAPIError, GoogleAuthError) as error:
        raise ConnectionError(f"secret {resource}: {type(error).__name__}") from None
    if not value:
        raise ConfigurationError(f"secret {resource} is empty")
    return value


def _client(kind: Any) -> Any:
    """A client; SECRET_MANAGER_EMULATOR_HOST leads it to an emulator, without credentials."""
    host = os.environ.get(EMULATOR)
    if not host:
        return kind()
    import grpc

    return kind(transport=kind.get_transport_class("grpc")(channel=grpc.insecure_channel(host)))
