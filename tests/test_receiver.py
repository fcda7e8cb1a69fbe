import base64
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import requests
from arize import ArizeClient
from arize._generated.protocol.rec import public_pb2 as pb2
from arize.exceptions.auth import AuthenticationError
from arize.exceptions.http import APIError
from arize.ml.types import EmbeddingColumnNames, Environments, ModelTypes, Schema
from forked import call

from pipelines.receiver import ArizeReceiver, Fault

NOW = int(time.time())
COMMAND = Path(sys.executable).with_name("weighbridge")


@pytest.fixture
def receiver() -> Iterator[ArizeReceiver]:
    with ArizeReceiver("k", "s") as receiver:
        yield receiver


def log(
    to: ArizeReceiver | int,
    frame: pd.DataFrame | None = None,
    *,
    api_key: str = "k",
    space_id: str = "s",
    **changes: Any,
) -> requests.Response:
    """Push with the real SDK; by default two regression rows with the version and the id alone."""
    port = to if isinstance(to, int) else to.port
    client = ArizeClient(api_key=api_key, api_host="127.0.0.1", api_scheme="http", api_port=port)
    arguments: dict[str, Any] = {
        "space_id": space_id,
        "model_name": "eta",
        "model_type": ModelTypes.REGRESSION,
        "environment": Environments.PRODUCTION,
        "model_version": "v1",
        "schema": Schema(
            prediction_id_column_name="id",
            timestamp_column_name="at",
            prediction_label_column_name="minutes",
        ),
    }
    if frame is None:
        frame = pd.DataFrame({"id": ["a", "b"], "at": [NOW, NOW], "minutes": [12.5, 30.0]})
    return client.ml.log(dataframe=frame, **(arguments | changes))


def post(receiver: ArizeReceiver, body: bytes, **headers: str) -> requests.Response:
    known = {"authorization": "k", "arize-space-id": "s"}
    return requests.post(f"{receiver.url}/v1/pandas_arrow", body, headers=known | headers)


def encode(table: pa.Table, schema: bytes | None = None, model_id: str = "eta") -> bytes:
    """Make a body as the SDK does; by default its schema names a column "id"."""
    if schema is None:
        message = pb2.Schema()
        message.constants.model_id = model_id
        message.arrow_schema.prediction_id_column_name = "id"
        schema = base64.b64encode(message.SerializeToString())
    table = table.replace_schema_metadata({"arize-schema": schema})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


IDS = pa.table({"id": ["a", "b"]})


def test_a_port_that_is_taken(receiver: ArizeReceiver) -> None:
    port = receiver.url.rpartition(":")[2]
    status, out, err = call("arize", "receiver", "--port", port)
    assert (status, out) == (2, "")
    assert f"--port: {port} is taken" in err
    assert "Traceback" not in err


def test_regression(receiver: ArizeReceiver) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "at": [NOW, NOW - 60, NOW - 3600],
            "minutes": [12.5, 30.0, -1.0],
            "took": [13.0, None, 0.0],
            "distance": [1, 2, 3],
            "city": ["Oslo", None, "Ålesund"],
            "vector": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
            "distance_shap_value": [0.1, 0.2, 0.3],
            "unused": [1, 1, 1],
        }
    )
    schema = Schema(
        prediction_id_column_name="id",
        timestamp_column_name="at",
        prediction_label_column_name="minutes",
        actual_label_column_name="took",
        feature_column_names=["distance"],
        tag_column_names=["city"],
        shap_values_column_names={"distance": "distance_shap_value"},
        embedding_feature_column_names={"route": EmbeddingColumnNames("vector")},
    )
    answer = log(receiver, frame, schema=schema)
    assert answer.json() == {"realTimeIngestionUri": f"{receiver.url}/"}
    assert "content-length" in answer.request.headers  # the receiver reads no chunked bodies
    [upload] = receiver.uploads
    assert (upload.model_id, upload.model_version, upload.space_id) == ("eta", "v1", "s")
    assert (upload.environment, upload.model_type, upload.batch_id) == ("PRODUCTION", "NUMERIC", "")
    assert upload.columns == {
        "prediction_id_column_name": "id",
        "timestamp_column_name": "at",
        "prediction_label_column_name": "minutes",
        "actual_label_column_name": "took",
        "feature_column_names": ["distance"],
        "tag_column_names": ["city"],
        "shap_values_column_names": {"distance": "distance_shap_value"},
        "embedding_feature_column_names_map": {"route": {"vector_column_name": "vector"}},
    }
    expected = pa.Table.from_pandas(frame.drop(columns="unused"), preserve_index=False)
    assert upload.table.select(expected.column_names).equals(expected)


