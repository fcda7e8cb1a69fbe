"""Runs cases in turns, and compares what each run left in the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.homes import Contents, Homes, contents
from benchmarks.measure import Sample, measured
from benchmarks.traffic import Traffic, Written, write_traffic
from benchmarks.variants import Start, Variant, run_pipeline

Say = Callable[[str], object]
Samples = dict[tuple[str, str], list[Sample]]
"""Of each variant, by the names of case and variant, in the order of the rounds."""


class Mismatch(Exception):
    """Two variants did not write the same rows: their times say nothing."""


class Workshop:
    """A folder with traffic and homes.

    Args:
        root: the folder; traffic in it is used again.
        say: is given a line about each thing that takes long.
    """

    def __init__(self, root: Path, say: Say) -> None:
        self._root = root
        self._say = say
        self._homes = Homes(root)
        self._written: dict[str, Written] = {}
        self._before: dict[str, Contents] = {}
        self._added: dict[str, Contents] = {}

    def written(self, traffic: Traffic) -> Written:
        """The traffic on disk."""
        if traffic.name not in self._written:
            self._say(f"traffic {traffic.name}")
            self._written[traffic.name] = write_traffic(self._root / "traffic", traffic)
        return self._written[traffic.name]

    def run(self, cases: Sequence[Case], rounds: int, warm_up: bool = True) -> Samples:
        """Let the variants of all cases take turns.

        Args:
            cases: the cases.
            rounds: how often.
            warm_up: whether there is one more round in front, which is not counted.

        Raises:
            Mismatch: a run left other rows than the one that it is compared with.
        """
        samples: Samples = {}
        for number in range(0 if warm_up else 1, rounds + 1):
            for case in cases:
                if number > case.rounds:
                    continue
                # The other way round every second time, as a run may leave work to the next.
                for variant in case.variants[:: 1 if number % 2 else -1]:
                    sample = self._run(case, variant)
                    self._say(
                        f"round {number}: {case.name}, {variant.name}: {sample.cpu:.2f} s of CPU"
                    )
                    if number:
                        samples.setdefault((case.name, variant.name), []).append(sample)
        return samples

    def _run(self, case: Case, variant: Variant) -> Sample:
        written = self.written(case.traffic)
        self._prepare(variant.start)
        home = self._homes.fresh(variant.start.name)

        def work() -> None:
            variant.run(written, case.traffic, home)

        sample = measured(work)
        self._compare(case, variant, contents(home))
        return sample

    def _prepare(self, start: Start) -> None:
        if start.name in self._before:
            return
        self._say(f"tables {start.name}")
        self._homes.prepare(start.name, start.package)
        if start.before is not None:
            run_pipeline(self.written(start.before), self._homes.home, start.package)
            self._homes.keep(start.name)
        self._before[start.name] = contents(self._homes.home)

    def _compare(self, case: Case, variant: Variant, found: Contents) -> None:
        rows = self._written[case.traffic.name].good_rows
        added = self._added.get(case.name)
        before = self._before[variant.start.name]
        again = variant.start.before == case.traffic
        if added is None:
            added = self._added[case.name] = found if again else found - before
        expected = added if again else before + added
        if found != expected or added.rows != rows:
            raise Mismatch(
                f"{case.name}, {variant.name}: {found.rows:,} rows ({found.checksum:x}) in its "
                f"tables, not {expected.rows:,} ({expected.checksum:x}); {rows:,} rows are good"
            )
