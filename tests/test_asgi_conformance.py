"""Server and app see the same with the middleware as without it, whatever they say."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from conversation import GONE, App, Conversation, Recorder, body, chunk, read_back, scope, start
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge import CaptureMiddleware, EnvelopePublisher, attach, describe
from weighbridge.model_of import first_of, from_header, from_path
from weighbridge.wire import CUT_REQUEST, CUT_RESPONSE

ID_HEADER = b"x-envelope-id"
LIMIT = 50
few_bytes = st.binary(max_size=20)
names = st.sampled_from(
    [b"content-type", b"content-length", b"x-request-id", b"X-Envelope-Id", b"x-model", b"cookie"]
)
header_lists = st.lists(st.tuples(names | few_bytes, few_bytes), max_size=5)
headers = (
    header_lists | header_lists.map(tuple) | st.lists(st.tuples(few_bytes, few_bytes).map(list))
)
flags = st.booleans()
anything = st.none() | flags | st.integers() | st.text(max_size=3) | few_bytes | st.lists(st.none())


def messages_of(kinds: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Messages with any of their keys there or not, and with values that are right or wrong."""
    return st.fixed_dictionaries(
        {"type": st.sampled_from(kinds)},
        optional={
            "body": few_bytes | few_bytes.map(bytearray) | few_bytes.map(memoryview),
            "more_body": flags,
            "status": st.integers(100, 599),
            "headers": headers,
            "trailers": flags,
            "more_trailers": flags,
            "path": st.text(max_size=5),
            "file": st.integers(0, 9),
            "text": st.text(max_size=5),
        },
    )


