"""The unbounded graph on runners that track watermarks in other ways than the classic one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import engines
import pytest
from engines import left_behind
from streams import START, Subscription, minute, one
from support import Home, micros, plain, scored

from deploy.flink.downloads import NotAvailable
from pipelines import windows
from pipelines.metrics import Counts

Engine = Callable[[Path], AbstractContextManager[tuple[str, ...]]]
ENGINES = [engines.on_prism, engines.on_flink]
ROWS = 2 * (windows.MAX_GROUPED + 9 + 5)
pytestmark = pytest.mark.slow


def traffic(ticks: bool = True) -> Subscription:
    """Late by minutes and by a month, more than a pane of one window, and hours of nothing."""
    week = micros(START - timedelta(days=7))
    full = windows.MAX_GROUPED
    subscription = Subscription(ticks)
    subscription.each(one(number) for number in range(full)).wait(past=minute(2))
    subscription.each(one(number) for number in range(full, full + 9)).wait(past=minute(300))
    subscription.each([one(200, minute(1)), one(201, START - timedelta(days=31))])
    subscription.deliver(one(202, minute(301)), one(203, minute(250)), one(0))
    subscription.deliver(plain("scores", b"{", message_id="broken", at=minute(3)))
    subscription.deliver(plain("scores", scored(7.0), message_id="refused", at=minute(299)))
    subscription.deliver(
        plain("unheard-of", {"request": 1, "response": 2}, message_id="p", at=minute(4))
    )
    subscription.wait(past=minute(700)).deliver(one(204, minute(2), event_time=[week]))
    return subscription


def on(engine: Engine, folder: Path, home: Home) -> Counts:
    """What the graph counts there; of Flink's clock of processing time no test is the master."""
    try:
        with engine(folder) as arguments:
            return traffic(engine is not engines.on_flink).follow(
                home, engine=[*arguments, "--streaming"]
            )
    except NotAvailable as missing:
        pytest.skip(str(missing))


def dropped(counted: Counts) -> int:
    """Of the runners here only Flink's counts what it drops; the namespace is a class of Beam's."""
    return sum(names.get("droppedDueToLateness", 0) for names in counted.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_late_is_lost(tmp_path: Path, engine: Engine) -> None:
    here, there = Home(tmp_path / "here"), Home(tmp_path / "there")
    traffic().follow(here)
    counted = on(engine, tmp_path / "engine", there)
    found = left_behind(there)
    assert found == left_behind(here)
    assert len(found["models.scores"]) == counted["scores"]["rows_written"] == ROWS
    assert dropped(counted) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_that_drops_what_is_late_is_found_out(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "ALLOWED_LATENESS", 0)
    home = Home(tmp_path)
    counted = on(engine, tmp_path / "engine", home)
    assert len(home.rows("scores")) == counted["scores"]["rows_written"] < ROWS
    if engine is engines.on_flink:
        assert dropped(counted) > 0
