"""The lines of the table, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.cases import Case
from benchmarks.machine import machine
from benchmarks.measure import Spread, ratios
from benchmarks.workshop import Samples, Workshop

LIBRARIES = ["apache-beam", "fastavro", "orjson", "pyarrow", "pydantic", "pyiceberg"]
HEADINGS = [
    "traffic",
    "variant",
    "CPU us/envelope",
    "CPU us/row",
    "MB/s",
    "compared with",
    "ratio, CPU",
    "ratio, wall",
]
_NUMBERS = (2, 3, 4, 6, 7)


@dataclass(frozen=True)
class Line:
    """One variant of one case, in words."""

    cells: tuple[str, ...]


def lines(cases: Iterable[Case], samples: Samples, workshop: Workshop) -> Iterator[Line]:
    """A line for each variant that was run."""
    cases = list(cases)
    titles = {case.name: case.title for case in cases}
    for case in cases:
        written = workshop.written(case.traffic)
        labels = {variant.name: variant.label for variant in case.variants}
        for variant in case.variants:
            own = samples[case.name, variant.name]
            cpu = median(sample.cpu for sample in own)
            cells = [
                case.title,
                variant.label,
                f"{cpu / written.envelopes * 1e6:.1f}",
                f"{cpu / max(1, written.good_rows) * 1e6:.2f}",
                f"{written.bodies / cpu / 1e6:.0f}",
            ]
            other = samples.get((variant.beside_case or case.name, variant.beside))
            if other is None:
                yield Line((*cells, "", "", ""))
                continue
            by_cpu = ratios([one.cpu for one in other], [one.cpu for one in own])
            by_wall = ratios([one.wall for one in other], [one.wall for one in own])
            beside = titles.get(variant.beside_case) or labels[variant.beside]
            yield Line((*cells, beside, _ratio(by_cpu), _ratio(by_wall)))


def as_table(found: Sequence[Line]) -> Table:
    """The lines for a terminal, a section for each kind of traffic."""
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1))
    for position, heading in enumerate(HEADINGS[1:], 1):
        table.add_column(
            heading,
            justify="right" if position in _NUMBERS else "left",
            no_wrap=position in _NUMBERS,
        )
    before = ""
    for line in found:
        if line.cells[0] != before:
            before = line.cells[0]
            table.add_section()
            table.add_row(f"[bold]{before}[/bold]")
        table.add_row(*line.cells[1:])
    return table


def as_markdown(found: Sequence[Line], notes: Sequence[str], rounds: int) -> str:
    """The lines, what was measured besides, and on what, as a part of a page."""
    rules = ["---:" if i in _NUMBERS else "---" for i in range(len(HEADINGS))]
    rows = [HEADINGS, rules, *(line.cells for line in found)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows) if found else ""
    listed = "\n".join(f"- {note}" for note in notes)
    return "\n\n".join(filter(None, [machine(LIBRARIES, rounds), table, listed]))


def _ratio(spread: Spread) -> str:
    return f"{spread.middle:.2f} ({spread.low:.2f}-{spread.high:.2f})"
