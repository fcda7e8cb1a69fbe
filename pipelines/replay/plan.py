"""Which files a replay reads, and which stored messages it will have marked in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.address import Folder
from pipelines.batches import InputFile
from pipelines.listing import match_files
from pipelines.replay.letters import open_messages
from pipelines.selection import Selection
from pipelines.store import Store
from pipelines.stored import FAILURES, PARKED


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is run again: dead letters, parked messages, archive files."""

    failures: bool = False
    parked: bool = False
    archive: str = ""

    @property
    def folders(self) -> list[str]:
        """The folders of the home that are read."""
        return [FAILURES] * self.failures + [PARKED] * self.parked


@dataclass
class Plan:
    """What a replay reads.

    Attributes:
        files: those with a message that is wanted, in order.
        wanted: by path, the messages of `failures` and `parked` that are not done.
    """

    files: list[InputFile] = field(default_factory=list)
    wanted: dict[str, set[bytes]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.bytes for file in self.files)

    def stored(self, folder: str, files: Iterable[InputFile], store: Store) -> set[bytes]:
        """The wanted messages of a folder of the home that are in some of the files."""
        below = f"{store.path(folder)}/"
        found: set[bytes] = set()
        for file in files:
            if file.path.startswith(below):
                found |= self.wanted.get(file.path, set())
        return found


def make_plan(home: Folder, sources: Sources, selection: Selection) -> Plan:
    """Look for what is to be run again.

    Archive files are listed and not read.

    Raises:
        ConfigurationError: no archive file matches.
    """
    store = Store(home)
    plan = Plan()
    names: dict[str, str] = {}
    for folder in sources.folders:
        for stored in open_messages(store, folder, selection):
            path = store.path(stored.file)
            plan.wanted.setdefault(path, set()).add(stored.identity)
            names[path] = stored.file
    for path, name in names.items():
        size, written = store.described(name)
        plan.files.append(InputFile(path, size, written, written))
    if sources.archive:
        plan.files += match_files(sources.archive, flag="--archive")
    return plan