def test_binary_classification(receiver: ArizeReceiver) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b"],
            "at": [NOW, NOW],
            "label": ["fraud", "fine"],
            "score": [0.9, 0.2],
            "truth": ["fine", "fine"],
        }
    )
    schema = Schema(
        prediction_id_column_name="id",
        timestamp_column_name="at",
        prediction_label_column_name="label",
        prediction_score_column_name="score",
        actual_label_column_name="truth",
    )
    log(
        receiver,
        frame,
        model_name="fraud",
        model_type=ModelTypes.BINARY_CLASSIFICATION,
        environment=Environments.VALIDATION,
        batch_id="b7",
        schema=schema,
    )
    [upload] = receiver.uploads
    assert (upload.model_id, upload.model_type) == ("fraud", "SCORE_CATEGORICAL")
    assert (upload.environment, upload.batch_id) == ("VALIDATION", "b7")
    assert upload.columns["prediction_score_column_name"] == "score"
    assert receiver.rows("fraud").select(list(frame)).to_pydict() == frame.to_dict("list")


def test_multi_class(receiver: ArizeReceiver) -> None:
    scores = [
        [{"class_name": "cat", "score": 0.75}, {"class_name": "dog", "score": 0.25}],
        [{"class_name": "cat", "score": 0.5}, {"class_name": "dog", "score": 0.5}],
    ]
    frame = pd.DataFrame({"id": ["a", "b"], "at": [NOW, NOW], "scores": scores})
    schema = Schema(
        prediction_id_column_name="id",
        timestamp_column_name="at",
        prediction_score_column_name="scores",
    )
    log(receiver, frame, model_type=ModelTypes.MULTI_CLASS, schema=schema)
    [upload] = receiver.uploads
    assert upload.model_type == "MULTI_CLASS"
    assert upload.columns["prediction_score_column_name"] == "scores"
    assert upload.table["scores"].to_pylist() == scores


def test_ranking(receiver: ArizeReceiver) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b"],
            "at": [NOW, NOW],
            "query": ["q1", "q1"],
            "rank": [1, 2],
            "clicks": [["click", "save"], ["none"]],
            "gain": [2.0, 0.0],
        }
    )
    schema = Schema(
        prediction_id_column_name="id",
        timestamp_column_name="at",
        prediction_group_id_column_name="query",
        rank_column_name="rank",
        relevance_labels_column_name="clicks",
        relevance_score_column_name="gain",
    )
    log(receiver, frame, model_type=ModelTypes.RANKING, schema=schema)
    [upload] = receiver.uploads
    assert upload.model_type == "RANKING"
    assert upload.columns == {
        "prediction_id_column_name": "id",
        "timestamp_column_name": "at",
        "prediction_group_id_column_name": "query",
        "rank_column_name": "rank",
        "actual_label_column_name": "clicks",
        "actual_score_column_name": "gain",
    }
    assert upload.table.select(list(frame)).to_pydict() == frame.to_dict("list")


def test_actuals_only(receiver: ArizeReceiver) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "took": [0.0, 31.5]})
    schema = Schema(prediction_id_column_name="id", actual_label_column_name="took")
    log(receiver, frame, schema=schema)
    [upload] = receiver.uploads
    assert upload.columns == {
        "prediction_id_column_name": "id",
        "actual_label_column_name": "took",
    }
    assert upload.table.select(list(frame)).to_pydict() == frame.to_dict("list")


def test_rows_promotes_types_and_keeps_models_apart(receiver: ArizeReceiver) -> None:
    for minutes in ([1, 2], [1.5, 2.5]):
        log(receiver, pd.DataFrame({"id": ["a", "b"], "at": [NOW, NOW], "minutes": minutes}))
    log(receiver, model_name="other")
    rows = receiver.rows("eta")
    assert rows["minutes"].to_pylist() == [1.0, 2.0, 1.5, 2.5]
    assert rows.schema.metadata is None
    assert receiver.rows("other").num_rows == 2
    assert receiver.rows("unheard of").num_rows == 0


