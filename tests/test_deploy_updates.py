"""The running job: what an update shows and sends, how one is ended, what is brought in."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from deployed import PAGE, Cloud
from google_emulators import PROJECT
from support import packed, plain, scored, untyped, write_package

from pipelines.address import folder_of
from pipelines.cli import _main
from pipelines.deploy import submit
from pipelines.store import Store
from weighbridge.archive import write_archive

pytestmark = pytest.mark.slow
STEP = "ReadSubscription/ReadFromPubSub/Read"


def test_an_update_shows_what_changes(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    assert cloud.deploy()[0] == 0
    first = cloud.job["id"]
    status, out, err = cloud.deploy()
    assert status == 2
    assert f"update job {first}? Give --yes where nobody can be asked" in err
    assert f"an update of job {first} of 20" in out
    assert "options: as before" in out
    assert "models: as before" in out
    assert "26 as before" in out
    assert len(cloud.dataflow.jobs) == 1
    more = "--commit_interval=2m", "--extractors_package=odd", "--exclude_model=endless"
    status, out, err = cloud.deploy("--yes", "--update", *more)
    assert status == 0, out + err
    assert cloud.job["replaceJobId"] == first
    assert "endless is excluded: its envelopes are parked" in caplog.text
    assert "    ~ commit_interval  300 s -> 120 s\n" in out
    assert "    + exclude_model  endless\n" in out
    assert "    + raises prediction" in out
    assert "    ~ scores prediction" in out
    assert "+ endless" not in out
    assert cloud.dataflow.jobs[first]["currentState"] == "JOB_STATE_UPDATED"
    said = cloud.deploy("--dry_run")[2]
    assert "    - raises prediction" in said
    assert "    - exclude_model  endless" in said


def test_steps_that_are_renamed(cloud: Cloud, tmp_path: Path) -> None:
    assert cloud.deploy()[0] == 0
    mapping = tmp_path / "mapping.json"
    arguments = "--yes", "--transform_name_mapping", str(mapping)
    mapping.write_text('{"ExtractRows/Extracted": "ExtractRows/Extract"}')
    assert "the running job has no step ExtractRows/Extracted" in cloud.deploy(*arguments)[2]
    mapping.write_text(f'{{"{STEP}": "ExtractRows/Extracted"}}')
    assert "the new job has no step ExtractRows/Extracted" in cloud.deploy(*arguments)[2]
    mapping.write_text('["CommitFiles/Commit"]')
    assert "no JSON object of old to new names" in cloud.deploy(*arguments)[2]
    mapping.write_text(f'{{"{STEP}": "{STEP}"}}')
    assert len(cloud.dataflow.jobs) == 1
    status, out, err = cloud.deploy(*arguments)
    assert (status, err) == (0, "")
    assert f"~ {STEP} -> {STEP}" in out
    assert cloud.job["transformNameMapping"] == {STEP: STEP}


def test_steps_that_are_gone_are_named(cloud: Cloud) -> None:
    assert cloud.deploy()[0] == 0
    store = Store(folder_of(cloud.options["pipelineUrl"].rpartition("/")[0]))
    graph = cloud.graph()
    for step in graph.components.transforms.values():
        step.unique_name = step.unique_name.replace("CommitInterval", "CommitEvery")
    store.write("pipeline.pb", graph.SerializeToString())
    out = cloud.deploy("--dry_run")[2]
    assert "    - CommitEvery" in out
    assert "    + CommitInterval" in out
    assert "name their successors with --transform_name_mapping, or --drain this job first" in out
    store.remove("pipeline.pb")
    assert "what it runs is not known" in cloud.deploy("--dry_run")[2]


def test_an_update_of_a_job_that_does_not_run_ends_at_once(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--update", "--yes")
    assert (status, out) == (2, "")
    assert "--update: no job weighbridge-prod runs in test-project, europe-west1" in err
    assert len(cloud.dataflow.calls) == 1


def test_a_job_that_is_gone_meanwhile_does_not_hold_us_up_for_ever(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam looks for it in list after list, and is left behind in a thread of its own."""
    assert cloud.deploy()[0] == 0
    found = cloud.dataflow.active
    shown = [found(), *([] for _ in range(10_000))]
    monkeypatch.setattr(cloud.dataflow, "active", lambda: shown.pop(0) if shown else found())
    monkeypatch.setattr(submit, "SUBMIT_SECONDS", 1.0)
    status, _, err = cloud.deploy("--yes")
    assert status == 1
    assert "submission did not end within 1 s; see whether the job is there" in err
    shown.clear()  # lets the thread end


