"""kill -9 at every step from message to acknowledgement, then a rerun: once and complete."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import killed_at
from support import Home, environment, packed, plain, scored

from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver

STEPS = [
    f"{when} {what}"
    for what in (
        "data file",
        "dead letter",
        "entry",
        "metadata",
        "catalog",
        "upload",
        "acknowledgement",
    )
    for when in ("before", "after")
]
QUICK = {"after catalog"}
ENVELOPES = 40


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=[] if s in QUICK else pytest.mark.slow) for s in STEPS]
)
def test_a_killed_run_is_made_whole_by_the_next(
    tmp_path: Path, receiver: ArizeReceiver, step: str
) -> None:
    home = Home(tmp_path)
    bodies = [scored(0.5, 0.7, prefix=f"c{i}") for i in range(ENVELOPES)]
    home.put(
        packed("scores", bodies),
        plain("scores", {"actual": {"cases": [{"id": "c1-0", "label": "no"}]}}, message_id="t"),
        plain("scores", b"{", message_id="broken"),
    )
    killed_at(step, *home.arguments("--arize_url", receiver.url))
    report = run(home.arguments("--arize_url", receiver.url))
    wanted = sorted(f"pub-{i}:{k}" for i in range(ENVELOPES) for k in (0, 1))
    assert home.row_ids("scores") == wanted
    assert home.row_ids("scores_actuals") == ["t:0"]
    assert [letter.message_id for letter in home.stored("failures")] == ["broken"]
    assert report.undelivered_rows == 0
    assert Outbox(home.folder).entries() == set()
    got = Counter(
        id_ for upload in receiver.uploads for id_ in upload.table["prediction_id"].to_pylist()
    )
    # c1-0 is also what the actual is about.
    once = Counter({f"c{i}-{k}": 1 for i in range(ENVELOPES) for k in (0, 1)}) + Counter(["c1-0"])
    assert once <= got
    if step not in ("after upload", "before acknowledgement"):
        assert got == once
