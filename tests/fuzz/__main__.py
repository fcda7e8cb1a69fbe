"""`python -m tests.fuzz`: many examples; `make fuzz`."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import integers

sys.path.insert(0, str(Path(__file__).parents[1]))


MUTATIONS = 50
"""Of each example that Hypothesis makes: making one costs more than running it does."""


def _run(name: str, examples: int, number: int, strategy: Any, check: Callable[[Any], str]) -> None:
    from fuzz.checks import summary
    from fuzz.inputs import mutations

    outcomes: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=max(1, examples // (MUTATIONS + 1)),
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy, integers(0))
    def each(example: Any, chance: int) -> None:
        outcomes[check(example)] += 1
        for mutated in islice(mutations(example, chance), MUTATIONS):
            try:
                outcomes[check(mutated)] += 1
            except Exception:
                click.echo(f"failed on {mutated!r}", err=True)
                raise

    started = time.monotonic()
    each()
    took = time.monotonic() - started
    click.echo(f"{name}: {outcomes.total():,} in {took:.0f} s, seed {number}: {summary(outcomes)}")


@click.command()
@click.option("--examples", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--seed", "number", type=int, default=0, show_default=True)
def main(examples: int, number: int) -> None:
    """Feed made-up messages, and a fifth as many archive files, to the pipeline."""
    logging.disable(logging.WARNING)
    from fuzz.checks import Extraction, check_archive
    from fuzz.inputs import MESSAGES, archives

    with Extraction() as extraction:
        _run("messages", examples - examples // 5, number, MESSAGES, extraction.check)
    _run("archives", examples // 5, number, archives(), check_archive)


if __name__ == "__main__":
    main()
