"""Files that appear below a folder, or match a glob, as they come."""

from __future__ import annotations

import threading

from pipelines.journal import Journal
from pipelines.read import list_files

POLL_SECONDS = 1.0


class WatchedFiles:
    """Records files that match a pattern. They appear complete, as every writer renames them.

    Args:
        pattern: a glob, or a folder.
        journal: what was seen so far.
    """

    def __init__(self, pattern: str, journal: Journal) -> None:
        self._pattern = pattern
        self._journal = journal
        self._closed = threading.Event()
        self._waits = False

    def fetch(self, seconds: float) -> int:
        """Look for new files, after a pause of up to that long; how many there were."""
        if self._waits:
            self._closed.wait(min(seconds, POLL_SECONDS))
        found = self._journal.new_files(list_files(self._pattern))
        self._journal.add(found)
        self._waits = not found
        return len(found)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
