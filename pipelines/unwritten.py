"""Commits that a table refuses for good: their file lists are kept until the next start."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pyiceberg.exceptions import (
    BadRequestError,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    UnauthorizedError,
    ValidationError,
)

from pipelines.commit import token_of
from pipelines.destination import Destination
from pipelines.files import FileRef
from pipelines.logs import about, log
from pipelines.metrics import counter
from pipelines.outbox import Commit, Outbox
from pipelines.store import Store
from pipelines.tables import metrics_of

FOLDER = "unwritten"
SUFFIX = ".json"
REFUSALS = (
    NoSuchTableError,
    NoSuchNamespaceError,
    ValueError,  # files that do not fit the table's columns or partitions, or are no Parquet files
    ValidationError,
    FileNotFoundError,  # of the table's metadata or a data file
    PermissionError,
    UnauthorizedError,
    ForbiddenError,
    BadRequestError,
)
"""What stays refused however often it is tried, until somebody repairs something.

Conflicts, a full or failing disk, an unknown outcome, and a catalog that is locked or does not
answer are not among them: they fail the bundle, and it is tried again.
"""


def commit_or_keep(
    tables: Destination, name: str, files: Iterable[FileRef], outbox: Outbox
) -> Commit | None:
    """Like `commit_now`, but None where it is refused for good, with the list of files kept.

    A stream tries a bundle again for ever, and all later commits of the table would wait behind it.
    """
    asked = list(files)
    try:
        return tables.commit(name, asked, outbox)
    except REFUSALS as error:
        reason = type(error).__name__
    kept = f"{FOLDER}/{name}/{token_of(asked)}{SUFFIX}"
    content = {"table": name, "reason": reason, "files": [ref.to_json() for ref in asked]}
    Store(tables.home).write(kept, json.dumps(content).encode())
    counter(metrics_of(name), "commits_refused").inc()
    # Not the error's text: it may quote what it refuses.
    text = "%s refused a commit (%s); its files are listed in %s"
    log.error(text, name, reason, kept, extra=about(name))
    return None


def commit_unwritten(tables: Destination, outboxes: Mapping[str, Outbox]) -> list[str]:
    """Commit once more what was refused, once its tables are prepared.

    A list that is committed is forgotten. Repeated, or killed half-way, it adds nothing twice.

    Args:
        tables: the tables, prepared.
        outboxes: the outbox of each table that is pushed.

    Returns:
        A line for each list.
    """
    store = Store(tables.home)
    lines = []
    for kept in store.names(FOLDER, SUFFIX):
        content = json.loads(store.read(kept))
        name = content["table"]
        # A table that was created anew counts its snapshots anew, too: nothing was checked yet.
        files = [replace(FileRef.from_json(ref), checked=0) for ref in content["files"]]
        rows = sum(ref.rows for ref in files)
        try:
            commit = tables.commit(name, files, outboxes.get(name, Outbox(None)))
        except REFUSALS as error:
            lines.append(f"{name} still refuses {rows:,} rows ({type(error).__name__}): {kept}")
            continue
        store.remove(kept)
        added = sum(ref.rows for ref in commit.files)
        lines.append(f"committed {added:,} of {rows:,} rows that {name} had refused")
    return lines
