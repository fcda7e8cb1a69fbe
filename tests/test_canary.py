"""What comes in is in tables and stored messages afterwards, and nowhere else.

A new command is one more line of COMMANDS.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PACKAGES, Home, packed, plain, scored, stored, write_package

from weighbridge.archive import Message

CANARY = "canary7f3a"
HERE = ("--home", "HOME", "--extractors_package", "PACKAGE")
COMMANDS = [
    ("run", "--input_files", "IN", *HERE, "--no_arize", "--quarantine"),
    ("run", "--input_files", "IN", *HERE, "--no_arize", "--quarantine")
    + ("--follow", "--exit_when_idle", "1s", "--commit_interval", "100ms"),
    ("models", "--extractors_package", "PACKAGE"),
    ("models", "--parked", *HERE),
    ("tables", *HERE),
    ("tables", "maintain", *HERE),
    ("failures", *HERE),
    ("failures", "show", *HERE),
    ("replay", "--failures", "--dry_run", *HERE, "--no_arize"),
    ("replay", "--failures", *HERE, "--no_arize"),
    ("replay", "--parked", *HERE, "--no_arize"),
    ("replay", "--archive", "IN", "--model", "known", *HERE, "--no_arize"),
    ("compare", "--model", "known", "--archive", "IN", *HERE),
    ("ledger", "--since", "2000-01-01", *HERE),
    ("ledger", "--since", "2000-01-01", "--by", "publisher", "--json", *HERE),
    ("arize", "status", *HERE),
    ("config", "show"),
]
"""Each is run after those before it. `tables show` and `failures show --payload` are left out: to
show rows and bytes is what they are for."""
# As verbose as all libraries can be.
PROGRAM = """
import logging
logging.basicConfig(level=logging.DEBUG)
logging.Logger.isEnabledFor = lambda self, level: True
from pipelines.cli import main
main()
"""
MODEL = """
from pydantic import BaseModel, ValidationError, field_validator

from extractors import Row, extractor


class Refusing(Row):
    name: str

    @field_validator("name")
    @classmethod
    def never(cls, value):
        raise ValueError(f"{value} is refused")


class Inner(BaseModel):
    number: int


class Known(Row):
    name: str


@extractor("known", row=Known, model_type="untyped")
def known(envelope):
    how = envelope.request["how"]
    text = envelope.request["text"]
    if how == "raise":
        raise RuntimeError(text)
    if how == "chain":
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(f"{text} is no key") from error
    if how == "key":
        envelope.request[text]
    if how == "attribute":
        getattr(envelope, text)
    if how == "exit":
        raise SystemExit(text)
    if how == "group":
        raise ExceptionGroup(text, [ValueError(text)])
    if how == "inner":
        Inner(number=text)
    if how == "column":
        yield {"name": 1, text: text}
    if how == "kind":
        yield text
    if how == "header":
        raise RuntimeError(envelope.headers["x-secret"])
    if how == "loop":
        while text:
            pass
    yield {"name": text}


@extractor("refusing", row=Refusing, model_type="untyped")
def refusing(envelope):
    yield {"name": envelope.request["text"]}
"""
WAYS = ["raise", "chain", "key", "attribute", "exit", "group", "inner", "column", "kind"]
WAYS += ["header", "good"]


def messages() -> Iterator[Message]:
    """Whose ids say nothing: an operator is shown ids."""
    return (message._replace(message_id=f"m-{n}") for n, message in enumerate(hostile()))


def hostile() -> Iterator[Message]:
    for number, how in enumerate(WAYS):
        body = {"request": {"how": how, "text": CANARY}, "response": CANARY}
        more = {"header-x-secret": CANARY, "team": CANARY}
        yield plain("known", body, message_id=f"m-{number}", **more)
        yield packed(
            "known", [body], first=number, headers=[b'{"x-secret": "%s"}' % CANARY.encode()]
        )
    text = {"request": {"text": CANARY}, "response": 1}
    yield packed("refusing", [text] * 150, first=1000)
    yield plain("refusing", text, message_id="r")
    yield plain(f"../{CANARY}", text, message_id="p")
    yield plain(CANARY.upper(), text, message_id="u")
    yield packed(f"{CANARY}/..", [text], first=2000)
    yield plain("known", CANARY.encode(), message_id="j")
    yield plain("known", text, message_id="t", event_time=CANARY)
    yield plain("known", text, message_id="k", kind=CANARY)
    yield plain("known", text, message_id="s", status=CANARY)
    yield plain("known", text, message_id="c", content=CANARY)
    yield packed("known", [text], first=3000, kind=CANARY)
    yield packed("known", [text], first=3001, request_encoding=CANARY)
    yield plain("unheard", scored(0.5, context=CANARY), message_id="q")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    write_package(tmp_path, "betraying", models=MODEL)
    home.put(*messages())
    return home


@pytest.mark.slow
def test_a_canary_is_in_no_log_line_metric_fingerprint_or_output(home: Home) -> None:
    replaced = {"IN": str(home.input), "HOME": str(home.folder), "PACKAGE": "betraying"}
    for command in COMMANDS:
        words = [replaced.get(word, word) for word in command]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=home.folder.parent,
            env={**os.environ, "COLUMNS": "500", "PYTHONPATH": str(PACKAGES)},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout
        if command[0] == "run":
            assert "DEBUG" in done.stderr
        for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
            assert CANARY not in line.lower(), line

    letters = list(stored(home.folder / "failures"))
    assert len(letters) > 2 * len(WAYS)
    told = [v for m in letters for k, v in m.attributes.items() if k.startswith("failure_")]
    assert not [one for one in told if CANARY in one]
    allowed = {"failures", "parked", "tables"}
    for path in home.folder.rglob("*"):
        name = path.relative_to(home.folder)
        assert CANARY not in str(name).lower()
        if path.is_file() and not (
            name.parts[0] in allowed and path.suffix in (".avro", ".parquet")
        ):
            data = path.read_bytes()
            assert CANARY.encode() not in data, path
    assert CANARY in str(home.rows("known"))
