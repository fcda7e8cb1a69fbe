"""Followers that are killed with -9 again and again, while traffic goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, product
from pathlib import Path
from random import Random

import pytest
from conftest import Emulator, eventually
from feeds import ACKNOWLEDGEMENT_SECONDS, Feeder, Folder, Topic
from lives import PATIENCE, Kills, Life, end_all, kill_at
from scale import LONG, SCALE, SEED, Story
from steps import BATCH, COMMIT, FORKER, FRONT, GROUP, PUSH, RECEIVE, WORKER, WRITE, Death
from support import Home
from traffic import Traffic
from truth import Truth, check_home, check_receiver, part_of

from pipelines.receiver import ArizeReceiver

FOLDER_STEPS = ("journal", *BATCH, *WRITE, *COMMIT, *PUSH)
TOPIC_STEPS = (*RECEIVE, *BATCH, *WRITE, *COMMIT, *PUSH)
# Once at a start and then a minute later: it may take a while to meet it.
REMOVAL = ("removal of old files",) if LONG else ()
ENDS_OF_BATCH = (("before", "begin"), ("after", "done"))
IDLE = f"{ACKNOWLEDGEMENT_SECONDS + 2}s"
Deaths = Iterator[Death | None]


class Followed:
    """A home, and what is followed into it: it is started again and again.

    Args:
        folder: of the home and its logs.
        receiver: what is pushed to.
        source: the flags that name what is followed.
        host: of the emulator, if that is followed.
    """

    def __init__(
        self, folder: Path, receiver: ArizeReceiver, source: Sequence[str], host: str = ""
    ) -> None:
        self.home = Home(folder, "freight")
        self._logs = folder / "logs"
        self._arguments = [*source, "--home", str(self.home.folder)]
        self._arguments += ["--extractors_package", self.home.package]
        self._arguments += ["--arize_url", receiver.url, "--commit_interval", "100ms"]
        self._keys = {"ARIZE_API_KEY": "key", "ARIZE_SPACE_ID": "space"}
        self._keys["PUBSUB_EMULATOR_HOST"] = host
        self._starts = 0

    def keep_logs(self, folder: Path) -> None:
        """Keep logs elsewhere than beside the home."""
        self._logs = folder

    def start(self, *more: str, death: Death | None = None) -> Life:
        """Start a follower."""
        self._starts += 1
        name = f"{self._starts:03}"
        return Life(self._logs, name, [*self._arguments, *more], self._keys, death)

    def finish(self, idle: str) -> Life:
        """Start one that ends by itself."""
        return self.start("--exit_when_idle", idle)


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    with ArizeReceiver("key", "space") as receiver:
        yield receiver
        end_all()


def deaths(random: Random, steps: Sequence[str]) -> Deaths:
    """One kill of three at a random moment, the others before and after each step in turn."""
    ways = list(product(("before", "after"), steps))
    random.shuffle(ways)
    for number, (when, step) in enumerate(cycle(ways)):
        if number % 2 == 0:
            yield None
        victims = (FRONT, GROUP, WORKER, FORKER) if step in WRITE else (FRONT, GROUP)
        nth = 1 if step in (*WRITE, *REMOVAL) else random.randint(1, 3)
        yield Death(when, step, nth, random.choice(victims))


def batch_seconds(life: Life) -> float:
    """How long its batches take, once it has done some."""
    eventually(lambda: life.times("done") >= 3 or not life.runs, PATIENCE)
    assert life.runs, life.output
    moments = [moment for moment, _, when, step in life.passed() if (when, step) in ENDS_OF_BATCH]
    return max(later - earlier for earlier, later in zip(moments[::2], moments[1::2]))


def torment(
    followed: Sequence[Followed], random: Random, steps: Sequence[str], kills: int
) -> Kills:
    """Keep followers running, and kill one of them at a time."""
    met = Kills()
    longest = 0.0
    ways = deaths(random, steps)
    lives = {one: one.start() for one in followed}
    met.starts = len(lives)
    while met.count < kills:
        one = random.choice(followed)
        longest = longest or 2 * batch_seconds(lives[one])
        kill_at(lives[one], random, longest, met)
        workers = random.choice(("1", "1", "2"))
        death = next(ways)
        lives[one] = one.start("--workers", workers, "--archive_age", "3s", death=death)
        met.starts += 1
    for life in lives.values():
        life.kill()
    return met


def finish(followed: Sequence[Followed], idle: str) -> None:
    """Let each of them run until nothing comes any more."""
    lives = [one.finish(idle) for one in followed]
    for life in lives:
        assert life.ended() == 0, life.output
        assert life.left_no_process()


@pytest.mark.slow
def test_a_follower_of_a_folder(tmp_path: Path, receiver: ArizeReceiver) -> None:
    story, random = Story("a follower of a folder"), Random(f"folder {SEED}")
    folder = Folder(tmp_path / "in", Random(f"names {SEED}"))
    folder.path.mkdir()
    followed = Followed(tmp_path, receiver, ["--input_files", str(folder.path), "--follow"])
    with Feeder(Traffic(SEED), folder.publish, Random(f"pauses {SEED}")) as feeder:
        story.kills = torment([followed], random, FOLDER_STEPS, SCALE.follower_kills)
    truth = feeder.truth
    finish([followed], "1s")
    left = check_home(followed.home, truth)
    again = check_receiver(receiver, [truth])
    assert story.kills.count >= SCALE.follower_kills
    story.tell(len(truth.cases), truth.rows, again, left)


@pytest.mark.slow
def test_a_follower_of_a_subscription(
    tmp_path: Path, receiver: ArizeReceiver, emulator: Emulator
) -> None:
    story, random = Story("a follower of a subscription"), Random(f"topic {SEED}")
    topic = Topic(emulator, "chaos-one")
    source = ["--input_subscription", topic.subscription]
    followed = Followed(tmp_path, receiver, source, emulator.host)
    with Feeder(Traffic(SEED), topic.publish, Random(f"pauses {SEED}")) as feeder:
        story.kills = torment([followed], random, (*TOPIC_STEPS, *REMOVAL), SCALE.follower_kills)
    truth = feeder.truth
    finish([followed], IDLE)
    left = check_home(followed.home, truth)
    again = check_receiver(receiver, [truth])
    assert story.kills.count >= SCALE.follower_kills
    story.tell(len(truth.cases), truth.rows, again, left)


@pytest.mark.slow
def test_two_followers_share_a_subscription(
    tmp_path: Path, receiver: ArizeReceiver, emulator: Emulator
) -> None:
    """All is in one home or the other; in both only what was delivered to both."""
    story, random = Story("two followers of one subscription"), Random(f"two {SEED}")
    topic = Topic(emulator, "chaos-two")
    source = ["--input_subscription", topic.subscription]
    two = [Followed(tmp_path / name, receiver, source, emulator.host) for name in "ab"]
    with Feeder(Traffic(SEED), topic.publish, Random(f"pauses {SEED}")) as feeder:
        story.kills = torment(two, random, TOPIC_STEPS, SCALE.shared_kills)
    truth = feeder.truth
    finish(two, IDLE)
    parts = [part_of(truth, one.home) for one in two]
    lefts = [check_home(one.home, part) for one, part in zip(two, parts)]
    assert all(part.cases for part in parts)
    assert Truth.of_all(parts) == truth
    again = check_receiver(receiver, [truth])
    both = parts[0].cases.keys() & parts[1].cases.keys()
    story.tell(len(truth.cases), truth.rows, again, sum(lefts[1:], lefts[0]))
    print(f"envelopes in both homes: {len(both):,}")
