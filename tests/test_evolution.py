"""Tables follow row classes where old rows can, and say what to do where they cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, NestedField, StringType, TimestamptzType
from support import Home, environment, packed, plain, scored, untyped, write_package

from extractors import Extractor, Feature, ModelSettings, Row, load_extractors
from pipelines import arize
from pipelines.cli import main
from pipelines.evolution import changes
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.tables import Tables
from schemas import ConfigurationError

BASE = [
    ("envelope_id", pa.string()),
    ("row_id", pa.string()),
    ("event_time", pa.timestamp("us", "UTC")),
]
NAME = "models.m"


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([*BASE, *columns.items()])


def types(tables: Tables, name: str = NAME) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in tables.load(name).schema().fields}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    tables = Tables(tmp_path / "home")
    tables.prepare([])
    return tables


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"evolved_{tmp_path.name}".replace("-", "_")
    yield name
    for module in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[module]


class M(Row):
    a: int


def extractor(row: type[Row] = M, **more: Any) -> Extractor:
    def function(envelope: Any) -> Any:
        yield from ()

    given = {"model_type": "binary", "settings": ModelSettings(), "statuses": None, **more}
    return Extractor("m", "prediction", row, function=function, **given)


def add(tables: Tables, columns: pa.Schema, *rows: dict[str, Any], key: str = "e") -> None:
    stamped = [
        {"envelope_id": f"{key}{i}", "row_id": f"{key}{i}:0", "event_time": 0, **row}
        for i, row in enumerate(rows)
    ]
    written = tables.write_files(NAME, pa.Table.from_pylist(stamped, schema=columns))
    tables.commit(NAME, written.files, Outbox(None))


def stored(tables: Tables, *columns: str) -> list[dict[str, Any]]:
    rows = tables.load(NAME).scan(selected_fields=("row_id", *columns)).to_arrow()
    return [
        {name: row[name] for name in columns}
        for row in sorted(rows.to_pylist(), key=lambda row: row["row_id"])
    ]


STRUCT = pa.struct([("x", pa.int64())])
WIDER_STRUCT = pa.struct([("x", pa.int64()), ("y", pa.string())])


@pytest.mark.parametrize(
    ("before", "after", "said", "old", "new"),
    [
        (None, pa.string(), "added a", None, "new"),
        (None, pa.list_(pa.string()), "added a", None, ["new"]),
        (pa.int32(), pa.int64(), "widened a from int32 to int64", 7, 1 << 40),
        (pa.float32(), pa.float64(), "widened a from float to double", 0.5, 1e300),
        (STRUCT, WIDER_STRUCT, "added a.y", {"x": 1}, {"x": 2, "y": "z"}),
        (pa.list_(STRUCT), pa.list_(WIDER_STRUCT), "added a.y", [{"x": 1}], [{"x": 2, "y": "z"}]),
        (
            pa.list_(pa.int32()),
            pa.list_(pa.int64()),
            "widened a from list<item: int32> to list<item: int64>",
            [7],
            [1 << 40],
        ),
        (
            pa.map_(pa.string(), pa.int32()),
            pa.map_(pa.string(), pa.int64()),
            "widened a.value from int32 to int64",
            [("k", 1)],
            [("k", 1 << 40)],
        ),
    ],
    ids=str,
)
def test_what_old_rows_can_follow_is_applied_and_said(
    tables: Tables, before: Any, after: Any, said: str, old: Any, new: Any
) -> None:
    earlier = schema() if before is None else schema(a=before)
    assert tables._prepare(NAME, earlier) == f"created table {NAME}"
    add(tables, earlier, {} if before is None else {"a": old}, key="d")
    line = tables._prepare(NAME, schema(a=after))
    assert line == f"changed table {NAME}: {said}"
    assert tables._prepare(NAME, schema(a=after)) == ""
    add(tables, schema(a=after), {"a": new})
    first, second = stored(tables, "a")
    if said.startswith("added a.y"):
        padded = {"x": 1, "y": None}
        assert first["a"] == ([padded] if pa.types.is_list(after) else padded)
    else:
        assert first["a"] == old
    assert second["a"] == new


def test_several_changes_are_one_line(tables: Tables) -> None:
    tables._prepare(NAME, schema(a=pa.int32(), b=STRUCT))
    line = tables._prepare(NAME, schema(a=pa.int64(), b=WIDER_STRUCT, c=pa.string()))
    assert line == f"changed table {NAME}: widened a from int32 to int64, added b.y, added c"


@pytest.mark.parametrize(
    ("before", "after", "column"),
    [
        (pa.string(), pa.int64(), "a"),
        (pa.int64(), pa.string(), "a"),
        (pa.int64(), pa.int32(), "a"),
        (pa.float64(), pa.float32(), "a"),
        (pa.float64(), pa.int64(), "a"),
        (pa.int64(), pa.float64(), "a"),
        (pa.int32(), pa.float64(), "a"),
        (pa.string(), pa.binary(), "a"),
        (pa.int64(), pa.list_(pa.int64()), "a"),
        (pa.list_(pa.int64()), pa.list_(pa.string()), "a"),
        (STRUCT, pa.struct([("x", pa.string())]), "a.x"),
        (pa.list_(STRUCT), pa.list_(pa.struct([("x", pa.string())])), "a.x"),
        (STRUCT, pa.int64(), "a"),
    ],
    ids=str,
)
def test_what_old_rows_cannot_follow_is_refused_with_the_remedy(
    tables: Tables, before: pa.DataType, after: pa.DataType, column: str
) -> None:
    tables._prepare(NAME, schema(a=before))
    with pytest.raises(ConfigurationError) as error:
        tables._prepare(NAME, schema(a=after, b=pa.string()), extractor())
    text = str(error.value)
    assert text.startswith(f"table models.m: column {column} is ")
    assert "add a column of another name, or begin a new table with table_version=2" in text
    assert "b" not in types(tables)  # nothing of it is applied
    assert tables._prepare(NAME, schema(a=before)) == ""


class Asked(Row, default_role=Feature):
    a: int


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (extractor(Asked), True),
        (extractor(M), False),
        (extractor(Asked, model_type="untyped"), False),
        (extractor(Asked, settings=ModelSettings(arize="off")), False),
    ],
)
def test_a_feature_must_get_another_name_in_arize_too(
    tables: Tables, found: Extractor, told: bool
) -> None:
    tables._prepare(NAME, schema(a=pa.string()))
    with pytest.raises(ConfigurationError) as error:
        tables._prepare(NAME, schema(a=pa.int64()), found)
    assert ("Arize keeps the type of a feature, so rename it, too" in str(error.value)) is told


def made_elsewhere(tables: Tables, *fields: NestedField) -> None:
    time = NestedField(1, "event_time", TimestamptzType(), required=True)
    tables.catalog.create_table(NAME, Schema(time, *fields))


def test_a_required_column_that_we_do_not_have_is_refused(tables: Tables) -> None:
    made_elsewhere(tables, NestedField(2, "owner", StringType(), required=True))
    with pytest.raises(ConfigurationError, match="owner is required there.*table_version=2"):
        tables._prepare(NAME, schema(a=pa.int64()), extractor())


def test_a_required_column_that_we_have_may_be_null_from_then_on(tables: Tables) -> None:
    made_elsewhere(tables, NestedField(2, "a", IntegerType(), required=True))
    line = tables._prepare(NAME, schema(a=pa.int64()), extractor())
    assert "event_time may be null now" in line
    assert "a may be null now, widened a from int32 to int64" in line
    assert not any(field.required for field in tables.load(NAME).schema().fields)
    assert tables._prepare(NAME, schema(a=pa.int64()), extractor()) == ""


def test_columns_that_we_do_not_know_are_left_alone_and_rows_keep_flowing(tables: Tables) -> None:
    whole = schema(a=pa.int64(), theirs=pa.string())
    tables._prepare(NAME, whole)
    add(tables, whole, {"a": 1, "theirs": "x"}, key="d")
    assert tables._prepare(NAME, schema(a=pa.int64())) == ""
    add(tables, schema(a=pa.int64()), {"a": 2})
    assert stored(tables, "a", "theirs") == [{"a": 1, "theirs": "x"}, {"a": 2, "theirs": None}]


def test_a_worker_with_the_older_row_class_goes_on_after_evolution(tables: Tables) -> None:
    older, newer = schema(a=pa.int32()), schema(a=pa.int64(), b=pa.string())
    tables._prepare(NAME, older)
    stamped = [{"envelope_id": "w", "row_id": "w:0", "event_time": 0, "a": 1}]
    held = tables.write_files(NAME, pa.Table.from_pylist(stamped, schema=older))
    tables._prepare(NAME, newer)
    tables.commit(NAME, held.files, Outbox(None))  # written before, committed after
    add(tables, older, {"a": 2}, key="x")
    add(tables, newer, {"a": 1 << 40, "b": "y"}, key="y")
    assert stored(tables, "a", "b") == [
        {"a": 1, "b": None},
        {"a": 2, "b": None},
        {"a": 1 << 40, "b": "y"},
    ]


SCALARS = st.sampled_from(
    [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.bool_(), pa.date32()]
)
TYPES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{i}", kind) for i, kind in enumerate(kinds)])
        ),
    ),
    max_leaves=4,
)


@st.composite
def evolved(draw: st.DrawFn, kind: pa.DataType) -> pa.DataType:
    """A type that came of another one, mostly by changes that are allowed."""
    change = draw(st.sampled_from(["keep", "keep", "widen", "widen", "replace"]))
    if change == "replace":
        return draw(TYPES)
    if pa.types.is_struct(kind):
        fields = [(item.name, draw(evolved(item.type))) for item in kind]
        more = [("more", draw(TYPES))] if change == "widen" else []
        return pa.struct([*fields, *more])
    if pa.types.is_list(kind):
        return pa.list_(draw(evolved(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, draw(evolved(kind.item_type)))
    wider = {pa.int32(): pa.int64(), pa.float32(): pa.float64()}
    return wider.get(kind, kind) if change == "widen" else kind


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_allowed_iceberg_does_and_then_nothing_is_left(
    tables: Tables, data: st.DataObject
) -> None:
    before = data.draw(TYPES)
    after = data.draw(evolved(before))
    name = f"models.t{len(tables.names())}"
    tables._prepare(name, schema(a=before))
    found = changes(schema(a=before), schema(a=after))
    if all(change.allowed for change in found):
        line = tables._prepare(name, schema(a=after), extractor())
        assert line == (f"changed table {name}: {', '.join(map(str, found))}" if found else "")
        assert tables._prepare(name, schema(a=after), extractor()) == ""
    else:
        with pytest.raises(ConfigurationError, match="table_version=2"):
            tables._prepare(name, schema(a=after), extractor())
        assert tables._prepare(name, schema(a=before), extractor()) == ""


LAUNCHER = """
import sys
from pathlib import Path
import pyarrow as pa
from pipelines.tables import Tables
home, own = sys.argv[1:]
base = [("envelope_id", pa.string()), ("row_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC"))]
tables = Tables(Path(home))
tables.names()
print("ready", flush=True)
sys.stdin.readline()
columns = base
for i in range(8):
    columns = [*columns, (f"both_{i}", pa.string()), (f"{own}_{i}", pa.int64())]
    tables._prepare("models.m", pa.schema(columns))
