import asyncio
import inspect
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conversation import (
    GONE,
    Conversation,
    Recorder,
    answering,
    body,
    chunk,
    scope,
    start,
)

from weighbridge import CaptureMiddleware, attach, describe, log
from weighbridge.model_of import INFERENCE_PATHS, Model, from_header, from_path
from weighbridge.wire import CUT_REQUEST, CUT_RESPONSE

JSON = (b"content-type", b"application/json")
ANSWER = (start(200, JSON), chunk(b"out"))


@pytest.fixture(autouse=True)
def log_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each test sees its own lines, although there is one a minute only."""
    monkeypatch.setattr(log, "_logged", {})
    caplog.set_level(logging.WARNING, "weighbridge")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, max_body_bytes=1000)


def test_an_exchange_becomes_an_envelope(recorder: Recorder) -> None:
    app = CaptureMiddleware(
        answering(
            start(201, (b"Content-Type", b"text/plain"), (b"content-encoding", b"gzip")),
            chunk(b"o", more=True),
            chunk(b"u", more=True),
            chunk(b"t"),
        ),
        recorder.publisher,
    )
    headers = [
        (b"content-type", b"application/x-ndjson"),
        (b"content-encoding", b"br"),
        (b"x-request-id", b"r-\xe9"),
        (b"authorization", b"secret"),
    ]
    held = Conversation([body(b"i", more=True), body(b"n")]).hold(
        app, scope("/v2/models/m/versions/3/infer", headers=headers)
    )
    assert held.raised is None
    envelope = recorder.envelope()
    assert dict(held.sent[0]["headers"])[b"x-envelope-id"] == envelope["envelope_id"].encode()
    assert (envelope["model_id"], envelope["model_version"]) == ("m", "3")
    assert (envelope["request"], envelope["response"]) == (b"in", b"out")
    assert (envelope["request_type"], envelope["request_encoding"]) == (
        "application/x-ndjson",
        "br",
    )
    assert (envelope["response_type"], envelope["response_encoding"]) == ("text/plain", "gzip")
    assert (envelope["status"], envelope["cut"], envelope["context"]) == (201, 0, None)
    assert envelope["kind"] == "prediction"
    assert envelope["attributes"] == {"x-request-id": "r-é"}
    assert "authorization" not in envelope["headers"]
    assert 0 <= envelope["latency_us"] < 10_000_000


def test_the_path_needs_no_setting_and_other_paths_are_left_alone(recorder: Recorder) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher)
    for path in ("/v1/models/a:predict", "/v2/models/b/infer", "/health", "/v1/models/a"):
        held = Conversation().hold(app, scope(path))
        captured = "predict" in path or "infer" in path
        assert (len(held.sent[0]["headers"]) == 2) == captured
    assert [one["model_id"] for one in recorder.envelopes()] == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": "m"}, ("m", "")),
        ({"model": "m", "model_version": "2"}, ("m", "2")),
        ({"model": from_header("x-model-id")}, ("from-header", "")),
        ({"model": from_path("/{x}/models/{model}:predict")}, ("m", "")),
        ({"model": lambda scope: Model("a", "b"), "model_version": "2"}, ("a", "b")),
        ({"model": "m", "model_version": from_header("x-model-id")}, ("m", "from-header")),
        ({"model": "m", "model_version": from_header("x-none")}, ("m", "")),
        ({"model": "My.Model"}, ("my-model", "")),
    ],
)
def test_who_says_which_model(
    recorder: Recorder, settings: dict[str, Any], named: tuple[str, str]
) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher, **settings)
    Conversation().hold(app, scope(headers=[(b"x-model-id", b"from-header")]))
    envelope = recorder.envelope()
    assert (envelope["model_id"], envelope["model_version"]) == named
    renamed = {"model-name": "My.Model"} if named[0] == "my-model" else {}
    assert envelope["attributes"] == renamed


@pytest.mark.parametrize("model", [from_header("x-none"), lambda scope: None])
def test_no_model_nothing_captured(recorder: Recorder, model: Any) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher, model=model)
    held = Conversation().hold(app, scope())
    assert tuple(held.sent) == ANSWER
    assert recorder.envelopes() == []


def test_methods(recorder: Recorder) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher, model="m")
    methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "post", "Ä"]
    for method in methods:
        Conversation([body(method.encode())]).hold(app, scope(method=method))
    only = CaptureMiddleware(answering(*ANSWER), recorder.publisher, model="m", methods=["get"])
    for method in ("GET", "POST"):
        Conversation([body(b"only " + method.encode())]).hold(only, scope(method=method))
    found = [one["request"] for one in recorder.envelopes()]
    assert found == [b"POST", b"PUT", b"PATCH", b"only GET"]


@pytest.mark.parametrize("kind", ["websocket", "unheard-of"])
def test_what_is_no_http_goes_by(recorder: Recorder, kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send])

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    of = {"type": kind, "method": "POST", "path": "/v1/models/m:predict", "headers": []}
    asyncio.run(CaptureMiddleware(app, recorder.publisher, model="m")(of, receive, send))
    assert seen[0] is of and seen[1] is receive and seen[2] is send
    assert recorder.envelopes() == []


@pytest.mark.parametrize("close_timeout", [5.0, None])
@pytest.mark.parametrize("end", ["complete", "failed"])
def test_the_publisher_is_closed_when_the_app_has_shut_down(
    recorder: Recorder, end: str, close_timeout: float | None
) -> None:
    steps = ["startup.complete", f"shutdown.{end}"]
    messages = [{"type": f"lifespan.{step}"} for step in steps]
    published: list[int] = []

    def sent(message: Any) -> None:
        published.append(recorder.publisher.stats()["published"])

    recorder.publisher.capture("m", b"1", b"2")
    app = CaptureMiddleware(
        answering(*messages), recorder.publisher, model="m", close_timeout=close_timeout
    )
    of = {"type": "lifespan", "state": {}}
    held = Conversation([{"type": "lifespan.startup"}], sent).hold(app, of)
    assert (held.raised, published) == (None, [0, 0 if close_timeout is None else 1])
    assert [one is other for one, other in zip(held.sent, messages, strict=True)] == [True, True]


@pytest.mark.parametrize(("name", "header"), [("x-envelope-id", None), ("X-Id", "X-Id")])
def test_the_header_has_the_name_that_is_wanted(
    recorder: Recorder, name: str, header: str | None
) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher, id_header=header)
    held = Conversation().hold(app, scope())
    envelope_id = recorder.envelope()["envelope_id"].encode()
    if header is None:
        assert held.sent[0] is ANSWER[0]
    else:
        assert held.sent[0]["headers"] == [JSON, (b"x-id", envelope_id)]


def test_an_id_that_the_app_gives_stays(recorder: Recorder) -> None:
    first = start(200, (b"X-Envelope-Id", b"own"))
    held = Conversation().hold(
        CaptureMiddleware(answering(first, chunk()), recorder.publisher), scope()
    )
    assert held.sent[0] is first


def test_headers_that_can_be_read_once_are_left_to_the_server(recorder: Recorder) -> None:
    first = {**start(), "headers": iter([JSON])}
    held = Conversation().hold(
        CaptureMiddleware(answering(first, chunk(b"out")), recorder.publisher), scope()
    )
    assert held.sent[0] is first
    assert list(held.sent[0]["headers"]) == [JSON]
    assert recorder.envelope()["response"] == b"out"


def test_headers_are_those_that_came(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].clear()
        await answering(*ANSWER)(scope, receive, send)

    of = scope(headers=[(b"x-request-id", b"7")])
    Conversation().hold(CaptureMiddleware(app, recorder.publisher), of)
    assert of["headers"] == []
    assert recorder.envelope()["attributes"] == {"x-request-id": "7"}


@pytest.mark.parametrize("name", ["", "a b", "a\r\nb", "é"])
def test_what_is_no_header(recorder: Recorder, name: str) -> None:
    with pytest.raises(ValueError, match="^id_header: .* is no name of a header$"):
        CaptureMiddleware(answering(), recorder.publisher, id_header=name)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"publisher": "captured"}, "publisher: give an EnvelopePublisher"),
        ({"model": 5}, "model: give a model id, or a function"),
        ({"methods": "POST"}, "methods: give a list of them"),
    ],
)
def test_what_would_capture_nothing_is_refused(
    recorder: Recorder, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        CaptureMiddleware(answering(), **{"publisher": recorder.publisher, **wrong})


@pytest.mark.parametrize(("size", "cut"), [(1000, 0), (1001, CUT_REQUEST | CUT_RESPONSE)])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_no_more_than_the_limit_is_kept(
    recorder: Recorder, size: int, cut: int, pieces: int
) -> None:
    data = (bytes(range(256)) * 4)[:size]
    step = -(-size // pieces)
    parts = [data[i : i + step] for i in range(0, size, step)]
    last = [False] * (len(parts) - 1) + [True]
    app = CaptureMiddleware(
        answering(start(), *(chunk(part, more=not end) for part, end in zip(parts, last))),
        recorder.publisher,
    )
    Conversation([body(part, more=not end) for part, end in zip(parts, last)]).hold(app, scope())
    envelope = recorder.envelope()
    assert (envelope["request"], envelope["response"]) == (data[:1000], data[:1000])
    assert envelope["cut"] == cut


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_chunks_that_are_no_bytes_are_copied(
    recorder: Recorder, kind: Callable[[bytes], Any]
) -> None:
    buffer = bytearray(b"before")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start())
        await send(chunk(kind(buffer)))  # type: ignore[arg-type]
        buffer[:] = b"after!"

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert recorder.envelope()["response"] == b"before"


class Broken(Exception):
    pass


async def broken(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise Broken("a payload")


async def broken_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(start())
    await send(chunk(b"ou", more=True))
    raise Broken


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await receive()


@pytest.mark.parametrize(
    ("app", "response", "cut", "attributes"),
    [
        (broken, None, 0, {"error": "Broken"}),
        (broken_in_the_middle, b"ou", CUT_RESPONSE, {"error": "Broken"}),
        (silent, None, 0, {}),
    ],
)
def test_an_app_that_fails(
    recorder: Recorder, app: Any, response: bytes | None, cut: int, attributes: dict[str, str]
) -> None:
    held = Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert isinstance(held.raised, Broken) or app is silent
    envelope = recorder.envelope()
    assert (envelope["status"], envelope["request"], envelope["response"]) == (500, b"in", response)
    assert (envelope["cut"], envelope["attributes"]) == (cut, attributes)


def test_an_app_that_is_cancelled(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    held = Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert isinstance(held.raised, asyncio.CancelledError)
    assert recorder.envelope()["attributes"] == {"error": "CancelledError"}


def test_what_fails_behind_the_answer_is_no_failure_of_the_answer(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        attach(in_time=1)
        await answering(*ANSWER)(scope, receive, send)
        attach(too="late")
        raise Broken

    held = Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert isinstance(held.raised, Broken)
    envelope = recorder.envelope()
    assert (envelope["status"], envelope["attributes"]) == (200, {})
    assert envelope["context"] == {"in_time": 1}


@pytest.mark.parametrize(
    ("headers", "version", "incoming", "cut"),
    [
        ([], "1.1", [body(b"")], 0),
        ([], "2", [body(b"")], CUT_REQUEST),
        ([(b"content-length", b"0")], "2", [body(b"")], 0),
        ([(b"content-length", b"2")], "1.1", [body(b"in")], CUT_REQUEST),
        ([(b"transfer-encoding", b"chunked")], "1.1", [body(b"in")], CUT_REQUEST),
    ],
)
def test_an_app_that_answers_without_reading(
    recorder: Recorder, headers: Any, version: str, incoming: Any, cut: int
) -> None:
    app = CaptureMiddleware(answering(*ANSWER, read=False), recorder.publisher)
    Conversation(incoming).hold(app, scope(headers=headers, http_version=version))
    envelope = recorder.envelope()
    assert (envelope["request"], envelope["response"]) == (b"", b"out")
    assert (envelope["cut"], envelope["status"]) == (cut, 200)


def test_an_app_that_reads_half_of_the_body(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await answering(*ANSWER, read=False)(scope, receive, send)

    incoming = [body(b"i", more=True), body(b"n")]
    Conversation(incoming).hold(
        CaptureMiddleware(app, recorder.publisher), scope(headers=[(b"content-length", b"2")])
    )
    envelope = recorder.envelope()
    assert (envelope["request"], envelope["cut"], envelope["status"]) == (b"i", CUT_REQUEST, 200)


async def stops_when_the_client_goes(scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "http.disconnect":
        if not message["more_body"]:
            await send(start())
            await send(chunk(b"ou", more=True))


@pytest.mark.parametrize(
    ("incoming", "request_body", "response", "cut", "at"),
    [
        ([body(b"i", more=True), GONE], b"i", None, CUT_REQUEST, "request"),
        ([body(b"in"), GONE], b"in", b"ou", CUT_RESPONSE, "response"),
    ],
)
def test_a_client_that_goes(
    recorder: Recorder, incoming: Any, request_body: bytes, response: Any, cut: int, at: str
) -> None:
    app = CaptureMiddleware(stops_when_the_client_goes, recorder.publisher)
    held = Conversation(incoming).hold(app, scope(headers=[(b"content-length", b"2")]))
    assert held.raised is None
    envelope = recorder.envelope()
    assert (envelope["status"], envelope["attributes"]) == (499, {"disconnected": at})
    assert (envelope["request"], envelope["response"]) == (request_body, response)
    assert envelope["cut"] == cut


@pytest.mark.parametrize("when", ["http.response.start", "http.response.body"])
def test_a_server_that_cannot_send(recorder: Recorder, when: str) -> None:
    """As the specification has it since 2.4: the server raises an OSError."""
    error = ConnectionResetError()
    app = answering(start(), chunk(b"o", more=True), chunk(b"ut"))
    held = Conversation(send_fails=lambda message: error if message["type"] == when else None).hold(
        CaptureMiddleware(app, recorder.publisher), scope()
    )
    assert held.raised is error
    envelope = recorder.envelope()
    assert (envelope["status"], envelope["cut"]) == (499, CUT_RESPONSE)
    assert envelope["attributes"] == {"disconnected": "response"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_goes_while_an_app_answers(recorder: Recorder, whole: bool) -> None:
    """The length tells a whole answer, which is monitored, from a stream that was ended early."""
    length = [(b"content-length", b"3")] if whole else []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        await answering(start(200, *length), chunk(b"out"), read=False)(scope, receive, send)

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    envelope = recorder.envelope()
    assert envelope["status"] == (200 if whole else 499)
    assert envelope["cut"] == (0 if whole else CUT_RESPONSE)
    assert envelope["response"] == b"out"
    assert envelope["attributes"] == {"disconnected": "response"}


def test_a_disconnect_behind_the_answer_is_none(recorder: Recorder) -> None:
    """Some servers tell it to whoever listens while the last message is on its way."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ANSWER[0])
        listening = asyncio.create_task(receive())
        await send(ANSWER[1])
        assert await listening == GONE

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert recorder.envelope()["attributes"] == {}


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.pathsend", "path": "/etc/hostname"}],
        [
            chunk(b"", more=True),
            {"type": "http.response.zerocopysend", "file": 7, "more_body": True},
            {"type": "http.response.zerocopysend", "file": 7},
        ],
    ],
)
def test_files_that_the_server_sends_are_marked(recorder: Recorder, messages: Any) -> None:
    app = answering(start(), *messages)
    held = Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert held.sent[1:] == messages
    envelope = recorder.envelope()
    assert (envelope["response"], envelope["cut"], envelope["status"]) == (b"", CUT_RESPONSE, 200)


