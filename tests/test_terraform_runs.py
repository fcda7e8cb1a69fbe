"""deploy/terraform by Terraform itself, as far as it goes without a registry of providers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from forked import call
from terraform import FOLDER, blocks

TERRAFORM = shutil.which("terraform")
pytestmark = pytest.mark.skipif(not TERRAFORM, reason="terraform is not installed")


def _terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(TERRAFORM), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_it_is_formatted() -> None:
    done = _terraform(FOLDER, "fmt", "-check", "-diff", "-recursive")
    assert (done.returncode, done.stdout) == (0, "")


PLACES = {
    "bigquery": ({"home": "gs://b-1/w", "tables": "bigquery", "dataset": "my-project.weighbridge",
                  "staging": "gs://b-1/staging"}, []),
    "iceberg": ({"home": "gs://b-1/w", "tables": "iceberg", "warehouse": "gs://b-1",
                 "catalog_uri": "https://biglake.googleapis.com/iceberg/v1/restcatalog"},
                ["auth.type=google", "header.x-goog-user-project=my-project"]),
}  # fmt: skip


@pytest.mark.parametrize("tables", PLACES)
def test_the_output_is_a_file_that_commands_take(tables: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "weighbridge.toml.tftpl", tmp_path)
    place, properties = PLACES[tables]
    values = {
        "project": "my-project", "region": "europe-west1", "job_name": "weighbridge-prod",
        "worker": "worker@my-project.iam.gserviceaccount.com", "temp": "gs://b-2",
        "image": "europe-west1-docker.pkg.dev/my-project/weighbridge/worker:1" * (not properties),
        "subscription": "projects/my-project/subscriptions/pipeline",
        "commit_interval": "5m", "extractors_package": "odd", "place": place,
        "catalog_properties": properties,
    }  # fmt: skip
    call_of_it = '${templatefile("weighbridge.toml.tftpl", jsondecode(file("values.json")))}'
    main = {"output": {"toml": {"value": call_of_it}}}
    (tmp_path / "main.tf.json").write_text(json.dumps(main))
    (tmp_path / "values.json").write_text(json.dumps(values))
    for arguments in (["init"], ["apply", "-auto-approve"]):
        done = _terraform(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    rendered = _terraform(tmp_path, "output", "-raw", "toml").stdout
    said = tomllib.loads(rendered)["env"]["prod"]
    assert place.items() <= said.items()
    assert ("sdk_container_image" in said) == bool(values["image"])
    (tmp_path / "weighbridge.toml").write_text(rendered)
    status, out, err = call("config", "show", "deploy", "dataflow", "--env", "prod", cwd=tmp_path)
    assert status == 0, err
    assert "projects/my-project/subscriptions/pipeline" in out
    assert all(one in out for one in properties)


BAD = {
    "project": "123456", "region": "europe-west1-b", "name": "X", "tables": "spanner",
    "extractors_package": "a-b", "image": "image", "publishers": '["allUsers"]',
    "launchers": '["me"]', "secrets": '["a b"]', "commit_interval_minutes": "0",
    "archive_keep_days": "1", "temp_keep_days": "1", "subscription_retention_days": "40",
    "max_delivery_attempts": "101", "notification_channels": '["mail"]', "job_name": "A",
    "check_schedule": "hourly", "backlog_age_minutes": "0", "undelivered_minutes": "1",
    "dead_letters_per_minute": "-1",
}  # fmt: skip
ACROSS = {"archive_retention_days": "31", "freshness_minutes": "10"}


def test_variables_refuse_what_cannot_work(tmp_path: Path) -> None:
    for path in FOLDER.glob("variables*.tf"):
        shutil.copy(path, tmp_path)
    assert _terraform(tmp_path, "init").returncode == 0
    good = {"project": "my-project", "region": "europe-west1"}
    image = "europe-west1-docker.pkg.dev/my-project/weighbridge/worker:1"
    done = _plan(tmp_path, {**good, "image": image, "publishers": '["group:a@example.com"]'})
    assert done.returncode == 0, done.stderr
    unchecked = {name for name, body in blocks("variable") if "validation" not in body}
    assert {*BAD, *ACROSS} == {name for name, _ in blocks("variable")} - unchecked
    for values in ({**good, **BAD}, {**good, **ACROSS}):
        done = _plan(tmp_path, values)
        assert done.returncode == 1
        told = set(re.findall(r'variable "(\w+)"', done.stderr))
        assert told >= set(values) - (set() if values["project"] in BAD.values() else set(good))


def _plan(folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = [word for name, value in values.items() for word in ("-var", f"{name}={value}")]
    return _terraform(folder, "plan", "-no-color", "-input=false", *given)
