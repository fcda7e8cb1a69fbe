"""Settings by environment: what holds, what is refused, and that no secret is seen anywhere."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support import PACKAGES

from pipelines.options import parse_run

_ = PACKAGES

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