"""


def test_launchers_that_evolve_a_table_at_once_both_succeed(tables: Tables) -> None:
    tables._prepare(NAME, schema())
    launchers = [
        subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(tables.home), own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in ("one", "two")
    ]
    for process in launchers:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in launchers:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in launchers] == [0, 0]
    wanted = {f"{who}_{i}" for who in ("both", "one", "two") for i in range(8)}
    assert wanted <= set(types(tables))


CHANGED = untyped("int", "number")


def run_with(home: Home, folder: Path, package: str, text: str, number: Any, key: str) -> Any:
    write_package(folder, package, numbers=text)
    home.package = package
    body = {"request": {"number": number}, "response": {}}
    path = home.put(plain("number", body, message_id=key), name=key)
    return home.run(files=str(path))


def versioned(text: str, version: int) -> str:
    return text.replace('model_type="untyped"', f'model_type="untyped", table_version={version}')


def test_a_new_version_has_a_table_of_its_own(
    tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    run_with(home, tmp_path, f"{package}_1", CHANGED, 7, "a")
    changed = untyped("str", "number")
    with pytest.raises(ConfigurationError, match="column number is int64, .*table_version=2"):
        run_with(home, tmp_path, f"{package}_2", changed, "seven", "b")
    text = versioned(changed, 2)
    report = run_with(home, tmp_path, f"{package}_3", text, "seven", "b")
    assert [(table.table, table.rows) for table in report.tables] == [("number_v2", 1)]
    assert [row["number"] for row in home.rows("number")] == [7]
    assert [row["number"] for row in home.rows("number_v2")] == ["seven"]
    [found] = load_extractors(f"{package}_3").values()
    assert found.tables == ["number", "number_v2"]


def test_versions_of_actuals_are_their_own(tmp_path: Path, package: str) -> None:
    text = (Path(__file__).parent / "packages/odd/scores.py").read_text()
    write_package(
        tmp_path,
        package,
        scores=text.replace(', kind="actual"', ', kind="actual", table_version=3'),
    )
    found = load_extractors(package)
    assert found["scores", "prediction"].tables == ["scores"]
    assert found["scores", "actual"].tables == [
        "scores_actuals",
        "scores_actuals_v2",
        "scores_actuals_v3",
    ]


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "True", "'2'", "100"])
def test_a_version_is_a_small_whole_number(tmp_path: Path, package: str, version: str) -> None:
    text = CHANGED.replace('"untyped"', f'"untyped", table_version={version}')
    write_package(tmp_path, package, numbers=text)
    with pytest.raises(ConfigurationError, match="table_version= takes a whole number from 1 to"):
        load_extractors(package)


def test_a_model_is_not_taken_for_the_version_of_another(tmp_path: Path, package: str) -> None:
    home = Home(tmp_path)
    other = CHANGED.replace('"number"', '"number-v2"')
    write_package(tmp_path, f"{package}_1", numbers=other)
    home.package = f"{package}_1"
    home.put(plain("number-v2", {"request": {"number": 1}, "response": {}}, message_id="o"))
    home.run()
    with pytest.raises(ConfigurationError) as error:
        run_with(home, tmp_path, f"{package}_2", versioned(CHANGED, 2), 7, "a")
    text = str(error.value)
    assert "table models.number_v2 holds rows of the model number-v2" in text
    assert "give number table_version=3" in text


def test_what_the_old_table_still_owes_arize_is_delivered(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arize, "BACKOFF_SECONDS", 0.01)
    text = (Path(__file__).parent / "packages/odd/scores.py").read_text()
    write_package(tmp_path, f"{package}_1", scores=text)
    text = text.replace(
        "channel: Annotated[str | None, Tag]", "channel: Annotated[int | None, Tag]"
    )
    text = text.replace('envelope.headers.get("x-channel")', "7")
    text = text.replace(
        'row=Scored, model_type="binary")', 'row=Scored, model_type="binary", table_version=2)'
    )
    write_package(tmp_path, f"{package}_2", scores=text)
    home = Home(tmp_path, f"{package}_1")
    old = home.put(
        packed("scores", [scored(0.5, prefix="a")], headers=[b'{"x-channel": "web"}']),
        packed("scores", [scored(0.5, prefix="b")], headers=[b'{"x-channel": "3"}'], first=1),
        name="old",
    )
    new = home.put(packed("scores", [scored(0.5, prefix="c")], first=2), name="new")
    with environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space"):
        owing = home.run("--arize_url", "http://127.0.0.1:9", files=str(old))
        assert owing.undelivered_rows == 2
        home.package = f"{package}_2"
        with ArizeReceiver("key", "space") as receiver:
            paid = home.run("--arize_url", receiver.url, files=str(new))
    assert paid.undelivered_rows == 0
    rows = [row for upload in receiver.uploads for row in upload.table.to_pylist()]
    assert sorted((row["prediction_id"], row["channel"]) for row in rows) == [
        ("a-0", None),
        ("b-0", 3),
        ("c-0", 7),
    ]
    assert (len(home.rows("scores")), len(home.rows("scores_v2"))) == (2, 1)


def test_commands_name_tables_with_their_version(
    tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    run_with(home, tmp_path, f"{package}_1", CHANGED, 7, "a")
    run_with(home, tmp_path, f"{package}_2", versioned(CHANGED, 2), 8, "b")
    capsys.readouterr()
    own = ["--extractors_package", f"{package}_2"]
    for command in (["models", *own], ["tables", "--home", str(home.folder), *own]):
        with pytest.raises(SystemExit):
            main(command)
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "number (prediction) -> models.number_v2, table only: untyped" in told
    assert [line for line in told if line.startswith("models.")] == [
        "models.number number 1 1 1 1",
        "models.number_v2 number 1 1 1 1",
    ]
