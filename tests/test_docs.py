"""The docs are true: what they show was run, what there is they mention, where they point is.

Blocks of a page are followed in order, in an empty folder: ```python title="a/b.py"``` (json
likewise) is a file, a diff with a title edits it, console holds commands with their output. After a
change, `python tests/test_docs.py` writes the outputs anew, for review with git diff.
"""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

import extractors
from extractors import load_extractors
from extractors.testing import envelope, rows_of
from pipelines import arize, commit, extract, files, lateness, metrics, snapshots, spaces, write
from pipelines.cli import cli
from pipelines.decode import decode
from pipelines.ledger import DELIVERIES_SCHEMA
from pipelines.maintain import compact, keeper, sweep
from schemas import ModelSettings, Stage, roles
from schemas.arize import MODEL_TYPES
from schemas.row import STAMPED
from weighbridge import Envelope, wire
from weighbridge.archive import Message
from weighbridge.counts import CAUSES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
FOLLOWED = [
    f"docs/{name}.md"
    for name in (
        "adding-a-model",
        "operations",
        "tables",
        "arize",
        "failures",
        "ledger",
        "situations",
    )
]
# Where the pages say that they are, and what they listen on.
FOLDER, PORT = "/home/you/shop", "8100"
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str
    start: int


def blocks(page: Path) -> list[Block]:
    return [
        Block(found[1], found[2] or "", found[3], found.start(3))
        for found in _FENCE.finditer(page.read_text())
    ]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and the output below it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def plain(text: str) -> list[str]:
    """Lines as they are compared: without what depends on the clock, the process or widths."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?", "TIME"),
        (r"=\d{4}-\d\d-\d\d", "=DAY"),
        (r"\b[0-9a-f]{16}-(\d+)\b", r"PUBLISHER-\1"),
        (r"\b([0-9a-f]{32}|[0-9a-f]{16}|[0-9a-f]{8})\b", "HASH"),
        (r"\d+\.\d s\b", "SECONDS"),
        (r"\b\d+ bytes", "BYTES"),
        (r"\b[\d.]+ kB", "BYTES"),
        (r"(microseconds a row +\S+ +)[\d.]+", r"\1NUMBER"),
        ("─+", "─"),
    ):
        text = re.sub(pattern, name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@dataclass
class Walk:
    """Follows the blocks of a page in a folder of its own."""

    folder: Path
    port: str = PORT
    background: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, block: Block) -> str:
        """The block as it should be: a console's with the real output."""
        path = self.folder / block.title
        if block.language == "console":
            return "".join(f"$ {c}\n{self.run(c, shown)}" for c, shown in commands(block.text))
        if block.language == "diff":
            path.write_text(_edited(path.read_text(), block.text))
        elif block.title:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        return block.text

    def run(self, command: str, shown: str) -> str:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ARIZE_")}
        path = f"{Path(sys.executable).parent}:{clean['PATH']}"
        process = subprocess.Popen(
            ["bash", "-c", command.removesuffix("&").replace(PORT, self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**clean, "PATH": path, "COLUMNS": "100"},
            start_new_session=True,
        )
        assert process.stdout is not None
        if command.endswith("&"):
            self.background.append(process)
            lines = (process.stdout.readline() for _ in shown.splitlines())
            output = "".join(lines)
        else:
            output = process.communicate(timeout=120)[0]
        output = output.replace(str(self.folder), FOLDER).replace(self.port, PORT)
        return "".join(f"{line.rstrip()}\n" for line in output.splitlines() if line.strip())

    def close(self) -> None:
        for process in self.background:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _edited(text: str, diff: str) -> str:
    parts = {"-": "", "+": ""}
    for line in diff.splitlines(keepends=True):
        for sign in parts:
            if line[0] in (sign, " "):
                parts[sign] += line[1:]
    assert text.count(parts["-"]) == 1, f"not once in the file:\n{parts['-']}"
    return text.replace(parts["-"], parts["+"])


def _one_line(path: Path) -> str:
    return " ".join(path.read_text().split())


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    # Five digits like the default, so that widths do not differ.
    walk = Walk(tmp_path, free_port())
    yield walk
    walk.close()


def everything() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def mentioned(names: Any, text: str) -> list[str]:
    """Those that the text does not hold as code."""
    code = set(re.findall(r"[\w.-]+", " ".join(re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)))))
    return sorted(name for name in names if name not in code)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_that_is_followed_shows_what_happens(name: str, walk: Walk) -> None:
    if name != FOLLOWED[0]:
        for block in blocks(ROOT / FOLLOWED[0]):
            walk.follow(block)
    text = (ROOT / name).read_text()
    followed = [
        block for block in blocks(ROOT / name) if block.language not in ("sh", "sql", "text")
    ]
    assert {block.language for block in followed} <= {"python", "json", "diff", "console"}
    for block in followed:
        before = text[: text.rindex("```", 0, block.start)]
        assert block.title in before, f"{block.title}: the text before does not name it"
        assert plain(block.text) == plain(walk.follow(block)), name