incoming = messages_of(["http.request"] * 3 + ["http.disconnect", "websocket.receive", "unknown"])
outgoing = messages_of(
    ["http.response.start", "http.response.body"] * 3
    + [
        "http.response.trailers",
        "http.response.pathsend",
        "http.response.zerocopysend",
        "http.response.push",
        "http.response.debug",
        "http.response.early_hint",
        "websocket.accept",
        "websocket.send",
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
)
garbage = st.dictionaries(
    st.sampled_from(["type", "body", "status", "headers", "more_body"]), anything
)
well_formed = st.tuples(
    st.builds(start, st.integers(200, 599)),
    st.lists(st.builds(chunk, few_bytes, st.just(True)), max_size=4),
    st.builds(chunk, few_bytes),
).map(lambda parts: [parts[0], *parts[1], parts[2]])
answers = st.lists(outgoing | garbage, max_size=6) | well_formed


class Failure(Exception):
    pass


class Harder(BaseException):
    pass


errors = st.sampled_from([Failure, Harder, OSError, ConnectionResetError, ValueError])
scopes = st.builds(
    scope,
    path=st.sampled_from(["/v1/models/M.1:predict", "/v2/models/m/versions/2/infer"])
    | st.text(max_size=10).map(lambda path: f"/{path}"),
    method=st.sampled_from(["POST", "POST", "GET", "HEAD", "OPTIONS", "PUT"]) | st.text(max_size=3),
    headers=header_lists,
    type=st.sampled_from(["http", "http", "http", "websocket", "lifespan", "other"]),
    root_path=st.sampled_from(["", "/v1", "/"]),
    http_version=st.sampled_from(["1.0", "1.1", "2", "3"]),
)
model_functions = st.sampled_from(
    [
        None,
        from_path("/{model}"),
        from_header("x-model"),
        first_of(from_path(), from_header("x-request-id")),
        lambda scope: 1 / 0,
        lambda scope: 7,
        lambda scope: ("a", "b"),
    ]
)
models = model_functions | st.text(st.characters(), max_size=70)


class Unwilling:
    """A publisher in which something or everything fails."""

    def __init__(self, publisher: EnvelopePublisher, working: set[str]) -> None:
        self._publisher, self._working = publisher, working

    def __getattr__(self, name: str) -> Any:
        if name not in self._working:
            raise Failure
        return getattr(self._publisher, name)


def scripted(script: list[tuple[str, Any]], seen: list[Any]) -> App:
    """An app that goes through the script, and notes what it sees."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        for step, value in script:
            if step == "receive":
                seen.append(await receive())
            elif step == "raise":
                raise value
            elif step == "attach":
                attach(value=value)
                describe(model_id=value, model_version=value, sampling_key=value)
            else:
                try:
                    await send(value)
                except Failure as error:
                    seen.append(error)

    return app


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, Any]]:
    sending = [("send", message) for message in draw(answers)]
    others = draw(
        st.lists(
            st.just(("receive", None)) | st.tuples(st.just("attach"), st.text() | anything),
            max_size=4,
        )
    )
    script = draw(st.permutations(others)) + sending
    for step in draw(st.lists(st.just(("receive", None)), max_size=2)):
        script.insert(draw(st.integers(0, len(script))), step)
    if draw(flags):
        error = draw(errors)()
        script.insert(draw(st.integers(0, len(script))), ("raise", error))
    return script


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvelopePublisher]:
    publisher = EnvelopePublisher(tmp_path_factory.mktemp("captured"), max_body_bytes=LIMIT)
    yield publisher
    publisher.close()


@settings(max_examples=200)
@given(data=st.data())
def test_server_and_app_see_the_same(publisher: EnvelopePublisher, data: st.DataObject) -> None:
    of = data.draw(scopes, "scope")
    arriving = data.draw(st.lists(incoming | garbage, max_size=4), "incoming")
    script = data.draw(scripts(), "script")
    working = data.draw(
        st.none() | st.sets(st.sampled_from(["reserve", "capture", "max_body_bytes"])), "working"
    )
    failing = data.draw(st.none() | st.tuples(st.integers(0, 5), errors), "send fails")
    options = data.draw(
        st.fixed_dictionaries(
            {"model": models, "close_timeout": st.none()},  # others use the publisher, too
            optional={
                "model_version": model_functions.filter(callable) | st.text(max_size=3),
                "sampling_key": model_functions,
                "id_header": st.sampled_from([None, "x-envelope-id"]),
                "methods": st.sets(st.text(max_size=3) | st.just("POST")),
            },
        ),
        "options",
    )
    error = failing[1]() if failing else None

    def hold(wrap: Any) -> tuple[Conversation, list[Any], dict[str, Any]]:
        sends = iter(range(1000))

        def send_fails(message: Any) -> BaseException | None:
            return error if failing and next(sends) == failing[0] else None

        seen: list[Any] = []
        scope = copy.copy(of)
        talk = Conversation(arriving, send_fails).hold(wrap(scripted(script, seen)), scope)
        assert seen[0] is scope
        return talk, seen[1:], scope

    plain, plain_seen, plain_scope = hold(lambda app: app)
    capturing = publisher if working is None else Unwilling(publisher, working)
    talk, seen, same_scope = hold(
        lambda app: CaptureMiddleware(app, capturing, **options)  # type: ignore[arg-type]
    )

    assert same_scope == plain_scope == of
    assert same(seen, plain_seen)
    assert talk.raised is plain.raised
    assert len(talk.sent) == len(plain.sent)
    for sent, original in zip(talk.sent, plain.sent):
        if sent is not original:
            assert original["type"] == "http.response.start"
            added = sent["headers"][len(original.get("headers", ())) :]
            assert [name for name, _ in added] == [ID_HEADER]
            assert added[0][1].decode().startswith(publisher.publisher_id)
            rest = {**sent, "headers": sent["headers"][:-1]}
            assert rest == {**original, "headers": list(original.get("headers", ()))}


def same(ones: list[Any], others: list[Any]) -> bool:
    """Whether they are the very same objects."""
    return len(ones) == len(others) and all(a is b for a, b in zip(ones, others))


@settings(max_examples=100)
@given(
    request=st.lists(few_bytes, min_size=1, max_size=6),
    response=st.lists(few_bytes, min_size=1, max_size=6),
    status=st.integers(100, 599),
    sent_headers=header_lists,
    own_headers=header_lists,
    model=st.text(st.characters(codec="utf-8"), max_size=70),
    read=flags,
)
def test_what_passed_is_what_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    request: list[bytes],
    response: list[bytes],
    status: int,
    sent_headers: list[tuple[bytes, bytes]],
    own_headers: list[tuple[bytes, bytes]],
    model: str,
    read: bool,
) -> None:
    recorder = Recorder(tmp_path_factory.mktemp("captured"), max_body_bytes=LIMIT)
    length = b"%d" % len(b"".join(request))
    own_headers = [pair for pair in own_headers if pair[0] != b"content-length"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while read and (await receive()).get("more_body"):
            pass
        await send(start(status, *sent_headers))
        for part in response:
            await send(chunk(part, more=True))
        await send(chunk())

    held = Conversation([*(body(part, more=True) for part in request), body(), GONE]).hold(
        CaptureMiddleware(app, recorder.publisher, model=model),
        scope(headers=[*own_headers, (b"content-length", length)]),
    )
    assert held.raised is None
    recorder.publisher.close()
    assert recorder.publisher.stats()["dropped"] == {}
    [envelope] = read_back(recorder.folder)
    passed, answered = b"".join(request) if read else b"", b"".join(response)
    assert (envelope["request"], envelope["response"]) == (passed[:LIMIT], answered[:LIMIT])
    cut = CUT_REQUEST if len(passed) > LIMIT or len(passed) != int(length) else 0
    cut |= CUT_RESPONSE if len(answered) > LIMIT else 0
    assert (envelope["cut"], envelope["status"]) == (cut, status)
    assert envelope["attributes"].get("model-name", envelope["model_id"]) == model
    ids = [value for name, value in held.sent[0]["headers"] if name.lower() == ID_HEADER]
    own = [value for name, value in sent_headers if name.lower() == ID_HEADER]
    assert ids == (own or [envelope["envelope_id"].encode()])
