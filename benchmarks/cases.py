"""The cases: what traffic is run, and by which variants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.follow import Follow
from benchmarks.traffic import Traffic
from benchmarks.variants import (
    DICTS,
    MANY,
    OBJECTS,
    PIPELINE,
    Variant,
    loop,
    pipeline,
    unlimited,
    unsynced,
)


@dataclass(frozen=True)
class Case:
    """Traffic, and the variants that take turns with it.

    Attributes:
        name: for `--only`.
        title: what the table calls it.
        rounds: at most so many, where a round takes long.
    """

    name: str
    title: str
    traffic: Traffic
    variants: tuple[Variant, ...]
    rounds: int = 100


@dataclass(frozen=True)
class Sizes:
    """How much is run: enough that a run takes seconds, or just enough to see that all works."""

    one_row: int = 240_000
    twenty_rows: int = 40_000
    small: int = 40_000
    models: int = 1000
    spread: int = 1_000_000
    crowd: int = 5
    memory: int = 27_000
    memory_copies: int = 10
    follow: Follow = Follow()


QUICK = Sizes(
    one_row=6000,
    twenty_rows=1000,
    small=2000,
    models=20,
    spread=4000,
    crowd=2,
    memory=1000,
    memory_copies=1,
    follow=Follow(3, 20_000),
)


def cases(sizes: Sizes) -> Iterator[Case]:
    """All cases, in the order of the table."""
    one_row = Traffic("one-row", sizes.one_row)
    twenty_rows = Traffic("twenty-rows", sizes.twenty_rows, rows=20)
    yield Case("one-row", "1 row an envelope", one_row, (*_ways(), *_costs(one_row, sizes.crowd)))
    yield Case("twenty-rows", "20 rows an envelope", twenty_rows, tuple(_ways()))
    yield Case(
        "bad",
        "1 row, 1 % bad envelopes",
        Traffic("bad", sizes.one_row, bad=0.01),
        (loop(), pipeline()),
    )
    yield Case(
        "small",
        "1 row, messages of 10, files of 4",
        Traffic("small", sizes.small, fewest=10, most=10, messages=4),
        (loop(), pipeline()),
    )
    yield Case(
        "fixed",
        "100 envelopes in all",
        Traffic("fixed", 100, fewest=10, most=10),
        (loop(), pipeline()),
    )
    per_model = 120
    yield Case(
        "many",
        f"1 row, {sizes.models:,} models",
        Traffic(
            "many",
            per_model * sizes.models,
            models=sizes.models,
            fewest=per_model,
            most=per_model,
        ),
        (loop(MANY), pipeline(package=MANY)),
        rounds=3,
    )
    yield from _spread(sizes.spread, sizes.models)


def _spread(rows: int, many: int) -> Iterator[Case]:
    """The same messages of few models and of many: about what one batch of a backfill holds."""
    few = "few-models"
    for name, models, package, beside in (
        (few, 10, DICTS, ""),
        ("many-models", many, MANY, few),
    ):
        yield Case(
            name,
            f"{rows:,} rows of {models:,} models",
            Traffic(name, rows, models=models, fewest=100, most=100, messages=400),
            (pipeline(package=package, beside=PIPELINE if beside else "", beside_case=beside),),
            rounds=3,
        )


def _ways() -> Iterator[Variant]:
    yield loop()
    yield pipeline()
    yield pipeline("objects", "row objects", package=OBJECTS)
    yield pipeline("workers", "dicts, 2 workers", workers=2, beside=PIPELINE)


def _costs(traffic: Traffic, crowd: int) -> Iterator[Variant]:
    yield unsynced()
    yield unlimited()
    yield pipeline("known", "dicts, all envelopes known", before=traffic, beside=PIPELINE)
    # Other ids at the same times: what the comparison with known envelopes cannot leave unread.
    others = Traffic("crowd", traffic.envelopes, copies=crowd, first_copy=1, seed=11)
    label = f"dicts, tables have {crowd} times as many rows of these hours"
    yield pipeline("crowd", label, before=others, beside=PIPELINE)