def test_the_model_of_the_readme_works(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block for block in blocks(README) if block.language == "python"]
    service, model = shown
    package = model.title.partition("/")[0]
    walk.follow(Block("python", "service.py", service.text, 0))
    walk.follow(Block("python", f"{package}/__init__.py", "", 0))
    walk.follow(model)
    monkeypatch.syspath_prepend(str(walk.folder))
    loaded = load_extractors(package)
    assert set(loaded) == {("house-price", "prediction"), ("house-price", "actual")}
    sale = envelope(model_id="house-price", actual={"house_id": "h-1", "price": 395_000.0})
    [row] = rows_of(loaded["house-price", "actual"].function, sale)
    assert row.price == 395_000.0
    assert walk.run("python service.py", "") == ""
    [command] = re.findall(r"`(weighbridge run [^`]+ my_models [^`]+)`", _one_line(README))
    assert "house_price 1 0 1 0 0 0" in plain(walk.run(command, ""))


@pytest.mark.slow
def test_the_readme_shows_what_the_demo_prints(walk: Walk) -> None:
    [shown] = [
        output
        for block in blocks(README)
        for command, output in commands(block.text)
        if command == "make run"
    ]
    assert _demo(walk.run("weighbridge demo", "")) == _demo(shown)


def _demo(text: str) -> list[str]:
    """Without speeds and the receiver's port."""
    lines = [re.sub(r"\(.*?/s\)|127.0.0.1:\d+", "", line) for line in plain(text)]
    return [line for line in lines if "━" not in line and "bin/weighbridge" not in line]


def test_the_plain_message_of_the_docs_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = [block for block in blocks(DOCS / "wire.md") if "PublisherClient" in block.text]
    [body] = [block for block in blocks(DOCS / "wire.md") if block.language == "json"]
    sent: list[Message] = []

    class PublisherClient:
        """Google's, as far as the example uses it."""

        def topic_path(self, project: str, topic: str) -> str:
            return f"projects/{project}/topics/{topic}"

        def publish(self, topic: str, data: bytes, **attributes: str) -> Any:
            sent.append(Message(data, attributes, "1", 1_700_000_000_000_000))
            return types.SimpleNamespace(result=lambda: "1")

    from google.cloud import pubsub_v1

    monkeypatch.setattr(pubsub_v1, "PublisherClient", PublisherClient)
    exec(compile(code.text, "wire.md", "exec"), {})
    for message in json.loads(body.text)["messages"]:
        data = base64.b64decode(message["data"])
        sent.append(Message(data, message["attributes"], "1", 1_700_000_000_000_000))
    found = [next(iter(read.envelopes())) for item in sent if (read := decode(item, 1 << 20))]
    [prediction, actual, by_rest] = found
    assert [envelope.kind for envelope in found] == ["prediction", "actual", "prediction"]
    assert {envelope.model_id for envelope in found} == {"payment-fraud"}
    assert prediction.request["payment_id"] == actual.actual["payment_id"]
    assert (by_rest.request, by_rest.response) == (prediction.request, prediction.response)
    assert (by_rest.headers, by_rest.status) == (prediction.headers, prediction.status)
    assert by_rest.event_time == prediction.event_time