BOOLEANS = pd.DataFrame({"id": ["a"], "at": [NOW], "minutes": [1.0], "f": [True]})
WITH_FEATURE = Schema(
    prediction_id_column_name="id",
    timestamp_column_name="at",
    prediction_label_column_name="minutes",
    feature_column_names=["f"],
)


@pytest.mark.parametrize("values", [["x"], [1.0], [["x"]]], ids=["text", "number", "list"])
def test_the_type_of_a_column_is_pinned_by_its_first_upload(
    receiver: ArizeReceiver, values: list[Any]
) -> None:
    empty = BOOLEANS.assign(f=[None])
    log(receiver, empty, schema=WITH_FEATURE)  # pins nothing
    log(receiver, BOOLEANS, schema=WITH_FEATURE)
    with pytest.raises(APIError, match="it is .* now, and was boolean") as caught:
        log(receiver, BOOLEANS.assign(f=values), schema=WITH_FEATURE)
    assert caught.value.status_code == 400
    assert len(receiver.uploads) == 2
    log(receiver, BOOLEANS.assign(f=values), schema=WITH_FEATURE, model_name="other")


def test_pinned_types_are_those_of_earlier_receivers_too(tmp_path: Path) -> None:
    with ArizeReceiver("k", "s", folder=tmp_path) as receiver:
        log(receiver, BOOLEANS, schema=WITH_FEATURE)
    again = ArizeReceiver("k", "s", folder=tmp_path)
    with again as receiver, pytest.raises(APIError, match="was boolean"):
        log(receiver, BOOLEANS.assign(f=["x"]), schema=WITH_FEATURE)


def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    with ArizeReceiver("k", "s", max_bytes=3000) as receiver:
        with pytest.raises(APIError) as caught:
            log(receiver, pd.concat([BOOLEANS] * 2000, ignore_index=True), schema=WITH_FEATURE)
        assert caught.value.status_code == 413
        assert receiver.uploads == []
        log(receiver)


def test_columns_that_nothing_names_and_types_that_a_role_does_not_have(
    receiver: ArizeReceiver,
) -> None:
    answer = post(receiver, encode(pa.table({"id": ["a"], "stray": [1]})))
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "columns that arize-schema does not name: ['stray']"},
    )
    answer = post(receiver, encode(pa.table({"id": [True]})))
    assert answer.status_code == 400
    assert "prediction_id_column_name does not take bool" in answer.json()["error"]


def test_concurrent_uploads_all_arrive(tmp_path: Path) -> None:
    with ArizeReceiver(folder=tmp_path) as receiver, ThreadPoolExecutor(16) as pool:
        names = [f"m{number}" for number in range(64)]
        list(pool.map(lambda name: post(receiver, encode(IDS, model_id=name)), names))
        assert receiver.requests == 64
        kept = [upload.model_id for upload in receiver.uploads]
    assert sorted(kept) == sorted(names)
    with ArizeReceiver(folder=tmp_path) as second:
        assert [upload.model_id for upload in second.uploads] == kept


def test_wrong_key_and_wrong_space(receiver: ArizeReceiver) -> None:
    with pytest.raises(AuthenticationError) as key:
        log(receiver, api_key="other")
    with pytest.raises(AuthenticationError) as space:
        log(receiver, space_id="other")
    assert (key.value.status_code, space.value.status_code) == (401, 403)
    assert (receiver.requests, receiver.uploads) == (2, [])


def test_any_key_without_configuration() -> None:
    with ArizeReceiver() as receiver:
        log(receiver, api_key="whatever", space_id="wherever")
        assert receiver.uploads[0].space_id == "wherever"


def test_statuses_in_order(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(status=429, body=b"slow down", headers={"Retry-After": "7"}))
    receiver.fail(Fault(status=500), times=2)
    receiver.fail(Fault(status=401))
    for status, message in ((429, "slow down"), (500, "told to fail"), (500, "told to fail")):
        with pytest.raises(APIError, match=message) as error:
            log(receiver)
        assert error.value.status_code == status
    with pytest.raises(AuthenticationError):
        log(receiver)
    assert (receiver.requests, receiver.uploads) == (4, [])
    assert log(receiver).status_code == 200
    assert len(receiver.uploads) == 1


def test_headers_of_a_fault(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(status=429, headers={"Retry-After": "7"}))
    assert post(receiver, b"").headers["Retry-After"] == "7"