def test_a_file_that_is_not_there_is_no_client_that_went(recorder: Recorder) -> None:
    app = answering(start(), {"type": "http.response.pathsend", "path": "/none"})
    held = Conversation(send_fails=lambda one: FileNotFoundError() if "path" in one else None).hold(
        CaptureMiddleware(app, recorder.publisher), scope()
    )
    assert isinstance(held.raised, FileNotFoundError)
    assert recorder.envelope()["attributes"] == {"error": "FileNotFoundError"}


def test_an_answer_ends_with_its_trailers(recorder: Recorder) -> None:
    trailers = {"type": "http.response.trailers", "headers": [], "more_trailers": True}
    last = {"type": "http.response.trailers", "headers": []}
    captured = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in (start(trailers=True), chunk(b"out"), trailers, last):
            await send(message)
            captured.append(recorder.publisher.stats()["served"])

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert captured == [0, 0, 0, 1]
    assert (recorder.envelope()["status"], recorder.envelope()["cut"]) == (200, 0)


def test_an_app_that_fails_before_its_trailers(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(start(trailers=True), chunk(b"out"))(scope, receive, send)
        raise Broken

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    envelope = recorder.envelope()
    assert (envelope["status"], envelope["cut"]) == (500, CUT_RESPONSE)


def test_trailers_that_never_come(recorder: Recorder) -> None:
    app = answering(start(trailers=True), chunk(b"out"))
    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert (recorder.envelope()["status"], recorder.envelope()["cut"]) == (200, 0)


def test_a_message_is_passed_on_before_the_next_one_is_made(recorder: Recorder) -> None:
    held = Conversation()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for count in range(3):
            await send(chunk(b"%d" % count, more=True) if count else start())
            assert len(held.sent) == count + 1

    held.hold(CaptureMiddleware(app, recorder.publisher), scope())
    assert held.raised is None


def from_threads(change: Callable[[], None]) -> Callable[[], Any]:
    async def changed() -> None:
        await asyncio.to_thread(change)

    return changed


def from_a_task(change: Callable[[], None]) -> Callable[[], Any]:
    async def changed() -> None:
        async def run() -> None:
            change()

        await asyncio.create_task(run())

    return changed


@pytest.mark.parametrize("how", [from_threads, from_a_task])
def test_a_handler_attaches_what_it_looked_up(recorder: Recorder, how: Any) -> None:
    def look_up() -> None:
        attach(age=41, model_version="column")
        attach(age=42, places=["a", {"b": None}])
        describe(model_id="Other", model_version="9")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await how(look_up)()
        await answering(*ANSWER)(scope, receive, send)

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    envelope = recorder.envelope()
    assert envelope["context"] == {
        "age": 42,
        "model_version": "column",
        "places": ["a", {"b": None}],
    }
    assert (envelope["model_id"], envelope["model_version"]) == ("other", "9")
    assert envelope["attributes"] == {"model-name": "Other"}


def test_requests_at_the_same_time_attach_to_their_own(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        number = (await receive())["body"].decode()
        attach(number=number)
        await asyncio.sleep(0)
        attach(again=number)
        await answering(*ANSWER, read=False)(scope, receive, send)

    middleware = CaptureMiddleware(app, recorder.publisher)

    async def one(number: int) -> None:
        async def receive() -> Any:
            return body(b"%d" % number)

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await middleware(scope(), receive, send)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(all_of_them())
    found = recorder.envelopes()
    assert len(found) == 50
    for envelope in found:
        number = envelope["request"].decode()
        assert envelope["context"] == {"number": number, "again": number}


def test_a_thread_that_goes_on_attaching(recorder: Recorder) -> None:
    threads = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        import contextvars

        def go_on() -> None:
            for number in range(20_000):
                attach(**{f"key{number}": number})

        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(go_on,)))
        threads[0].start()
        await answering(*ANSWER)(scope, receive, send)

    Conversation().hold(CaptureMiddleware(app, recorder.publisher), scope())
    threads[0].join()
    assert recorder.envelope()["status"] == 200


