"""The Dockerfiles' steps in a clean root, and the pipeline in it, begun by Beam's own boot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import Image, beam_root, docker, image_of, shared
from elsewhere import Elsewhere
from google_emulators import NotInstalled
from staged import Staged, run_graph, stage
from test_staged import MESSAGES, check_rows, company, elsewhere, staged

pytestmark = pytest.mark.slow
__all__ = ["company", "elsewhere", "staged"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def beams_image(tmp_path: Path) -> Iterator[Image]:
    try:
        with image_of(beam_root(), tmp_path / "image") as image:
            yield image
    except NotInstalled as missing:
        pytest.skip(str(missing))


def storage() -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"]}


def test_the_image_launches_the_job_and_runs_it(
    beams_image: Image, elsewhere: Elsewhere, company: Path, tmp_path: Path
) -> None:
    image = beams_image
    image.build(ROOT / "deploy/Dockerfile", ROOT)
    assert [step.split()[0] for step in image.skipped] == ["--from=launcher"]
    image.build(company / "Dockerfile", company)
    # As the launcher of a flex template calls it, in the image.
    entry = image.environment["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    job = tmp_path / "job"
    job.mkdir()
    with shared(image, job):
        given = image.environment | storage()
        launcher = ["env", "-i", *(f"{name}={value}" for name, value in given.items())]
        submitted = stage(
            job,
            # The package is named by the settings in the image.
            *(word if "=" in word else f"{word}=true" for word in elsewhere.arguments),
            "--sdk_container_image=acme-extractors:1",
            command=[*launcher, "chroot", str(image.root), "python", entry],
            cwd=tmp_path,
        )
    there = [path.name for path in submitted.folder.rglob("*") if path.is_file()]
    assert there == ["pipeline.pb"]
    with docker(image, tmp_path / "bin", **storage()):
        assert run_graph(submitted.graph, MESSAGES) == "DONE"
    check_rows(elsewhere, tmp_path, company)


def test_beams_image_installs_what_is_staged(
    beams_image: Image, staged: Staged, elsewhere: Elsewhere, company: Path, tmp_path: Path
) -> None:
    """The other way in: `--setup_file` and `--extra_package`, fetched and installed by boot."""
    with pytest.raises(AssertionError, match="No module named 'pipelines'"):
        beams_image.run("python -c 'import pipelines'")
    with docker(beams_image, tmp_path / "bin", **storage()):
        assert run_graph(staged.graph, MESSAGES) == "DONE"
    check_rows(elsewhere, tmp_path, company)
