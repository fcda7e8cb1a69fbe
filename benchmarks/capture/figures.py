"""Figures of windows, and tables for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.box import SIMPLE
from rich.table import Table as RichTable


def quiet(values: Iterable[float]) -> float:
    """The value that a quarter of the windows stay below: what strangers disturb least."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 4]


def middle(values: Iterable[float]) -> float:
    """The median."""
    return median(values)


def micros(value: float) -> str:
    """Microseconds, as exactly as they are known."""
    value = max(0.0, value)
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


_WRAPPED = 36
"""Longer cells may take several lines."""


@dataclass
class Table:
    """What was found in words. The first `texts` columns are text, and the others numbers."""

    title: str
    headings: list[str]
    texts: int = 1
    rows: list[list[str]] = field(default_factory=list)

    def for_terminal(self) -> RichTable:
        """As rich shows it."""
        table = RichTable(
            title=self.title, title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False
        )
        for position, heading in enumerate(self.headings):
            longest = max((len(row[position]) for row in self.rows), default=0)
            table.add_column(
                heading,
                justify="left" if position < self.texts else "right",
                no_wrap=longest <= _WRAPPED,
            )
        before = self.rows[0][0] if self.rows else ""
        for row in self.rows:
            if self.texts > 1 and row[0] != before:
                table.add_section()
            before = row[0]
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """As a page has it."""
        rules = ["---" if i < self.texts else "--:" for i in range(len(self.headings))]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.headings, *self.rows)]
        lines.insert(1, f"|{'|'.join(rules)}|")
        return "\n".join([f"**{self.title}**", "", *lines])


@dataclass(frozen=True)
class Aim:
    """What was to be reached, and what was found."""

    text: str
    found: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'MISSED'}: {self.text}; found {self.found}"


@dataclass
class Part:
    """What one part of the benchmark found."""

    tables: list[Table]
    aims: Sequence[Aim] = ()
