import json
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import pytest

from extractors import (
    Envelope,
    Feature,
    ModelSettings,
    PredictionId,
    PredictionLabel,
    Row,
    Timestamp,
    _template,
    extractor,
    load_extractors,
)
from extractors.testing import GoldenCase, envelope, golden_cases, rows_of
from schemas import (
    ConfigurationError,
    DecodeError,
    ExtractError,
    InvalidExtractorError,
    RowValidationError,
)

ROOT = Path(__file__).parent.parent


class Scored(Row, default_role=Feature):
    case_id: Annotated[str, PredictionId]
    amount: float = 0
    label: Annotated[str, PredictionLabel] = "no"


class Truth(Row):
    case_id: Annotated[str, PredictionId]
    seen_at: Timestamp | None = None


@extractor("testing-objects", row=Scored, model_type="binary")
def as_objects(envelope: Envelope) -> Iterator[Scored]:
    for case in envelope.request:
        yield Scored(**case)


@extractor("testing-dicts", row=Scored, model_type="binary", statuses=None)
@extractor("testing-dicts-too", row=Scored, model_type="untyped")
def as_dicts(envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield from envelope.request


@extractor(
    "testing-dicts",
    row=Truth,
    kind="actual",
    model_type="untyped",
    settings=ModelSettings(timeout=timedelta(seconds=0.2)),
)
def truth(envelope: Envelope) -> Iterator[dict[str, Any]]:
    while envelope.actual == "loop":
        pass
    yield envelope.actual


def undecorated(envelope: Envelope) -> Iterator[Scored]:
    yield Scored(case_id="1")


def test_an_envelope_is_as_the_pipeline_gives_it() -> None:
    captured = envelope(
        request={"a": float("nan")},
        response=b"\x00raw",
        context=[1],
        model_id="m",
        envelope_id="e-9",
        model_version="7",
        status=503,
        latency_us=12,
        event_time=datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2))),
        headers={"X-Tenant": "é"},
        attributes={"zone": "a"},
    )
    assert (captured.model_id, captured.kind, captured.envelope_id) == ("m", "prediction", "e-9")
    assert (captured.model_version, captured.status, captured.latency_us) == ("7", 503, 12)
    assert captured.event_time == datetime(2026, 1, 2, 1, 4, 5, 6, UTC)
    assert captured.event_time == captured.publish_time
    assert (dict(captured.headers), dict(captured.attributes)) == ({"x-tenant": "é"}, {"zone": "a"})
    assert captured.request["a"] != captured.request["a"]
    assert (captured.response_bytes, captured.context) == (b"\x00raw", [1])


def test_an_envelope_of_an_actual_has_its_payload_alone() -> None:
    captured = envelope(actual={"a": 1})
    assert (captured.kind, captured.actual, captured.response_bytes) == ("actual", {"a": 1}, b"")
    assert captured.context == {}


def test_rows_are_what_would_be_written() -> None:
    expected = [Scored(case_id="1", amount=1), Scored(case_id="2", label="yes")]
    request = [{"case_id": "1", "amount": 1}, {"case_id": "2", "label": "yes"}]
    for function in (as_objects, as_dicts):
        rows = rows_of(function, envelope(request=request))
        assert rows == expected
        assert [type(row) for row in rows] == [Scored, Scored]
    assert rows_of(as_objects, envelope(request=[])) == []


