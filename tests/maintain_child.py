"""Maintenance of a table: once, killing itself with -9 at a step, or again and again.

Arguments: the home, the table, days to retain, and the step or "for ever".
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import Session, SqlCatalog

from pipelines import snapshots
from pipelines.maintain.upkeep import Upkeep
from pipelines.store import Store
from pipelines.tables import Tables

home, name, days, step = sys.argv[1:]
tables = Tables(Path(home))
upkeep = Upkeep(tables, {name: timedelta(days=int(days))})


def wrap(owner: Any, method: str, where: str, when: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, method)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when(*args) and step == f"before {where}":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if when(*args) and step == f"after {where}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    plain = isinstance(inspect.getattr_static(owner, method), staticmethod)
    setattr(owner, method, staticmethod(wrapped) if plain else wrapped)


if step == "for ever":
    while True:
        upkeep.run(name)
        print("done", flush=True)

wrap(Store, "write", "data file", lambda _, file, data: file.endswith(".parquet"))
wrap(Store, "write", "memory", lambda _, file, data: file.startswith("upkeep/"))
wrap(snapshots, "write_manifest", "manifest")
wrap(snapshots, "write_manifest_list", "manifest list")
wrap(SqlCatalog, "_write_metadata", "metadata")
wrap(Session, "commit", "catalog")
wrap(snapshots, "_delete", "old metadata")
wrap(Store, "remove", "removal")
upkeep.run(name)
