"""Secrets: read where they are used with Google's real client, and seen nowhere else."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from forked import call
from secret_manager import SecretManager, secret_manager
from support import Home, environment, packed, scored

from extractors import load_extractors
from pipelines import secrets
from pipelines.graph import build
from pipelines.main import run
from pipelines.options import parse_run
from pipelines.receiver import ArizeReceiver
from pipelines.secrets import Secret
from schemas import ConfigurationError, RetriableError

KEY = "projects/p/secrets/arize-key/versions/latest"
KEY_VALUE, SPACE_VALUE = "ak-very-secret-key", "very-secret-space"
TOML = f"""\
extractors_package = "odd"

[env.prod.arize.spaces.risk]
space_id = {{ env = "RISK_SPACE" }}
api_key = {{ secret = "{KEY}" }}

[env.prod.arize.spaces.default]
space_id = {{ env = "OTHER_SPACE" }}
api_key = {{ secret = "{KEY}" }}

[env.prod.models.scores]
arize_space = "risk"
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretManager]:
    (tmp_path / "weighbridge.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    with secret_manager() as (manager, variables):
        manager.secrets[KEY] = f"{KEY_VALUE}\n".encode()
        with environment(RISK_SPACE=SPACE_VALUE, OTHER_SPACE="other", **variables):
            yield manager


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.put(packed("scores", [scored(0.5)]))
    return home


def test_a_value_is_read_once_in_a_while(manager: SecretManager) -> None:
    secret = Secret("secret", KEY)
    assert [secret.value(), secret.value()] == [KEY_VALUE, KEY_VALUE]
    assert manager.asked == [KEY]
    secrets._kept[KEY] = (0.0, KEY_VALUE)  # as if the time were over
    manager.secrets[KEY] = b"the next one"
    assert secret.value() == "the next one"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (grpc.StatusCode.NOT_FOUND, "create this version"),
        (grpc.StatusCode.PERMISSION_DENIED, "roles/secretmanager.secretAccessor"),
        (grpc.StatusCode.UNAUTHENTICATED, "roles/secretmanager.secretAccessor"),
        (grpc.StatusCode.FAILED_PRECONDITION, "enable this version"),
        (b"", "is empty"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_remedy(
    manager: SecretManager, found: bytes | grpc.StatusCode, said: str
) -> None:
    manager.secrets[KEY] = found
    with pytest.raises(ConfigurationError, match=f"secret {KEY} .*{said}"):
        Secret("secret", KEY).value()


def test_an_outage_of_secret_manager_may_pass(
    manager: SecretManager, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "TIMEOUT_SECONDS", 0.3)
    manager.secrets[KEY] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ConnectionError, match=KEY):
        Secret("secret", KEY).value()
    with pytest.raises(RetriableError, match=KEY):
        run(home.arguments("--env=prod", "--arize_url=http://127.0.0.1:9"))


def test_a_secret_that_may_not_be_read_stops_the_launch(manager: SecretManager, home: Home) -> None:
    manager.secrets[KEY] = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(ConfigurationError, match="secretAccessor"):
        run(home.arguments("--env=prod", "--arize_url=http://127.0.0.1:9"))


def test_no_secret_is_in_what_travels_or_is_shown(
    manager: SecretManager, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    arguments = home.arguments("--env=prod", "--arize_url", "http://127.0.0.1:9")
    options = parse_run(arguments)
    extractors = options.environment.configured(load_extractors("odd"))
    beam_options = PipelineOptions(list(options.beam_args))
    pipeline = beam.Pipeline(options=beam_options)
    build(pipeline, [str(home.input / "a.avro")], extractors, options)
    # Cached, as in a process that has read it already.
    assert options.environment.spaces["risk"].api_key.value() == KEY_VALUE
    proto = pipeline.to_runner_api()
    report = run(arguments)
    assert report.undelivered_rows == 1  # the push was tried, with the key
    status, out, err = call("config", "show", "--env=prod")
    assert (status, err) == (0, "")
    assert KEY in out and "RISK_SPACE" in out
    seen = [
        proto.SerializeToString(),
        pickle.dumps((options, dict(extractors))),
        repr(options).encode(),
        str(beam_options.display_data()).encode(),
        repr(beam_options.get_all_options()).encode(),
        caplog.text.encode(),
        out.encode(),
        *(path.read_bytes() for path in home.folder.rglob("*") if path.is_file()),
    ]
    assert KEY.encode() in seen[1]
    for value in (KEY_VALUE, SPACE_VALUE):
        assert [text[:80] for text in seen if value.encode() in text] == []


def test_a_refused_key_is_named_and_not_shown(
    manager: SecretManager, home: Home, tmp_path: Path
) -> None:
    with ArizeReceiver("another key", SPACE_VALUE) as receiver:
        # With workers: threads of Google's client must not have begun when these are forked.
        arguments = home.arguments("--env=prod", "--workers=2", "--arize_url", receiver.url)
        status, out, err = call("run", *arguments, cwd=tmp_path)
    assert status == 2
    assert f"Arize refuses secret {KEY} or RISK_SPACE" in err
    assert KEY_VALUE not in out + err and SPACE_VALUE not in out + err


def test_the_space_and_key_of_the_file_are_used(manager: SecretManager, home: Home) -> None:
    with ArizeReceiver(KEY_VALUE, SPACE_VALUE) as receiver:
        report = run(home.arguments("--env=prod", "--arize_url", receiver.url))
        assert report.undelivered_rows == 0
        assert [upload.table["prediction_id"].to_pylist() for upload in receiver.uploads] == [
            ["c-0"]
        ]
    assert [row["arize_space"] for row in home.deliveries()] == ["risk"]