def test_dicts_come_back_as_the_row_class_reads_them() -> None:
    [row] = rows_of(truth, envelope(actual={"case_id": "1", "seen_at": "2026-01-02T03:04:05Z"}))
    assert row == Truth(case_id="1", seen_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_every_check_of_the_pipeline_is_made() -> None:
    for function in (as_objects, as_dicts):
        with pytest.raises(RowValidationError, match="column amount: Input should be a valid num"):
            rows_of(function, envelope(request=[{"case_id": "1", "amount": "1"}]))
        with pytest.raises(RowValidationError, match="same prediction id"):
            rows_of(function, envelope(request=[{"case_id": "1"}] * 2))
        with pytest.raises(RowValidationError, match="column label: a class label must not be em"):
            rows_of(
                function,
                envelope(request=[{"case_id": "1", "label": ""}], model_id="testing-dicts"),
            )
    with pytest.raises(DecodeError):
        rows_of(as_objects, envelope(request=b"{"))
    with pytest.raises(ExtractError, match="took longer than 0.2 s"):
        rows_of(truth, envelope(actual="loop"))


def test_a_function_of_many_models_is_tried_as_the_one_of_the_envelope() -> None:
    empty = [{"case_id": "1", "label": ""}]
    assert len(rows_of(as_dicts, envelope(request=empty, model_id="testing-dicts-too"))) == 1
    with pytest.raises(RowValidationError):
        rows_of(as_dicts, envelope(request=empty, model_id="testing-dicts"))


def test_a_status_that_the_extractor_does_not_ask_for_gives_no_rows() -> None:
    request = [{"case_id": "1"}]
    assert rows_of(as_objects, envelope(request=request, status=500)) == []
    assert len(rows_of(as_objects, envelope(request=request, status=204))) == 1
    assert len(rows_of(as_objects, envelope(request=request, status=None))) == 1
    asking = envelope(request=request, status=500, model_id="testing-dicts")
    assert len(rows_of(as_dicts, asking)) == 1


def test_a_function_that_is_not_registered_is_said_to_be() -> None:
    with pytest.raises(ConfigurationError, match="undecorated is not decorated with @extractor"):
        rows_of(undecorated, envelope())
    with pytest.raises(ConfigurationError, match="is not decorated with @extractor"):
        rows_of(lambda envelope: [], envelope())


def test_trying_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in range(5):
        rows_of(as_objects, envelope(request=[]))
    assert threading.active_count() == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "tests" / "golden", tmp_path / "golden")
    return tmp_path / "golden"


def test_golden_cases_are_found_in_order_and_named(folder: Path) -> None:
    (folder / "not-a-case").mkdir()
    names = [case.name for case in golden_cases(folder)]
    assert names == sorted(names)
    assert {"flight-delay/arrived", "late-departures/nulls"} <= set(names)
    assert not [name for name in names if name.startswith("not-a-case")]


def test_a_golden_case_tells_old_from_new(folder: Path) -> None:
    extractors = load_extractors()
    case = GoldenCase("flight-delay", folder / "flight-delay" / "arrived")
    assert case.given(extractors) == case.expected()
    path = case.folder / "envelope.json"
    stored = json.loads(path.read_text())
    stored["actual"]["flight_id"] = "another"
    path.write_text(json.dumps(stored))
    assert case.given(extractors) != case.expected()
    case.write(extractors)
    assert case.given(extractors) == case.expected()
    [row] = case.expected()
    assert (row["flight_id"], row["row_id"]) == ("another", "arrived:0")
    assert not {"extractor_version", "ingest_time"} & set(row)
    (case.folder / "rows.json").unlink()
    assert case.expected() is None


def rewrite(case: GoldenCase, **changes: Any) -> None:
    path = case.folder / "envelope.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_refusal_and_no_rows_are_results_too(folder: Path) -> None:
    extractors = load_extractors()
    case = GoldenCase("flight-delay", folder / "flight-delay" / "ordinary")
    rewrite(case, status=500)
    assert case.given(extractors) == []
    rewrite(case, status=200, response={"delay_minutes": "late"})
    assert case.given(extractors) == {
        "failure": {
            "stage": "validate",
            "message": "column delay_minutes: Input should be a valid number",
        }
    }


def test_the_line_of_a_refusal_is_no_part_of_its_result(folder: Path) -> None:
    case = GoldenCase("flight-delay", folder / "flight-delay" / "ordinary")
    rewrite(case, request={"flight_id": "1"})
    given = case.given(load_extractors())
    assert given == {
        "failure": {"stage": "extract", "message": "raised KeyError 'scheduled_departure'"}
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ('{"reqest": 1}', "reqest is none of request, response, actual, context, model_version"),
        ('{"model_id": "m"}', "model_id is none of request, "),
        ('{"request": 1, "event_time": "yesterday"}', "event_time: give text with an offset"),
        ('{"request": 1, "event_time": 7}', "event_time: give text with an offset"),
        ('{"headers": [1]}', "headers: Input should be a valid dictionary"),
        ('{"headers": {"x-a": 1}}', "headers.x-a: Input should be a valid string"),
        ('{"status": "200"}', "status: Input should be a valid integer"),
    ],
)
def test_a_broken_golden_case_is_named_by_its_file(folder: Path, text: str, words: str) -> None:
    case = GoldenCase("flight-delay", folder / "flight-delay" / "ordinary")
    path = case.folder / "envelope.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        case.given(load_extractors())
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    case.folder.joinpath("rows.json").write_text(text + "x")
    with pytest.raises(ConfigurationError, match="rows.json: "):
        case.expected()


