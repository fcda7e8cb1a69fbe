"""Shows on a terminal how a run goes."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.status import Status as Spinner

from pipelines.display import Display, Status

LINE_SECONDS = 60.0
"""Between status lines where there is no terminal to keep one up to date."""


class ConsoleDisplay(Display):
    """Lines, a bar once input takes more than one batch, a status line while following."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("Input"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._task = self._bar.add_task("", total=None)
        self._spinner = Spinner("", console=console)
        self._printed = float("-inf")

    def __enter__(self) -> ConsoleDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._spinner.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False)

    def progress(self, done: int, total: int) -> None:
        """Show the bar, unless all is done at once."""
        if done < total and not self._bar.live.is_started:
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def status(self, status: Status) -> None:
        """Keep a line up to date, or print one a minute."""
        if self._console.is_terminal:
            self._spinner.update(str(status))
            self._spinner.start()
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            self._console.print(str(status), markup=False, soft_wrap=True)
