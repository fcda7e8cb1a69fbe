"""The Dockerfile: what it pins is what setup.py asks for, and what it copies is there."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
STEPS = re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE, re.M)
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$",
        (ROOT / "deploy/requirements.txt").read_text(),
        re.M,
    )
}
EXTRAS = ("bigquery", "dataflow", "postgres", "secrets")


def test_each_requirement_is_pinned_as_setup_asks() -> None:
    asked = [Requirement(line) for line in metadata.requires("weighbridge-pipeline") or []]
    ours = [
        one
        for one in asked
        if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    ]
    assert {"apache-beam", "psycopg", "google-cloud-bigquery"} <= {one.name for one in ours}
    advice = "`make image-requirements` resolves them anew"
    for one in ours:
        assert one.specifier.contains(PINS[canonicalize_name(one.name)]), f"{one}: {advice}"


def test_nothing_is_in_the_list_without_its_version_and_hash() -> None:
    lines = (ROOT / "deploy/requirements.txt").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == len(PINS) > 100


def test_the_base_has_the_beam_that_is_pinned() -> None:
    bases = [rest.split()[0] for step, rest in STEPS if step == "FROM"]
    assert bases[-1] == f"apache/beam_python3.11_sdk:{PINS['apache-beam']}"
    assert bases[0].startswith("gcr.io/dataflow-templates-base/python311-template-launcher-base:")
    assert all(not base.endswith(":latest") for base in bases)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for step, rest in STEPS:
        if step == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


def test_workers_start_with_beams_own_program_and_a_launch_finds_its_file() -> None:
    assert ("ENTRYPOINT", '["/opt/apache/beam/boot"]') in STEPS
    [entry] = [rest for step, rest in STEPS if step == "ENV" and rest.startswith("FLEX_TEMPLATE")]
    assert entry == "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py"
    assert ("COPY", "deploy/main.py ./") in STEPS
    assert ("WORKDIR", "/template") in STEPS
