"""Settings by environment: what holds, what is refused, and what is pushed where."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from forked import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Home, environment, packed, scored, write_package

from extractors import load_extractors
from pipelines.main import run
from pipelines.options import parse_run
from pipelines.receiver import ArizeReceiver
from pipelines.spaces import Space
from schemas import ConfigurationError

TOML = """\
extractors_package = "odd"
workers = 2

[env.dev]
no_arize = true
home = "dev-home"

[env.prod]
input_subscription = "projects/p/subscriptions/s"
workers = 3
commit_interval = "30s"
max_envelope_bytes = 1000
archive_bytes = "5GB"

[env.prod.arize.spaces.risk]
space_id = { env = "RISK_SPACE" }
api_key = { secret = "projects/p/secrets/key/versions/latest" }
look_back = "30d"

[env.prod.models.scores]
arize_space = "risk"
timeout = "20s"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "weighbridge.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_win_over_the_environment_that_wins_over_what_all_share() -> None:
    shared = parse_run(["--input_files=x"])
    assert (shared.extractors_package, shared.workers, shared.no_arize) == ("odd", 2, False)
    prod = parse_run(["--env=prod"])
    assert (prod.extractors_package, prod.workers) == ("odd", 3)
    assert (prod.commit_interval, prod.archive_bytes) == (30.0, 5_000_000_000)
    assert parse_run(["--env", "prod", "--workers", "4"]).workers == 4
    dev = parse_run(["--env=dev", "--input-files=x"])
    assert (str(dev.home), dev.workers, dev.no_arize) == ("dev-home", 2, True)


def test_environment_variables_choose_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_ENV", "dev")
    assert str(parse_run(["--input_files=x"]).home) == "dev-home"
    assert parse_run(["--env=prod"]).workers == 3
    Path("weighbridge.toml").rename("other.toml")
    monkeypatch.setenv("WEIGHBRIDGE_CONFIG", "other.toml")
    assert str(parse_run(["--input_files=x"]).home) == "dev-home"


def test_a_flag_takes_the_place_of_what_contradicts_it_in_the_file() -> None:
    options = parse_run(["--env=prod", "--input_files=x"])
    assert (options.input_files, options.input_subscription) == ("x", "")


def test_the_environment_holds_spaces_and_models() -> None:
    found = parse_run(["--env=prod"]).environment
    space = found.spaces["risk"]
    assert str(space.id) == "RISK_SPACE"
    assert str(space.api_key) == "secret projects/p/secrets/key/versions/latest"
    assert space.look_back == timedelta(days=30)
    assert found.models["scores"]["timeout"].value == timedelta(seconds=20)
    assert parse_run(["--input_files=x"]).environment.spaces == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = 2 3", "weighbridge.toml is no TOML: .*line 2"),
        ("wokers = 1", r"weighbridge.toml: wokers is no option or section; did you mean workers\?"),
        ("cancel = true", "weighbridge.toml: cancel is given by hand only, as --cancel; drop it"),
        ("[env.prod]\nyes = true", r"weighbridge.toml \[env.prod\]: yes is given by hand only"),
        (
            "disk_size_gb = 50",
            "disk_size_gb is an option of Apache Beam, which .*: --disk_size_gb=…",
        ),
        (
            "zzz = 1",
            "zzz is no option or section; there is what `weighbridge config show",
        ),
        ("labels = 'a=b'", "labels takes a list, and not text"),
        ("labels = [1]", "labels takes a list, each text, and not a number"),
        ("workers = 'two'", "weighbridge.toml: workers takes a whole number, and not text"),
        ("workers = true", "workers takes a whole number, and not true or false"),
        ("workers = 0", "weighbridge.toml: workers: 0 is not in the range"),
        ("commit_interval = 5", 'commit_interval takes text such as "5m", and not a number'),
        ("commit_interval = '5'", "commit_interval: '5' is no time span; write 30s, 5m"),
        ("no_arize = 'yes'", "no_arize takes true or false, and not text"),
        ("[env]\nprod = 1", r"weighbridge.toml \[env\]: prod is a section, and not a number"),
        ("[env.prod]\ntables = 'ice'", r"\[env.prod\]: tables: 'ice' is not one of"),
        ("[models.scores]\narise = 'off'", r"\[models.scores\]: arise is no setting .* arize\?"),
        ("[models.scores]\narize = 'of'", "arize, which is text: Input should be 'push' or 'off'"),
        ("[models.scores]\ntimeout = 5", 'timeout takes text such as "5s", and not a number'),
        ("[models.scores]\narize_batch_rows = 0", "should be greater than or equal to 1"),
        ("[models.scors]\narize = 'off'", r"no model scors is registered; did you mean scores\?"),
        ("[models.scores]\narize_sample_by = 'group'", "only ranking models have groups"),
        ("[arize.space.x]", r"\[arize\]: space is no section; did you mean spaces\?"),
        ("[arize.spaces.x]\nid = 1", r"\[arize.spaces.x\]: id is no setting of a space"),
        ("[arize.spaces.x]\nlook_back = '2w'", "look_back: '2w' is no time span"),
        ("[arize.spaces.x]\napi_key = {env = 'A', secret = 'b'}", "takes one of env and secret"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(home: Home, text: str, said: str) -> None:
    Path("weighbridge.toml").write_text(text)
    with pytest.raises((ConfigurationError, click.UsageError), match=said) as caught:
        run([*home.arguments("--no_arize"), "--env", "prod" if "env.prod" in text else ""])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'ak-1234'",
        "api_key = {env = 'ak-1234'}",
        "api_key = {secret = 'ak-1234'}",
        "space_id = 'ak-1234'",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(text: str) -> None:
    Path("weighbridge.toml").write_text(f"[arize.spaces.risk]\n{text}\n")
    with pytest.raises(ConfigurationError, match="itself must not|never the value") as caught:
        parse_run(["--input_files=x"])
    assert "ak-1234" not in str(caught.value)


def test_an_unknown_environment_is_said_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--env prdo is not in .*: it has dev, prod"):
        parse_run(["--env=prdo", "--input_files=x"])
    with pytest.raises(ConfigurationError, match="--config other.toml: No such file"):
        parse_run(["--config=other.toml"])
    (folder / "weighbridge.toml").unlink()
    with pytest.raises(ConfigurationError, match="there is no weighbridge.toml in this folder"):
        parse_run(["--env=prod", "--input_files=x"])


_NAMES = st.sampled_from(
    ["workers", "home", "commit_interval", "archive_bytes", "no_arize", "env", "arize", "models"]
    + ["spaces", "x", "scores", "api_key", "space_id", "look_back", "secret", "as_text"]
    + ["arize_sample_rate", "timeout", "arize_space", "owner"]
)
_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(), inner),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_no_value_gives_a_traceback(tree: dict[str, Any]) -> None:
    for table in (tree, {"env": {"x": tree}}, {"models": {"scores": tree}}):
        for spaces in (table, {"env": {"x": {}}, "arize": {"spaces": {"s": tree}}}):
            Path("weighbridge.toml").write_text(_toml(spaces), encoding="utf-8")
            try:
                found = parse_run(["--env=x", "--input_files=x"])
                found.environment.configured(load_extractors("odd"))
            except (ConfigurationError, click.UsageError) as error:
                assert str(error) or error.args