def test_error_after_keeping(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(status=500, keep=True))
    with pytest.raises(APIError, match="told to fail"):
        log(receiver)
    assert len(receiver.uploads) == 1


def test_redirect_is_no_upload(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(status=302, headers={"Location": f"{receiver.url}/"}))
    answer = log(receiver)
    assert answer.status_code == 200
    assert answer.request.method == "GET"
    assert answer.json() == {"uploads": 0}
    assert (receiver.requests, receiver.uploads) == (1, [])


@pytest.mark.parametrize("keep", [False, True])
def test_hang_outlasts_the_client_but_not_close(keep: bool) -> None:
    with ArizeReceiver() as receiver:
        receiver.fail(Fault(hang=3600, keep=keep))
        with pytest.raises(requests.exceptions.ReadTimeout):
            log(receiver, timeout=1.0)
        started = time.monotonic()
    assert time.monotonic() - started < 60
    assert (receiver.requests, len(receiver.uploads)) == (1, int(keep))


def test_short_hang_is_only_slow(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(hang=0.1, keep=True))
    started = time.monotonic()
    assert log(receiver).status_code == 200
    assert time.monotonic() - started >= 0.1
    assert len(receiver.uploads) == 1


@pytest.mark.parametrize("keep", [False, True])
def test_reset(receiver: ArizeReceiver, keep: bool) -> None:
    receiver.fail(Fault(reset=True, keep=keep))
    with pytest.raises(requests.exceptions.ConnectionError, match="reset"):
        log(receiver)
    assert (receiver.requests, len(receiver.uploads)) == (1, int(keep))
    log(receiver)
    assert len(receiver.uploads) == 1 + int(keep)


def test_garbage_answer_passes_the_sdk(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(status=200, body=b"<html>\xff"))
    answer = log(receiver)
    assert (answer.status_code, answer.content) == (200, b"<html>\xff")
    assert receiver.uploads == []


def test_a_fault_that_keeps_still_checks(receiver: ArizeReceiver) -> None:
    receiver.fail(Fault(reset=True, keep=True))
    with pytest.raises(AuthenticationError):
        log(receiver, api_key="other")
    assert receiver.uploads == []


def test_second_receiver_sees_earlier_uploads(tmp_path: Path) -> None:
    folder = tmp_path / "arize"
    with ArizeReceiver(folder=folder) as first:
        log(first, space_id="s1")
        log(first, model_name="other", model_version="v2")
    (folder / "9.tmp").write_bytes(b"torn")
    (folder / ".9.arrow").write_bytes(b"hidden")
    with ArizeReceiver(folder=folder) as second:
        assert second.uploads == first.uploads
        log(second, model_name="third")
    assert [upload.space_id for upload in second.uploads] == ["s1", "s", "s"]
    with ArizeReceiver(folder=folder) as third:
        assert [upload.model_id for upload in third.uploads] == ["eta", "other", "third"]
        assert third.rows("eta").select(["id", "minutes"]).to_pydict() == {
            "id": ["a", "b"],
            "minutes": [12.5, 30.0],
        }


def test_kept_before_the_answer(tmp_path: Path) -> None:
    with ArizeReceiver(folder=tmp_path) as receiver:
        receiver.fail(Fault(reset=True, keep=True))
        with pytest.raises(requests.exceptions.ConnectionError):
            log(receiver)
        with ArizeReceiver(folder=tmp_path) as second:
            assert second.uploads == receiver.uploads
            assert len(second.uploads) == 1


def test_clock_set_back_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ArizeReceiver(folder=tmp_path) as first:
        post(first, encode(IDS, model_id="first"))
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    with ArizeReceiver(folder=tmp_path) as second:
        post(second, encode(IDS, model_id="second"))
    with ArizeReceiver(folder=tmp_path) as third:
        assert [upload.model_id for upload in third.uploads] == ["first", "second"]


def test_damaged_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "1-a.arrow").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"1-a\.arrow is not an upload"):
        ArizeReceiver(folder=tmp_path)


def test_a_folder_that_cannot_be_written_is_a_server_error(tmp_path: Path) -> None:
    folder = tmp_path / "arize"
    with ArizeReceiver(folder=folder) as receiver:
        folder.write_text("a file where the folder should be")
        with pytest.raises(APIError, match="cannot keep") as error:
            log(receiver)
        assert error.value.status_code == 500
        assert receiver.uploads == []


