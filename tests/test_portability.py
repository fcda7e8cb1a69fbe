"""The same input on each of Beam's runners that is here: the same rows, and the same left over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import engines
import pytest
from engines import left_behind
from support import NOW, Home, environment, heartbeat, packed, plain, scored

from deploy.flink.downloads import NotAvailable
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.report import Report

Engine = Callable[[Path], AbstractContextManager[tuple[str, ...]]]
FILES = 5


def put_golden_input(home: Home) -> None:
    """Some of all that messages can be, over several days and files, and some of it twice."""
    for number in range(FILES):
        day = NOW - timedelta(days=number)
        bodies = [scored(0.1 * i, 0.5, prefix=f"{number}-{i}") for i in range(10)]
        bodies[3] = scored(7.0)  # not a score
        bodies[4] = scored(0.5, 0.25, 0.75, context={"seen_at": "2026-01-01T00:00:00+01:00"})
        status = [200] * 10
        status[7] = 503
        truth = {"actual": {"cases": [{"id": f"{number}-0-0", "label": "no"}]}}
        same = packed("scores", [scored(0.5, prefix="same")], first=9000)
        home.put(
            packed("scores", bodies, first=100 * number, at=day, status=status),
            packed("scores-objects", bodies, first=100 * number + 50, at=day),
            plain("scores", truth, message_id=f"truth{number}", at=day),
            plain("unheard-of", {"request": 1, "response": 2}, message_id=f"p{number}", at=day),
            plain("scores", b"{", message_id=f"broken{number}", at=day),
            plain(None, b"no model", message_id=f"nameless{number}", at=day),
            plain("NO NAME", {"request": 1}, message_id=f"misnamed{number}", at=day),
            plain("raises", {"request": 1, "response": 1}, message_id=f"raises{number}", at=day),
            plain("nothing", {"request": 1, "response": 1}, message_id=f"nothing{number}", at=day),
            plain("scores", {"request": 1}, message_id=f"refused{number}", at=day, status="404"),
            heartbeat(f"pub{number}", [], sequence=number),
            same,
            same,
            name=f"part{number}",
        )
    damaged = home.put(packed("scores", [scored(0.5, prefix="lost")], first=9900), name="damaged")
    damaged.write_bytes(damaged.read_bytes()[:-3])


def facts(report: Report) -> dict[str, Any]:
    """What a run counted.

    But for what was known: of an envelope that comes twice, that is counted only where both come to
    one worker; and for how much was pushed at once.
    """
    return {
        "rows": {table.table: table.rows for table in report.tables},
        "envelopes": {table.table: table.envelopes for table in report.tables},
        "skipped": {table.table: table.skipped for table in report.tables},
        "failures": dict(report.failures),
        "parked": report.parked,
        "heartbeats": report.heartbeats,
        "damaged": report.files_damaged,
        "undelivered": report.undelivered_rows,
    }


def received(receiver: ArizeReceiver) -> list[tuple[Any, ...]]:
    return sorted(
        {
            (upload.model_id, row["prediction_id"], repr(sorted(row.items())))
            for upload in receiver.uploads
            for row in upload.table.to_pylist()
        }
    )


ENGINES = [
    engines.bundle_based,
    engines.in_processes,
    engines.portable,
    engines.on_prism,
    engines.on_flink,
]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_leaves_the_same_on_every_runner(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By a path that workers who were started before, in another folder, would not find.
    here, there = Home(tmp_path / "here"), Home(Path("there"))
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as mine, ArizeReceiver("key", "space") as theirs:
        try:
            with engine(tmp_path / "engine") as arguments:
                monkeypatch.chdir(tmp_path)
                put_golden_input(here)
                put_golden_input(there)
                wanted = run(here.arguments("--arize_url", mine.url))
                words = there.arguments("--arize_url", theirs.url, *arguments)
                report = run(words)
                assert facts(report) == facts(wanted)
                found = left_behind(there)
                assert found == left_behind(here)
                assert len(found["models.scores"]) == FILES * 17 + 2
                assert received(theirs) == received(mine)
                assert Outbox(there.folder).entries() == set()
                # Again: nothing new, and nothing is sent once more.
                uploads = len(theirs.uploads)
                assert run(words).rows == 0
                assert left_behind(there) | {"extracted": 0} == found | {"extracted": 0}
                assert len(theirs.uploads) == uploads
        except NotAvailable as missing:
            pytest.skip(str(missing))