@given(st.binary())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_gives_a_traceback(data: bytes) -> None:
    Path("weighbridge.toml").write_bytes(data)
    try:
        parse_run(["--input_files=x"])
    except (ConfigurationError, click.UsageError) as error:
        assert "weighbridge.toml" in str(error)


def _toml(value: Any) -> str:
    """A table as TOML: one line a key, what is below it inline."""
    return "".join(f"{_quoted(key)} = {_inline(below)}\n" for key, below in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_quoted(key)} = {_inline(below)}" for key, below in value.items())
        return f"{{{', '.join(pairs)}}}"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def _quoted(text: str) -> str:
    escaped = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'


@pytest.fixture
def home(folder: Path) -> Home:
    home = Home(folder)
    home.put(packed("scores", [scored(0.5, 0.25)]), packed("scores-objects", [scored(0.5)]))
    return home


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        yield receiver


def test_each_environment_pushes_what_it_says(home: Home, receiver: ArizeReceiver) -> None:
    toml = f"""
        arize_url = "{receiver.url}"
        extractors_package = "odd"
        [env.dev]
        home = "dev"
        [env.dev.models.scores]
        arize = "off"
        [env.prod]
        home = "prod"
        [env.prod.models.scores]
        arize_batch_rows = 1
    """
    Path("weighbridge.toml").write_text(toml)
    files = f"--input_files={home.input}"
    dev = run([files, "--env=dev"])
    assert (dev.rows, dev.undelivered_rows) == (3, 0)
    assert [upload.model_id for upload in receiver.uploads] == ["scores-objects"]
    prod = run([files, "--env=prod"])
    assert (prod.rows, prod.undelivered_rows) == (3, 0)
    uploads = [(u.model_id, u.table.num_rows) for u in receiver.uploads[1:]]
    assert sorted(uploads) == [("scores", 1), ("scores", 1), ("scores-objects", 1)]


@pytest.mark.slow
def test_tables_are_shown_where_the_file_says(home: Home, folder: Path) -> None:
    home.run()
    (folder / "weighbridge.toml").write_text(f'[env.x]\nhome = "{home.folder}"\n')
    for arguments in (
        ["tables", "show", "scores", "--env=x"],
        ["tables", "--env=x", "show", "scores"],
        ["--env=x", "tables", "show", "scores"],
        ["tables", "--home", str(home.folder), "show", "scores"],
    ):
        status, out, err = call(*arguments, cwd=folder)
        assert (status, err) == (0, "")
        assert "models.scores" in out
    status, _, err = call("tables", "--home=none", "show", "scores", "--env=x", cwd=folder)
    assert status == 2 and "none holds no tables yet" in err


