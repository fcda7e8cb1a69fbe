"""Work in forked processes: results in order, and no failure that stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import eventually
from support import Home, packed, plain, scored

from pipelines.batches import InputFile, cut, shares

PROGRAM = """
import json, os, signal, sys
from pipelines.workers import WorkerFailed, Workers

def work(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(3)
    if what == "raise":
        raise ValueError("secret payload")
    if what == "wait":
        print(os.getpid(), flush=True)
        signal.pause()
    return what * 2, os.getpid()

with Workers(work) as workers:
    for arguments in json.loads(sys.argv[1]):
        try:
            print(json.dumps(workers.map(arguments)), flush=True)
        except WorkerFailed as error:
            print(json.dumps(str(error)), flush=True)
"""


def map_in_workers(*calls: list[str]) -> list[object]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_results_come_in_order_each_from_a_process_of_its_own() -> None:
    first, second = map_in_workers(["a", "b", "c"], ["d"])
    assert [result for result, _ in first] == ["aa", "bb", "cc"]
    assert [result for result, _ in second] == ["dd"]
    assert len({pid for _, pid in (*first, *second)}) == 4


def test_a_failure_is_told_without_the_text_of_foreign_errors_and_does_not_stay() -> None:
    died, left, raised, good = map_in_workers(["a", "die"], ["leave"], ["raise"], ["a"])
    assert died == "a worker died, killed by SIGKILL"
    assert left == "a worker died, exit status 3"
    assert str(raised).startswith("ValueError in a worker\n  File ")
    assert "secret payload" not in str(raised).replace('raise ValueError("secret payload")', "")
    assert good[0][0] == "aa"


def test_workers_end_with_the_process_that_they_work_for() -> None:
    command = [sys.executable, "-c", PROGRAM, '[["wait"]]']
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    eventually(lambda: not _alive(worker))
    parent.stdout.close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_batches_keep_order_and_bounds() -> None:
    files = [InputFile(str(i), size, 0, 0) for i, size in enumerate([4, 5, 2, 20, 1, 9, 10])]
    parts = [[file.bytes for file in part] for part in cut(files, 10)]
    assert parts == [[4, 5], [2], [20], [1, 9], [10]]
    assert list(cut([], 10)) == []


def test_shares_are_even_and_in_order() -> None:
    files = [InputFile(f"{i:02}", size, 0, 0) for i, size in enumerate([1, 1, 8, 1, 1, 4])]
    assert shares(files, 2) == [["02"], ["00", "01", "03", "04", "05"]]
    assert shares(files[:1], 3) == [["00"]]
    assert shares(files, 1) == [[file.path for file in files]]


def test_two_workers_write_what_one_would(tmp_path: Path) -> None:
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    for home in (one, two):
        for i in range(5):
            home.put(
                packed("scores", [scored(0.5, prefix=f"{i}-{k}") for k in range(20)], first=i * 20),
                packed("scores", [scored(0.5)], first=1000),  # the same in each file
                plain("scores", b"{", message_id="broken"),
                plain("unheard-of", {"request": 1, "response": 2}, message_id="p"),
                name=str(i),
            )
    report = one.run()
    weighbridge(two, "--no_arize", "--workers", "2")
    assert report.rows == len(one.row_ids("scores")) == 101
    assert two.rows("scores") == one.rows("scores")
    assert [m.message_id for m in two.stored("failures")] == ["broken"]
    assert [m.message_id for m in two.stored("parked")] == ["p"]


def weighbridge(home: Home, *more: str) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "packages")}
    subprocess.run([*command, *home.arguments(*more)], env=environment, check=True, timeout=120)
