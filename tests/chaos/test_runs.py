"""Runs that are killed with -9 again and again, over input that overlaps and is cut anew."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from random import Random

import pytest
from lives import Kills, Life, end_all, kill_at
from scale import SCALE, SEED, Story
from steps import COMMIT, FRONT, GROUP, PUSH, WRITE, Death
from support import Home
from traffic import Case, Sent, Traffic, by_model
from truth import Truth, check_home, check_receiver, snapshots

from pipelines.receiver import ArizeReceiver
from weighbridge.archive import write_archive

FILE_ENVELOPES, MESSAGE_ENVELOPES = 250, 60
WHOLE_SECONDS = 900.0


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    with ArizeReceiver("key", "space") as receiver:
        yield receiver
        end_all()


@dataclass
class Input:
    """Archive files of the same envelopes in several orders and cuts."""

    folder: Path
    truth: Truth
    layouts: list[list[Path]]

    def parts(self, random: Random) -> Iterator[list[Path]]:
        """What one run reads: some files after others, and some of anywhere, in any order."""
        first, size = self.layouts[0], SCALE.batch_files
        for start in cycle(range(0, len(first), size)):
            files = random.choice(self.layouts)
            other = random.randrange(len(files))
            part = {*first[start : start + size], *files[other : other + size]}
            yield random.sample(sorted(part), len(part))

    @property
    def batch_bytes(self) -> int:
        """Of `SCALE.batch_files` files or so."""
        files = self.layouts[0]
        return SCALE.batch_files * sum(file.stat().st_size for file in files) // len(files)


def made_input(folder: Path, envelopes: int, random: Random) -> Input:
    """Files in the order of time, and shuffled and cut into other messages."""
    traffic, truth = Traffic(SEED, named=True), Truth()
    cases = traffic.cases(envelopes)
    cases.sort(key=lambda case: case.event_time or 0)
    layouts = []
    for number in range(2):
        layouts.append(_written(folder / f"layout-{number}", traffic, truth, cases))
        random.shuffle(cases)
    return Input(folder, truth, layouts)


def _written(folder: Path, traffic: Traffic, truth: Truth, cases: Sequence[Case]) -> list[Path]:
    paths = []
    for start in range(0, len(cases), FILE_ENVELOPES):
        sent = list(_messages(traffic, cases[start : start + FILE_ENVELOPES]))
        truth.add(sent)
        path = folder / f"{start // FILE_ENVELOPES:06}.avro"
        write_archive(path, [one.message for one in sent])
        paths.append(path)
    return paths


def _messages(traffic: Traffic, cases: Sequence[Case]) -> Iterator[Sent]:
    for group in by_model(cases).values():
        alone = [case for case in group if case.number % 50 == 0 and not case.cut]
        rest = [case for case in group if case not in alone]
        yield from map(traffic.plain, alone)
        for start in range(0, len(rest), MESSAGE_ENVELOPES):
            yield traffic.message(rest[start : start + MESSAGE_ENVELOPES])
    yield traffic.heartbeat()


class Runs:
    """Runs into one home, one after another or two at once.

    Args:
        folder: of the home, its logs and what each run reads.
        receiver: what is pushed to.
        batch_bytes: most bytes of a batch.
    """

    def __init__(self, folder: Path, receiver: ArizeReceiver, batch_bytes: int) -> None:
        self.home = Home(folder, "freight")
        self._folder = folder
        self._arguments = ["--home", str(self.home.folder), "--arize_url", receiver.url]
        self._arguments += ["--extractors_package", self.home.package]
        self._batch_bytes = batch_bytes
        self.starts = 0

    def start(
        self, files: Sequence[Path], *more: str, death: Death | None = None, larger: int = 1
    ) -> Life:
        """Start a run over some files, in the order in which they are given."""
        self.starts += 1
        name = f"{self.starts:03}"
        given = self._folder / "runs" / name
        given.mkdir(parents=True)
        for number, file in enumerate(files):
            os.link(file, given / f"{number:06}.avro")
        return Life(
            self._folder / "logs",
            name,
            ["--input_files", str(given), *self._arguments, *more],
            {"ARIZE_API_KEY": "key", "ARIZE_SPACE_ID": "space"},
            death,
            larger * self._batch_bytes,
        )


def deaths(random: Random) -> Iterator[Death | None]:
    """Every other kill at a random moment, the others before and after each step in turn."""
    ways = list(product(("before", "after"), (*WRITE, *COMMIT, *PUSH)))
    random.shuffle(ways)
    for when, step in cycle(ways):
        yield None
        yield Death(when, step, 1, random.choice((FRONT, GROUP)))


def seconds_of(life: Life) -> float:
    """How long a run worked that was left alone."""
    assert life.ended() == 0, life.output
    passed = life.passed()
    return passed[-1][0] - passed[0][0]


def torment(runs: Runs, given: Input, random: Random, kills: int) -> Kills:
    """Start runs over parts of the input that overlap, sometimes two at once, and kill them."""
    met = Kills()
    ways = deaths(random)
    parts = given.parts(random)
    longest = seconds_of(runs.start(next(parts)))
    while met.count < kills:
        chosen = [next(ways) for _ in range(random.choice((1, 1, 2)))]
        together = [
            runs.start(next(parts), "--workers", random.choice(("1", "1", "2")), death=death)
            for death in sorted(chosen, key=bool)
        ]
        for life in together:
            kill_at(life, random, longest, met)
    met.starts = runs.starts
    return met


@pytest.mark.slow
def test_runs_over_input_that_overlaps(tmp_path: Path, receiver: ArizeReceiver) -> None:
    story, random = Story("runs over files"), Random(f"runs {SEED}")
    given = made_input(tmp_path / "in", SCALE.envelopes, random)
    runs = Runs(tmp_path, receiver, given.batch_bytes)
    story.kills = torment(runs, given, random, SCALE.run_kills)
    # Two at once make it whole, in batches of other sizes.
    whole = [
        runs.start(files, "--workers", workers, larger=larger)
        for files, workers, larger in zip(given.layouts, ("1", "2"), (3, 10))
    ]
    for life in whole:
        assert life.ended(WHOLE_SECONDS) == 0, life.output
    left = check_home(runs.home, given.truth)
    again = check_receiver(receiver, [given.truth])
    # The same in another order: nothing is added, and nothing pushed.
    before, uploads = snapshots(runs.home), len(receiver.uploads)
    files = random.choice(given.layouts)
    last = runs.start(random.sample(files, len(files)), larger=5)
    assert last.ended(WHOLE_SECONDS) == 0, last.output
    assert (snapshots(runs.home), len(receiver.uploads)) == (before, uploads)
    check_home(runs.home, given.truth)
    story.tell(len(given.truth.cases), given.truth.rows, again, left)