def test_config_show_says_where_each_value_comes_from(folder: Path) -> None:
    status, out, err = call("config", "show", "--env", "prod", cwd=folder, ARIZE_API_KEY="ak-1")
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "weighbridge.toml, environment prod; it also has dev",
        "extractors_package odd weighbridge.toml",
        "workers 3 weighbridge.toml [env.prod]",
        "archive_age 7d default",
        "risk RISK_SPACE secret projects/p/secrets/key/versions/latest 30d "
        "weighbridge.toml [env.prod.arize.spaces.risk]",
        "default ARIZE_SPACE_ID ARIZE_API_KEY 14d default",
        "scores timeout 20s weighbridge.toml [env.prod.models.scores]",
    ):
        assert line in lines
    assert "ak-1" not in out
    status, out, _ = call("config", "show", "actuals", "upload", cwd=folder,
                          WEIGHBRIDGE_DESTINATION="there")  # fmt: skip
    assert "destination there WEIGHBRIDGE_DESTINATION" in " ".join(out.split())


PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
FRAUD = """
from typing import Annotated
from extractors import PredictionId, PredictionScore, Row, extractor

class Scored(Row):
    payment: Annotated[str, PredictionId]
    score: Annotated[float, PredictionScore]

@extractor("payment-fraud", row=Scored, model_type="regression")
def extract(envelope):
    yield envelope.request
"""


def test_the_example_of_the_docs_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text()
    [example] = re.findall(r'^```toml title="weighbridge.toml"\n(.*?)^```$', text, re.M | re.S)
    write_package(folder, "fraud_models", fraud=FRAUD)
    monkeypatch.syspath_prepend(str(folder))
    (folder / "weighbridge.toml").write_text(example)
    dev = parse_run(["--env=dev", "--input_files=x"])
    assert (str(dev.home), dev.no_arize, dev.tables) == ("dev", True, "iceberg")
    prod = parse_run(["--env=prod"])
    assert (prod.interval, prod.dataset) == (300.0, "my-project.weighbridge")
    assert {name: str(space.id) for name, space in prod.environment.spaces.items()} == {
        "": "ARIZE_SPACE_ID",
        "risk": "secret projects/my-project/secrets/arize-risk-space/versions/latest",
    }
    [entry] = prod.environment.configured(load_extractors("fraud_models")).values()
    assert (entry.settings.arize_space, entry.settings.arize_sample_by) == ("risk", "prediction")
    [errors] = re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S)
    for wrong, said in zip(
        (
            example.replace("[env.prod]", "[env.prod]\nwokers = 2"),
            example.replace('"5m"', "5"),
            example.replace("payment-fraud", "payment-frod"),
        ),
        errors.splitlines(),
        strict=True,
    ):
        (folder / "weighbridge.toml").write_text(wrong)
        with pytest.raises(ConfigurationError) as caught:
            parse_run(["--env=prod"]).environment.configured(load_extractors("fraud_models"))
        assert f"Error: {caught.value}" == said
    named = {name.name for name in fields(Space)} - {"name"}
    assert [name for name in named if f"`{name}`" not in text] == []


RANKED = """
from typing import Annotated
from extractors import *
from extractors import ActualLabel, extractor

class Item(Row):
    item: Annotated[str, PredictionId]
    search: Annotated[str, GroupId]
    place: Annotated[int, Rank]

class Click(Row):
    item: Annotated[str, PredictionId]
    clicked: Annotated[float, RelevanceScore]

@extractor("ranked", row=Item, model_type="ranking")
def extract(envelope):
    for item in envelope.request:
        yield Item(**item)

@extractor("ranked", row=Click, kind="actual")
def extract_actual(envelope):
    yield Click(item=envelope.actual, clicked=1.0)
"""


def test_ranking_groups_are_sampled_whole_and_their_actuals_all_sent(
    folder: Path, receiver: ArizeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder, "ranked_models", ranked=RANKED)
    monkeypatch.syspath_prepend(str(folder))
    home = Home(folder, "ranked_models")
    # Each group comes in two envelopes.
    bodies = [
        [{"item": f"{group}-{part}-{i}", "search": f"s{group}", "place": i} for i in (1, 2)]
        for part in range(2)
        for group in range(40)
    ]
    actual = {"request": None, "response": None, "context": None}
    home.put(
        packed("ranked", [{"request": body, "response": 1} for body in bodies]),
        packed("ranked", [{**actual, "request": f"{g}-0-1"} for g in range(40)],
               first=500, kind="actual"),
    )  # fmt: skip
    (folder / "weighbridge.toml").write_text("[models.ranked]\narize_sample_rate = 0.5\n")
    report = run(home.arguments("--arize_url", receiver.url))
    assert (report.rows, report.undelivered_rows) == (200, 0)
    groups: dict[str, int] = defaultdict(int)
    actuals = 0
    for upload in receiver.uploads:
        if "search" not in upload.table.column_names:
            actuals += upload.table.num_rows
            continue
        for search in upload.table["search"].to_pylist():
            groups[search] += 1
    assert set(groups.values()) == {4}
    assert 5 < len(groups) < 35
    assert actuals == 40