def test_a_golden_case_names_what_differs_and_no_value(folder: Path) -> None:
    extractors = load_extractors()
    case = GoldenCase("flight-delay", folder / "flight-delay" / "ordinary")
    path = case.folder / "rows.json"
    [row] = case.expected()
    assert case.differences(extractors) == []
    for expected, lines in (
        ([{**row, "carrier": "other", "gone": 1}], ["row 0: carrier, gone"]),
        ([row, row], ["rows: 1, and not 2"]),
        ([7], ["row 0: no JSON object in rows.json"]),
        ({"failure": {"stage": "extract", "message": "x"}}, ["rows.json is no list, and rows are"]),
    ):
        path.write_text(json.dumps(expected))
        assert [found[: len(line)] for found, line in zip(case.differences(extractors), lines)] == (
            lines
        )
    path.unlink()
    assert case.differences(extractors) == ["there is no rows.json yet"]
    path.write_text(json.dumps([row]))
    rewrite(case, response={"delay_minutes": "late"})
    assert case.differences(extractors) == [
        "fails at stage validate: column delay_minutes: Input should be a valid number"
    ]
    case.write(extractors)
    assert case.differences(extractors) == []


def test_a_golden_case_without_extractor_says_so(folder: Path) -> None:
    case = GoldenCase("unheard-of", folder / "flight-delay" / "arrived")
    with pytest.raises(ConfigurationError, match="unheard-of/arrived: no extractor for actuals"):
        case.given(load_extractors())


def test_the_template_works_as_it_stands_and_is_no_model() -> None:
    captured = envelope(
        request={"id": "c-1", "amount": 12, "country": "NZ"},
        response={"score": 0.5},
        context={"age_days": 3},
        headers={"X-Channel": "web"},
    )
    assert rows_of(_template.extract, captured) == [
        _template.MyPrediction(
            case_id="c-1",
            amount=12.0,
            country="NZ",
            age_days=3,
            channel="web",
            verdict="yes",
            score=0.5,
        )
    ]
    actual = envelope(actual={"id": "c-1", "verdict": "no"})
    assert rows_of(_template.extract_actual, actual) == [
        _template.MyActual(case_id="c-1", verdict="no")
    ]
    assert "my-model" not in {model_id for model_id, _ in load_extractors()}


TYPED = """
    from collections.abc import Iterator
    from typing import Any

    from extractors import Envelope, Row, extractor
    from extractors.testing import envelope, rows_of


    class Mine(Row):
        amount: float


    @extractor("mine", row=Mine, model_type="untyped")
    def objects(envelope: Envelope) -> Iterator[Mine]:
        yield Mine(amount=1)


    @extractor("mine-too", row=Mine, model_type="untyped")
    def dicts(envelope: Envelope) -> list[dict[str, Any]]:
        return [{"amount": 1}]


    @extractor("mixed", row=Mine, model_type="untyped")
    def mixed(envelope: Envelope) -> Iterator[Mine | dict[str, Any]]:
        yield {"amount": 1}


    reveal_type(objects)
    reveal_type(rows_of(objects, envelope()))
    reveal_type(rows_of(dicts, envelope()))
    reveal_type(rows_of(mixed, envelope()))
    rows_of(objects, envelope())[0].amont
"""


@pytest.mark.slow
def test_types_are_known_to_mypy(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(textwrap.dedent(TYPED))
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache"), "--no-error-summary"]
    done = subprocess.run(
        [*command, *cache, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    # Versions of mypy differ in how they name what is built in.
    text = done.stdout.replace("builtins.", "").replace("collections.abc.", "typing.")
    found = [line.partition(": ")[2] for line in text.splitlines()]
    assert found == [
        'note: Revealed type is "def (envelope: weighbridge.envelope.Envelope) -> '
        'typing.Iterator[typed.Mine]"',
        'note: Revealed type is "list[typed.Mine]"',
        'note: Revealed type is "list[Any]"',
        'note: Revealed type is "list[Any]"',
        'error: "Mine" has no attribute "amont"; maybe "amount"?  [attr-defined]',
    ]


def test_a_broken_row_class_is_said_where_it_is_tried(tmp_path: Path) -> None:
    (tmp_path / "scratch.py").write_text(
        textwrap.dedent("""
            from typing import Any
            from extractors import Envelope, Row, extractor

            class Mine(Row):
                amount: complex

            @extractor("mine", row=Mine, model_type="untyped")
            def objects(envelope: Envelope) -> list[Mine]:
                return []
        """)
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import scratch  # type: ignore[import-not-found]

        with pytest.raises(InvalidExtractorError) as caught:
            rows_of(scratch.objects, envelope())
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("scratch", None)
    place = f"{tmp_path / 'scratch.py'}:8: mine: Mine.amount: "
    assert str(caught.value).startswith(f"{place}no table column for complex; use str, ")
