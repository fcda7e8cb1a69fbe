"""A run that kills itself with -9 at a named step.

Arguments: the step, then those of a run, or those of `replay` or `tables` with its name.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import Session, SqlCatalog

from pipelines.arize import Uploader
from pipelines.cli import main
from pipelines.main import run
from pipelines.objects import ObjectStore, TableFiles
from pipelines.outbox import Outbox
from pipelines.store import Store

step = sys.argv[1]
in_front = os.getpid()


def die() -> None:
    os.kill(in_front, signal.SIGKILL)  # from a fork, too, which another one would stand in for
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, where: str, when: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        hit = when(*args)
        if hit and step == f"before {where}":
            die()
        result = original(*args, **kwargs)
        if hit and step == f"after {where}":
            die()
        return result

    plain = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(wrapped) if plain else wrapped)


committing = False


def now_committing(*_: Any) -> bool:
    global committing
    committing = True
    return True


wrap(Store, "write", "data file", lambda _, name, data: name.endswith(".parquet"))
wrap(TableFiles, "write", "data file")
wrap(Store, "write", "note", lambda _, name, data: name.startswith("erased/"))
wrap(Outbox, "write", "entry of the rest")
wrap(Store, "write", "dead letter", lambda _, name, data: name.startswith("failures/"))
wrap(Store, "write", "mark", lambda _, name, data: "/done/" in name)
wrap(ObjectStore, "write", "dead letter", lambda _, name, data: name.startswith("failures/"))
wrap(Outbox, "put", "entry", now_committing)
# Tables are created before, which must not count.
wrap(SqlCatalog, "_write_metadata", "metadata", lambda *_: committing)
wrap(Session, "commit", "catalog", lambda *_: committing)
wrap(RestCatalog, "commit_table", "catalog", lambda *_: committing)
wrap(Uploader, "_post", "upload")
wrap(Outbox, "remove", "acknowledgement", lambda *_: committing)
if "--dataset" in sys.argv:
    from google.cloud.bigquery import Client

    from pipelines.bigquery import load, replace
    from pipelines.bigquery.rows import Query
    from pipelines.bigquery.staging import Staging

    wrap(Staging, "write", "staged file")
    wrap(Client, "load_table_from_uri", "job")
    wrap(load, "_outcome", "outcome")

    wrap(replace, "_begin", "replacement")
    wrap(Query, "run", "deletion", lambda _, statement, *more: statement.startswith("DELETE"))

if sys.argv[2] in ("replay", "tables"):
    main(sys.argv[2:])
run(sys.argv[2:])
