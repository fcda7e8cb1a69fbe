"""Which Iceberg catalog: its address without secrets, how to open it, and what its errors mean."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NotInstalledError,
    OAuthError,
    RESTError,
    UnauthorizedError,
)
from requests.exceptions import RequestException
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from pipelines.address import Folder
from pipelines.local_catalog import LocalCatalog
from pipelines.objects import CATALOG, settings
from pipelines.room import want_of_room
from pipelines.table_io import UnreachableError
from schemas import ConfigurationError, RetriableError

_FILE_IO = {"py-io-impl": "pipelines.table_io.TableIO"}
_LOCAL = "home"
"""As a type of catalog, beside those of PyIceberg."""
_OPENINGS = 5
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True)
class CatalogAddress:
    """A catalog. Pickles and prints without secrets.

    What is not given here is in PyIceberg's own settings, read where the catalog is opened.

    Args:
        uri: such as https://HOST/PATH or postgresql://USER@HOST/DATABASE; empty is an SQLite file
            in the home folder.
        warehouse: where tables are; empty is the home folder, or up to the catalog.
        properties: others of PyIceberg's, as pairs.
    """

    uri: str = ""
    warehouse: str = ""
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether it is the SQLite file in the home folder."""
        return not self.uri and "type" not in dict(self.properties)

    def open(self, home: Folder) -> Catalog:
        """The catalog `weighbridge`. Some begin to talk here.

        Raises:
            NotInstalledError, ModuleNotFoundError: what it needs is not installed.
        """
        found = {**_FILE_IO, **settings(), **dict(self.properties)}
        if self.is_file:
            assert isinstance(home, Path)
            folder = home.resolve() / "tables"
            folder.mkdir(parents=True, exist_ok=True)
            found |= {"type": _LOCAL, "uri": f"sqlite:///{folder}/catalog.db?timeout=60"}
            found["warehouse"] = self.warehouse or f"file://{folder}"
            return _opened(found)
        # A connection that was lost while nothing was asked is no reason to fail.
        found["pool_pre_ping"] = "true"
        if self.uri:
            found["uri"] = self.uri
        if self.warehouse:
            found["warehouse"] = self.warehouse
        return _opened(found)


def ensure_namespace(catalog: Catalog, name: str) -> None:
    """Create a namespace that is not there, also where another process does it at the same time."""
    try:
        catalog.create_namespace_if_not_exists(name)
    except IntegrityError:  # of an SQL catalog
        catalog.create_namespace_if_not_exists(name)


UNSETTLED = (CommitFailedException, CommitStateUnknownException, RequestException, DBAPIError)
"""Errors of a commit for `wait_to_retry`."""


def wait_to_retry(error: Exception, attempt: int) -> None:
    """Wait before a commit is looked for, and then tried again: a conflict, or an answer lost.

    Args:
        error: one of `UNSETTLED`; raised if another attempt would not mend it.
        attempt: number of the attempt that it ended, from 0.
    """
    if isinstance(error, DBAPIError) and not error.connection_invalidated:
        raise error
    time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 5)))


@contextmanager
def at_launch(address: CatalogAddress) -> Iterator[None]:
    """Make configuration errors of a catalog's and a warehouse's refusals, without their texts."""
    what = f"--catalog_uri {address.uri}" if address.uri else "the catalog"
    try:
        yield
    except (ModuleNotFoundError, NotInstalledError) as error:
        name = getattr(error, "name", None) or "a part of PyIceberg"
        extra = "weighbridge-pipeline[postgres]" if "psycopg" in name else "pyiceberg[...]"
        raise ConfigurationError(f"{what} needs {name}: pip install '{extra}'") from None
    except (UnauthorizedError, OAuthError, ForbiddenError):
        raise ConfigurationError(
            f"{what} refuses who we are; set PYICEBERG_CATALOG__WEIGHBRIDGE__CREDENTIAL or "
            "…__TOKEN in the environment, and let it read, create and write tables"
        ) from None
    except PermissionError:
        raise ConfigurationError(
            f"{_warehouse(address)} may not be used; files there must be read, written and removed"
        ) from None
    except FileNotFoundError:
        missing = "it" if _is_home(address) else "the bucket"
        raise ConfigurationError(f"{_warehouse(address)} is not there; create {missing}") from None
    except UnreachableError as error:
        raise ConfigurationError(f"{_warehouse(address)} cannot be used: {error}") from None
    except OperationalError as error:
        if want_of_room(error):
            raise
        raise ConfigurationError(f"{what} {_refusal(str(error.orig))}") from None
    except RequestException as error:
        raise ConfigurationError(
            f"{what} does not answer ({type(error).__name__}); see that it runs at that address"
        ) from None
    except RESTError as error:
        raise ConfigurationError(
            f"{what} answers {type(error).__name__}; see that the path is that of an Iceberg REST "
            "catalog, and that it knows the --warehouse"
        ) from None


@contextmanager
def at_work() -> Iterator[None]:
    """Raise what stays refused as a built-in error, and a lost catalog as what may pass."""
    try:
        yield
    except (RequestException, DBAPIError) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise PermissionError("the database does not allow it") from None
        if isinstance(error, RequestException) or error.connection_invalidated:
            raise RetriableError(
                f"the catalog does not answer ({type(error).__name__}); run it again, which adds "
                "what is missing"
            ) from None
        raise


def is_here(uri: str) -> bool:
    """Whether only this machine reaches an address: a file, a path or its own host."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file") or parts.scheme.startswith("sqlite"):
        return True
    host = parts.hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.") or not host


def _opened(properties: dict[str, Any]) -> Catalog:
    uri = str(properties.get("uri", ""))
    # SQLAlchemy's default driver differs between its versions.
    properties["uri"] = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", uri)
    if not uri:
        del properties["uri"]
    for _ in range(_OPENINGS - 1):
        try:
            return _loaded(_nested(properties))
        except (IntegrityError, ProgrammingError):
            continue  # another process creates the catalog's own tables at the same time
        except OperationalError as error:
            if "already exists" not in str(error.orig):  # how SQLite says that
                raise
    return _loaded(_nested(properties))


def _loaded(properties: dict[str, Any]) -> Catalog:
    if properties.get("type") != _LOCAL:
        return load_catalog(CATALOG, **properties)
    return LocalCatalog(CATALOG, **properties)


def _nested(properties: dict[str, Any]) -> dict[str, Any]:
    """With auth.* as the mapping that PyIceberg takes: {"type": …, "google": {…}}."""
    found = {name: value for name, value in properties.items() if not name.startswith("auth.")}
    for name, value in properties.items():
        if name.startswith("auth."):
            *folders, last = name.split(".")
            inside = found
            for folder in folders:
                inside = inside.setdefault(folder, {})
            inside[last] = value
    return found


def _warehouse(address: CatalogAddress) -> str:
    if address.warehouse:
        return f"--warehouse {address.warehouse}"
    return "the home folder" if _is_home(address) else "the catalog's warehouse"


def _is_home(address: CatalogAddress) -> bool:
    return address.is_file and not address.warehouse


def _refusal(text: str) -> str:
    """Our words for a database's, which may quote more than they should."""
    if "authentication failed" in text or "no password supplied" in text:
        return "refuses who we are; set PGPASSWORD in the environment, or write ~/.pgpass"
    if "database" in text and "does not exist" in text:
        return "has no such database; create it"
    if "permission denied" in text:
        return "does not let us create its tables; grant CREATE on the schema public"
    return "does not answer; see that it runs at that address, and may be reached from here"