def test_outside_of_a_request_nothing_is_attached(recorder: Recorder) -> None:
    attach(a=1)
    describe(model_id="x")

    async def after() -> None:
        async def receive() -> Any:
            return body()

        async def send(message: Any) -> None: ...

        await CaptureMiddleware(answering(*ANSWER), recorder.publisher)(scope(), receive, send)
        attach(b=2)
        describe(model_version="x")

    asyncio.run(after())
    assert recorder.envelope()["context"] is None


def test_an_app_that_calls_another_attaches_to_its_own(recorder: Recorder) -> None:
    inner = CaptureMiddleware(answering(*ANSWER), recorder.publisher, model="inner")

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        attach(before=1)

        async def ignore(message: Any) -> None: ...

        await inner(scope, receive, ignore)
        attach(after=1)
        await answering(*ANSWER, read=False)(scope, receive, send)

    Conversation().hold(CaptureMiddleware(outer, recorder.publisher, model="outer"), scope())
    found = {one["model_id"]: one["context"] for one in recorder.envelopes()}
    assert found == {"inner": None, "outer": {"before": 1, "after": 1}}


def test_what_sampling_is_sticky_by(tmp_path: Path) -> None:
    """Whether an envelope is kept hangs on the key alone, whoever says it."""
    recorder = Recorder(tmp_path, sample={"m": 0.5})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        key = (await receive())["body"].decode()
        if key.startswith("app"):
            describe(sampling_key=key.removeprefix("app-"))
        await answering(*ANSWER, read=False)(scope, receive, send)

    middleware = CaptureMiddleware(
        app, recorder.publisher, model="m", sampling_key=from_header("x-customer")
    )
    for number in range(200):
        customer = b"%d" % number
        for data, header in ((b"app-" + customer, b"other"), (b"header-" + customer, customer)):
            Conversation([body(data)]).hold(middleware, scope(headers=[(b"x-customer", header)]))
    found = [one["request"].decode() for one in recorder.envelopes()]
    by_app = {one.removeprefix("app-") for one in found if one.startswith("app")}
    by_header = {one.removeprefix("header-") for one in found if one.startswith("header")}
    assert by_app == by_header
    assert 50 < len(by_app) < 150


