"""An extractor as a git revision has it, run in a process of its own."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from pipelines.address import absolute
from pipelines.compare.side import Side
from schemas import ConfigurationError


def is_revision(package: str, revision: str) -> bool:
    """Whether a revision names a commit of the repository that a package is in."""
    try:
        root, _ = _repository(package)
    except ConfigurationError:
        return False
    wanted = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    return (
        not revision.startswith("-") and subprocess.run(wanted, capture_output=True).returncode == 0
    )


def extracted_at(
    revision: str,
    package: str,
    key: tuple[str, str],
    paths: Sequence[str],
    max_future: float,
    max_envelope_bytes: int,
) -> Side:
    """What a revision's extractor makes of archive files.

    Its package is taken out of the repository into a folder of its own; all else, such as this
    pipeline and the libraries, is what is installed here.

    Args:
        revision: a commit, as git takes it.
        package: the package whose modules register the extractors.
        key: model id and kind.
        paths: archive files.
        max_future: as of a run.
        max_envelope_bytes: as of a run.

    Raises:
        ConfigurationError: the package does not load, or has no such model there.
    """
    root, inside = _repository(package)
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(root), "archive", revision, "--", inside],
            capture_output=True,
            check=False,
        )
        if archive.returncode:
            raise ConfigurationError(f"--against: {revision} has no {inside}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        place, result = Path(folder, inside).parent, Path(folder, "result")
        order = {
            "name": f"{package} at {revision}",
            "package": package,
            "key": key,
            "paths": [absolute(path) for path in paths],
            "max_future": max_future,
            "max_envelope_bytes": max_envelope_bytes,
            "result": str(result),
        }
        program = [sys.executable, "-m", "pipelines.compare.child", str(place)]
        done = subprocess.run(
            program, input=json.dumps(order).encode(), capture_output=True, check=False
        )
        if done.returncode or not result.exists():
            text = done.stderr.decode(errors="replace").strip().splitlines()
            said = text[-1] if done.returncode == 2 and text else "its process failed"
            raise ConfigurationError(f"--against: {package} at {revision}: {said}")
        name, failed, seconds, data = pickle.loads(result.read_bytes())
        return Side(name, pa.ipc.open_stream(data).read_all(), failed, seconds)


def _repository(package: str) -> tuple[Path, str]:
    """The root of the repository of a package, and where in it its top package is."""
    top = package.partition(".")[0]
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"no package {package}")
    folder = Path(next(iter(spec.submodule_search_locations))).resolve()
    found = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--show-toplevel"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise ConfigurationError(f"--against: {folder} is in no git repository")
    root = Path(found.stdout.strip())
    return root, str(folder.relative_to(root.resolve()))