def test_every_command_and_flag_is_mentioned() -> None:
    text = everything()
    found = [(path, flag) for path, flag in _flags(cli, "weighbridge") if flag.startswith("--")]
    assert len(found) > 15
    assert [(path, flag) for path, flag in found if flag not in text] == []
    assert [path for path, _ in found if path not in text] == []


def _flags(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        for flag in parameter.opts:
            yield path, flag
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _flags(child, f"{path} {name}")


_DEPLOY = " deploy dataflow"


def _counters() -> set[str]:
    """Names of the docstring, and those that the code counts."""
    named = set(re.findall(r"[a-z]+_[a-z_]+", str(metrics.counter.__doc__)))
    for path in (ROOT / "pipelines").glob("*.py"):
        for name in re.findall(r'counter\([^()]+, f?"([^"]+)"\)', path.read_text()):
            named |= {name} if "{" not in name else {f"failures_{stage}" for stage in Stage}
    return named


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (_counters(), "operations.md"),
        (set(Stage), "failures.md"),
        ({"failure_stage", "failure_error", "failure_message", "failure_fingerprint",
          "failure_extractor_version", "failure_traceback", "failure_first"}, "failures.md"),
        (set(Stage), "wire.md"),
        ({n for n, role in vars(roles).items() if isinstance(role, roles.Role)},
         "adding-a-model.md"),
        (set(ModelSettings.model_fields), "adding-a-model.md"),
        (set(MODEL_TYPES), "adding-a-model.md"),
        (set(STAMPED), "adding-a-model.md"),
        (set(extractors.__all__) - {"Extractor", "Extractors", "load_extractors"},
         "adding-a-model.md"),
        ({n for n in vars(Envelope) if n[0] != "_"} - {"event_micros", "size", "used_nan"},
         "adding-a-model.md"),
        ({wire.BATCH_CONTENT, wire.HEARTBEAT_CONTENT, "content",
          "encoding", "model_id", "batch_id", "publisher_id", "first_sequence",
          "envelope_count"}, "wire.md"),
        ({"model_version", "envelope_id", "event_time", "status", "latency_us", "kind"}, "wire.md"),
        (set(CAUSES), "../handlers/README.md"),
        ({flag for path, flag in _flags(cli, "") if flag[0] == "-" and path != _DEPLOY},
         "operations.md"),
        ({flag for path, flag in _flags(cli, "") if path == _DEPLOY}
         - {"--config", "--env", "--log_format"}
         - {"--dataset", "--catalog_uri", "--catalog_property"},
         "dataflow.md"),
        (set(DELIVERIES_SCHEMA.names), "arize.md"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_there_is_is_mentioned(what: set[str], name: str) -> None:
    assert what
    assert mentioned(what, page(name)) == []


@pytest.mark.parametrize("name", ["envelope.avsc", "heartbeat.avsc", "archive.avsc"])
def test_every_field_of_the_contract_is_mentioned(name: str) -> None:
    schema = json.loads((ROOT / "handlers" / "weighbridge" / name).read_text())
    named = set(re.findall(r'"name": "(\w+)"', json.dumps(schema)))
    assert len(named) > 6
    assert mentioned(named, page("wire.md")) == []


def test_every_make_target_is_mentioned() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert {"run", "test", "golden"} <= targets
    text = everything()
    assert [target for target in sorted(targets) if f"make {target}" not in text] == []


def _anchors(path: Path) -> set[str]:
    text = _FENCE.sub("", path.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_limits_are_as_the_pages_say() -> None:
    said = {
        "arize.md": [
            f"An upload is tried {arize.ATTEMPTS} times",
            f"without an answer ends after {arize.TIMEOUT_SECONDS:.0f} seconds",
            f"is split at {spaces.Space().max_upload_bytes >> 20} MiB",
            f"{spaces.Space().look_back.days} days",
            f"up to {lateness.LOOKED_AT // 10**6} million predictions",
        ],
        "tables.md": [
            f"all but the newest {snapshots.KEPT_SNAPSHOTS} snapshots",
            f"Each {snapshots.MERGED_MANIFESTS} manifests",
            f"row groups of {files.ROW_GROUP:,}",
            f"for up to {keeper.BUDGET_SECONDS:.0f} seconds, of tables with {keeper.MORE_FILES}",
            f"(below {compact.SMALL_BYTES >> 20} MB)",
            f"once there are {compact.FILES_OF_TODAY}",
            f"not before it is {sweep.DATA_SECONDS / 86400:.0f} days old",
        ],
        "wire.md": [f"may unpack to {wire.MAX_BATCH_BYTES >> 20} MiB"],
        "architecture.md": [
            f"checked in batches of {extract.FLUSH_ROWS:,}",
            f"at {write.MAX_TABLE_BYTES >> 20} MB of Arrow a table, or {write.MAX_BYTES >> 20} MB",
        ],
        "glossary.md": [f"the last {commit.RING_LENGTH} of them"],
    }
    for name, texts in said.items():
        assert [text for text in texts if text not in _one_line(DOCS / name)] == []


def test_links_lead_somewhere() -> None:
    broken = []
    count = 0
    for source in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "handlers/README.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", source.read_text())):
            if target.startswith("https://"):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            path = (source.parent / name).resolve() if name else source
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                broken.append((source.name, target))
    assert count > 15
    assert broken == []


def test_the_template_becomes_a_model(walk: Walk) -> None:
    [steps] = [block for block in blocks(DOCS / "adding-a-model.md") if block.language == "sh"]
    shutil.copytree(ROOT / "extractors", walk.folder / "extractors")
    output = walk.run(" && ".join(steps.text.splitlines()), "")
    assert "my-model (prediction) -> models.my_model, Arize binary" in output
    assert "my-model (actual) -> models.my_model_actuals, Arize binary" in output


def test_files_that_are_named_are_there() -> None:
    named = {
        (source.name, name)
        for source in PAGES
        for name in re.findall(r"`((?:tests|docs|schemas|pipelines|handlers)/[\w./-]+)`",
                               _FENCE.sub("", source.read_text()))
    }  # fmt: skip
    assert len(named) > 5
    assert sorted(pair for pair in named if not (ROOT / pair[1]).exists()) == []


def test_pages_speak_of_the_project_only() -> None:
    for source in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = source.read_text()
        assert not re.findall(r"/work/|/tmp/|/root/|\bshared/|localhost|\bTODO\b", text), source
        assert max(map(len, _FENCE.sub("", text).splitlines())) < 400, source


def test_code_in_other_pages_is_code() -> None:
    checked = 0
    for source in PAGES:
        for block in blocks(source):
            if block.language == "python":
                compile(block.text, f"{source.name}: {block.title}", "exec")
                checked += 1
            elif block.language == "json":
                json.loads(block.text)
    assert checked > 5


def rewrite(path: Path, folder: Path) -> None:
    """Put the real outputs into the console blocks of a page."""
    text, walk = path.read_text(), Walk(folder)
    try:
        if path != ROOT / FOLLOWED[0]:
            for block in blocks(ROOT / FOLLOWED[0]):
                walk.follow(block)
        new = [(block, walk.follow(block)) for block in blocks(path)]
    finally:
        walk.close()
    for block, real in reversed(new):
        if plain(block.text) != plain(real):
            text = text[: block.start] + real + text[block.start + len(block.text) :]
    path.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:] or FOLLOWED:
        folder = Path("/tmp") / f"docs-{datetime.now(UTC):%H%M%S}"
        folder.mkdir()
        rewrite(ROOT / name, folder)
        shutil.rmtree(folder)