def raises(scope: Any) -> str:
    raise Broken("secret")


@pytest.mark.parametrize("setting", ["model", "model_version", "sampling_key"])
def test_a_function_of_the_service_that_raises(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    app = CaptureMiddleware(answering(*ANSWER), recorder.publisher, **{setting: raises})
    for _ in range(2):
        assert tuple(Conversation().hold(app, scope()).sent) == ANSWER
    assert recorder.envelopes() == []
    assert caplog.messages == ["weighbridge could not record envelopes: Broken"]


class Unwilling:
    """A publisher that has a bug everywhere."""

    def __getattr__(self, name: str) -> Any:
        raise Broken(name)


class Half(Unwilling):
    max_body_bytes = 10


@pytest.mark.parametrize("kind", [Unwilling, Half])
def test_a_publisher_that_raises(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    held = Conversation().hold(CaptureMiddleware(answering(*ANSWER), kind()), scope())
    assert (held.raised, tuple(held.sent)) == (None, ANSWER)
    assert held.sent[0] is ANSWER[0]
    assert caplog.messages == ["weighbridge could not record envelopes: Broken"]


def test_a_publisher_that_cannot_be_closed() -> None:
    messages = [{"type": "lifespan.shutdown.complete"}]
    app: Any = CaptureMiddleware(answering(*messages), Unwilling())  # type: ignore[arg-type]
    assert Conversation().hold(app, {"type": "lifespan"}).sent == messages


def test_an_event_loop_that_ends_in_the_middle(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def never(*_: Any) -> Any: ...

    running = CaptureMiddleware(app, recorder.publisher)(scope(), never, never)

    async def begin() -> None:
        running.send(None)  # type: ignore[attr-defined]

    asyncio.run(begin())
    running.close()  # type: ignore[attr-defined]
    assert recorder.envelope()["attributes"] == {"error": "GeneratorExit"}


def test_the_page_names_every_setting() -> None:
    page = (Path(__file__).parents[1] / "docs/middleware.md").read_text()
    for function in (CaptureMiddleware.__init__, describe):
        for name in set(inspect.signature(function).parameters) - {"self", "app"}:
            assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", page), name
    for path in INFERENCE_PATHS:
        assert f"`{path}`" in page
    for attribute in ("x-request-id", "model-name", "disconnected", "error"):
        assert f"`{attribute}`: " in page
