"""The graph of a running job is one that `--update` can replace: golden fingerprints of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import StrUtf8Coder, VarIntCoder
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration
from graphs import GRAPHS, graph, path_of, text_of

from pipelines.deploy.fingerprint import Step, fingerprint, unstable

ADVICE = """
A job that runs cannot be updated to this graph as it is. If the change is wanted:
- a step that only has another name: deploy with --transform_name_mapping {"old": "new"};
- other coders, windows, state or inputs: drain the job and start a new one, and say so in
  CHANGELOG.md;
then `make golden-graph`, and review its diff. See docs/images.md#graph-stability.
"""


@pytest.mark.parametrize("name", GRAPHS)
def test_a_running_job_can_be_updated_to_the_graph(name: str) -> None:
    steps = graph(GRAPHS[name])
    known: dict[str, Step] = json.loads(path_of(name).read_text())
    changed = sorted(
        label for label in known.keys() | steps if known.get(label) != steps.get(label)
    )
    assert not changed, f"{name}: {', '.join(changed)}{ADVICE}"
    assert path_of(name).read_text() == text_of(steps)
    assert unstable(steps) == []


def test_models_change_no_step() -> None:
    assert graph(GRAPHS["iceberg"], "odd") == graph(GRAPHS["iceberg"])


_OVER = TimerSpec("over", beam.TimeDomain.WATERMARK)
_HELD = beam.DoFn.StateParam(BagStateSpec("held", StrUtf8Coder()))
_MORE = beam.DoFn.StateParam(BagStateSpec("more", VarIntCoder()))
_TIMER = beam.DoFn.TimerParam(_OVER)


class _Gather(beam.DoFn):
    def process(self, pair: tuple[str, str], held: Any = _HELD, over: Any = _TIMER) -> None:
        held.add(pair[1])

    @on_timer(_OVER)
    def end(self, held: Any = _HELD) -> None:
        held.clear()


class _Wider(_Gather):
    def process(self, pair: tuple[str, str], more: Any = _MORE, over: Any = _TIMER) -> None:
        more.add(1)


def _steps(
    *,
    label: str = "Gather",
    lateness: int = 0,
    seconds: int = 60,
    gather: Callable[[], beam.DoFn] = _Gather,
    of: Any = tuple[str, str],
) -> dict[str, Step]:
    pipeline = beam.Pipeline()
    pairs = (
        pipeline
        | "Make" >> beam.Create([("a", "b")], reshuffle=False)
        | "Pair" >> beam.Map(lambda pair: pair).with_output_types(of)
        | "Window"
        >> beam.WindowInto(FixedWindows(seconds), allowed_lateness=Duration(seconds=lateness))
    )
    pairs | label >> beam.ParDo(gather())
    return fingerprint(pipeline.to_runner_api())


def test_a_fingerprint_is_the_same_for_each_build() -> None:
    assert _steps() == _steps()
    assert json.loads(json.dumps(_steps())) == _steps()
    assert _steps()["Gather"]["state"] == {"held": "bag_spec"}
    assert _steps()["Gather"]["timers"] == ["ts-over"]


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"label": "Collect"}, {"Gather", "Collect"}),
        ({"lateness": 60}, {"Window", "Gather"}),
        ({"seconds": 30}, {"Window", "Gather"}),
        ({"gather": _Wider}, {"Gather"}),
        ({"of": tuple[str, bytes]}, {"Pair", "Window"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_breaks_an_update_is_seen(change: dict[str, Any], steps: set[str]) -> None:
    before, after = _steps(), _steps(**change)
    assert {
        label for label in before.keys() | after if before.get(label) != after.get(label)
    } == steps


def test_a_label_with_the_line_of_a_lambda_is_named() -> None:
    pipeline = beam.Pipeline()
    pipeline | beam.Create([1], reshuffle=False) | beam.Map(lambda n: n)
    labels = unstable(fingerprint(pipeline.to_runner_api()))
    assert [label for label in labels if label.startswith("Map(<lambda at test_fingerprint.py:")]
