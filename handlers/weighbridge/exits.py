"""Closes publishers when their process ends, also one of `multiprocessing` or of Celery."""

from __future__ import annotations

import atexit
import sys
from functools import partial
from typing import Protocol


class Closes(Protocol):
    """What is closed."""

    def close(self) -> None:
        """Flush and end."""

    def close_at_exit(self) -> None:
        """Flush and end where no thread can be started any more."""


def at_exit(publisher: Closes) -> None:
    """Close it when this process ends normally."""
    atexit.register(publisher.close_at_exit)
    processes = sys.modules.get("multiprocessing.util")
    if processes is not None and _is_child():
        # A process of multiprocessing leaves without what atexit holds, but does these.
        processes.Finalize(publisher, publisher.close, exitpriority=10)
    celery = sys.modules.get("celery.signals")
    if celery is not None:  # its workers leave without either
        name = f"weighbridge-{id(publisher)}"
        closing = partial(_close, publisher)
        celery.worker_process_shutdown.connect(closing, weak=False, dispatch_uid=name)


def not_at_exit(publisher: Closes) -> None:
    """It was closed by hand."""
    atexit.unregister(publisher.close_at_exit)


def _close(publisher: Closes, **_: object) -> None:
    publisher.close()


def _is_child() -> bool:
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None
