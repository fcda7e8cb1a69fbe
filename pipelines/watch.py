"""Files that appear below a folder, or match a glob, as they come."""

from __future__ import annotations

import threading

from pipelines.batches import InputFile
from pipelines.journal import Journal
from pipelines.listing import list_files

POLL_SECONDS = 1.0


class WatchedFiles:
    """Records files that match a pattern. They appear complete, as every writer renames them.

    A file that was replaced by another of the same name is a new one.

    Args:
        pattern: a glob, or a folder.
        journal: what was seen so far.
    """

    def __init__(self, pattern: str, journal: Journal) -> None:
        self._pattern = pattern
        self._journal = journal
        self._known = journal.files()
        self._closed = threading.Event()
        self._waits = False

    def fetch(self, seconds: float) -> int:
        """Look for new files, after a pause of up to that long; how many there were."""
        if self._waits:
            self._closed.wait(min(seconds, POLL_SECONDS))
        found = {file.path: file for file in list_files(self._pattern)}
        new = [file for file in found.values() if not self._knows(file)]
        gone = [file for path, file in self._known.items() if path not in found]
        if new:
            self._journal.add(new)
        if gone:
            self._journal.forget(gone)
        self._known = found
        self._waits = not new
        return len(new)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _knows(self, file: InputFile) -> bool:
        known = self._known.get(file.path)
        return known is not None and (known.bytes, known.written) == (file.bytes, file.written)