def bodies() -> Iterator[Any]:
    chaos = random.Random(7)
    for size in (0, 3, 4, 100, 10_000):
        yield pytest.param(chaos.randbytes(size), "", id=f"random-{size}")
    good = encode(IDS)
    yield pytest.param(good[: len(good) // 2], "", id="torn")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, IDS.schema) as writer:
        writer.write_table(IDS)
    yield pytest.param(sink.getvalue().to_pybytes(), "no arize-schema", id="no-schema")
    yield pytest.param(encode(IDS, b"%%%"), "base64", id="not-base64")
    yield pytest.param(encode(IDS, base64.b64encode(b"\xff" * 9)), "(?i)pars", id="not-protobuf")
    yield pytest.param(encode(IDS, b""), "no arrow_schema", id="empty-protobuf")
    yield pytest.param(encode(IDS, model_id=""), "no model_id", id="no-model")
    yield pytest.param(encode(pa.table({"x": [1]})), r"missing: \['id'\]", id="missing-column")
    twice = pa.Table.from_arrays([IDS["id"], IDS["id"]], ["id", "id"])
    yield pytest.param(encode(twice), "not unique", id="duplicate-column")
    bad_text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    )
    yield pytest.param(encode(pa.table({"id": bad_text})), "UTF8", id="not-utf8")


@pytest.mark.parametrize(("body", "reason"), list(bodies()))
def test_malformed_bodies(tmp_path: Path, body: bytes, reason: str) -> None:
    with ArizeReceiver("k", "s", folder=tmp_path) as receiver:
        answer = post(receiver, body)
        assert answer.status_code == 400
        assert re.search(reason, answer.json()["error"])
        assert receiver.uploads == []
    assert list(tmp_path.iterdir()) == []


def test_every_torn_or_flipped_body_is_refused_or_whole(receiver: ArizeReceiver) -> None:
    good = encode(IDS)
    chaos = random.Random(11)
    statuses = set()
    for _ in range(300):
        body = bytearray(good[: chaos.choice([len(good), chaos.randrange(len(good))])])
        for _ in range(chaos.randrange(4)):
            if body:
                body[chaos.randrange(len(body))] = chaos.randrange(256)
        statuses.add(post(receiver, bytes(body), **{"number-of-rows": "2"}).status_code)
    assert statuses == {200, 400}
    assert all(upload.table.num_rows == 2 for upload in receiver.uploads)


def test_number_of_rows_must_match(receiver: ArizeReceiver) -> None:
    answer = post(receiver, encode(IDS), **{"number-of-rows": "3"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "number-of-rows is 3, the table has 2"}
    assert receiver.uploads == []


def test_chunked_and_short_bodies(receiver: ArizeReceiver) -> None:
    chunked = requests.post(f"{receiver.url}/v1/pandas_arrow", data=iter([encode(IDS)]))
    assert chunked.status_code == 400
    assert "content-length" in chunked.json()["error"]
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port)
    connection.putrequest("POST", "/v1/pandas_arrow")
    connection.putheader("content-length", "100")
    connection.endheaders(b"half")
    assert connection.sock is not None
    connection.sock.shutdown(1)
    short = connection.getresponse()
    assert short.status == 400
    assert "shorter" in json.loads(short.read())["error"]
    assert receiver.uploads == []


def test_unknown_paths(receiver: ArizeReceiver) -> None:
    assert requests.post(f"{receiver.url}/v1/log", data=b"{}").status_code == 404
    assert requests.get(f"{receiver.url}/v1/pandas_arrow").status_code == 404
    assert receiver.requests == 0


def test_logs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with ArizeReceiver("k") as receiver:
        receiver.fail(Fault(reset=True))
        with pytest.raises(requests.exceptions.ConnectionError):
            post(receiver, b"secret")
        post(receiver, b"secret")
        post(receiver, encode(IDS))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_runs_in_the_foreground(tmp_path: Path, number: signal.Signals) -> None:
    command = [str(COMMAND), "arize", "receiver", "--folder", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--api_key", "k"],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address, flag, variables = (process.stdout.readline() for _ in range(3))
        url = address.split()[-1]
        log(int(url.rsplit(":", 1)[1]))
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    assert f"--arize_url {url}" in flag
    assert "ARIZE_API_HOST=127.0.0.1" in variables
    with ArizeReceiver(folder=tmp_path) as receiver:
        assert receiver.rows("eta")["id"].to_pylist() == ["a", "b"]