@pytest.mark.parametrize(("flag", "state"), [("--drain", "DRAINED"), ("--cancel", "CANCELLED")])
def test_a_job_is_ended(cloud: Cloud, flag: str, state: str) -> None:
    assert "no job weighbridge-prod runs in test-project" in cloud.deploy(flag, "--yes")[2]
    assert cloud.deploy()[0] == 0
    status, out, err = cloud.deploy(flag)
    assert status == 2
    assert f"{flag[2:]} job {cloud.job['id']}? Give --yes" in err
    assert cloud.job["currentState"] == "JOB_STATE_RUNNING"
    status, out, err = cloud.deploy(flag, "--yes")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"{cloud.job['id']} is {state}"
    assert len(cloud.dataflow.jobs) == 1


def test_a_job_that_fails_ends_with_1(cloud: Cloud) -> None:
    cloud.dataflow.states = ["PENDING", "FAILED"]
    status, out, _ = cloud.deploy()
    assert status == 1
    assert "is FAILED\nit should be RUNNING: it has ended; its page says more" in out
    cloud.dataflow.states = ["PENDING"]
    status, out, _ = cloud.deploy("--wait", "20ms")
    assert status == 1
    assert "is PENDING\nit should be RUNNING: not so after 0.02 s of --wait" in out
    assert "nothing is parked" not in out
    assert cloud.deploy("--wait", "0s")[0] == 2  # one is pending


def test_it_need_not_wait(cloud: Cloud) -> None:
    status, out, err = cloud.deploy("--wait", "0s")
    assert (status, err) == (0, "")
    assert "RUNNING" not in out
    assert out.splitlines()[-1] == "nothing is parked of models that are registered"


def test_what_is_parked_is_named_and_brought_in(cloud: Cloud, tmp_path: Path) -> None:
    message = packed("scores", [scored(0.5), scored(0.25)])
    unknown = plain("unheard-of", {"request": 1, "response": 2}, message_id="p")
    write_archive(tmp_path / "in" / "a.avro", [message, unknown])
    run = ["run", "--env=prod", "--input_files=in", "--extractors_package=extractors"]
    assert _main(run) == 0
    assert "parked, as nobody registered their model: 3" in cloud.capsys.readouterr().out
    status, out, err = cloud.deploy()
    assert (status, err) == (0, "")
    assert _main(["models", "--parked", "--env=prod"]) == 0
    listed = cloud.capsys.readouterr().out
    assert "scores, an example" in listed
    assert "unheard-of" in listed
    assert _main(["failures", "--env=prod"]) == 0
    assert "no dead letters" in cloud.capsys.readouterr().out
    ending = "parked, and registered now: scores, 2\nto bring them in: the same command with"
    assert ending in out
    assert "unheard-of" not in out
    status, out, err = cloud.deploy("--yes", "--replay_parked")
    assert status == 0, err
    assert "parked messages: 1 done" in out
    assert cloud.google.row_ids(f"{cloud.dataset}.scores") == ["pub-0:0", "pub-1:0"]
    assert "nothing is parked of models that are registered" in cloud.deploy("--yes")[1]


def test_the_page_shows_what_is_printed(cloud: Cloud, tmp_path: Path) -> None:
    write_package(tmp_path, "page_models", number=untyped("int"))
    package = "--extractors_package=page_models"
    days = {"request": {"days": 3}, "response": 1}
    write_archive(tmp_path / "in" / "a.avro", [packed("stock-out", [days, days])])
    assert _main(["run", "--env=prod", "--input_files=in", package]) == 0
    assert cloud.deploy(package)[0] == 0
    # In another process the package would be imported anew.
    text = untyped("int", "days").replace('"days"', '"stock-out"')
    (tmp_path / "page_models" / "stock_out.py").write_text(text)
    importlib.invalidate_caches()
    [shown] = re.findall(r"\$ weighbridge (deploy dataflow --env prod .*?)```", PAGE, re.S)
    command, _, output = shown.partition("\n")
    cloud.capsys.readouterr()
    status, out, err = cloud.deploy(*command.split()[4:], package)
    assert (status, err) == (0, "")
    assert _plain(out) == _plain(output)


def _plain(text: str) -> list[str]:
    """Without what differs from run to run, or is of the emulators."""
    text = re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d| [0-9a-f]{8}$|in \d+\.\d s", "", text, flags=re.M
    )
    lines = [line for line in text.splitlines() if not line.startswith(("note: Pub/Sub", " ──"))]
    return [" ".join(line.split()).replace(PROJECT, "my-project") for line in lines if line.strip()]
