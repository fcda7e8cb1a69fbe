"""What may import what, what is installed where, and what the core must not know."""

import ast
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from extractors import load_extractors

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "weighbridge": ROOT / "handlers/weighbridge",
    "schemas": ROOT / "schemas",
    "extractors": ROOT / "extractors",
    "pipelines": ROOT / "pipelines",
}
"""In the direction of imports: each may import those before it."""
HEAVY = ["apache_beam", "arize", "google.pubsub_v1", "grpc", "pandas", "pyarrow", "pydantic"]


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """Full names of the modules that a file imports, in its functions too or only at its top."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            yield node.module or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    order = list(PACKAGES)
    behind = set(order[order.index(package) + 1 :]) | {"tests", "benchmarks"}
    files = sorted(PACKAGES[package].rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if name.partition(".")[0] in behind
    }
    assert wrong == set()


def test_a_model_service_needs_only_what_the_handler_names() -> None:
    def foreign(paths: Iterable[Path]) -> set[str]:
        names = {name for path in paths for name in imports(path, everywhere=False)}
        return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)

    everything = set(PACKAGES["weighbridge"].rglob("*.py"))
    service = set((PACKAGES["weighbridge"] / "service").glob("*.py"))
    assert foreign(everything - service) == {"fastavro", "orjson", "weighbridge", "zstandard"}
    assert foreign(service) == {"anyio", "orjson", "starlette", "weighbridge"}
    behind = {name for path in everything - service for name in imports(path)}
    assert [name for name in behind if name.startswith("weighbridge.service")] == []


def test_importing_weighbridge_loads_nothing_heavy() -> None:
    """Nor gRPC, which must not have started when a server forks."""
    program = f"""
import json, sys
import weighbridge
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout) == []


def test_the_core_knows_no_model() -> None:
    ids = {model_id for model_id, _ in load_extractors()}
    assert ids
    names = ids | {model_id.replace("-", "_") for model_id in ids}
    texts = {
        path: path.read_text()
        for package in ("schemas", "pipelines")
        for path in PACKAGES[package].rglob("*.py")
        if ROOT / "pipelines/demo" not in path.parents
    }
    assert texts
    assert [(path, name) for path, text in texts.items() for name in names if name in text] == []


def setuptools(folder: Path, *arguments: str) -> None:
    setup = (
        ["setup.py"]
        if (folder / "setup.py").exists()
        else ["-c", "__import__('setuptools').setup()"]
    )
    done = subprocess.run(
        [sys.executable, *setup, "-q", *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def copied(source: Path, to: Path) -> Path:
    """A copy to build in, as building leaves files behind."""
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return Path(shutil.copytree(source, to, ignore=unwanted))


def files(folder: Path, suffix: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(f"*{suffix}")}


def unpacked(folder: Path) -> Path:
    """What the one source distribution in `dist` holds."""
    [archive] = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    [found] = (folder / "unpacked").iterdir()
    return found


def test_what_a_model_service_installs(tmp_path: Path) -> None:
    folder = copied(ROOT / "handlers", tmp_path / "handlers")
    modules, schemas = files(folder, ".py"), files(folder, ".avsc")
    setuptools(folder, "sdist")
    setuptools(unpacked(folder), "build", "--build-lib", str(tmp_path / "installed"))
    installed = tmp_path / "installed"
    assert [path.name for path in installed.iterdir()] == ["weighbridge"]
    assert files(installed, ".avsc") == schemas != set()
    assert files(installed, ".py") == modules
    assert files(installed, "py.typed") == {"weighbridge/py.typed"}
    described = (folder / "weighbridge.egg-info/PKG-INFO").read_text()
    assert "\nName: weighbridge\n" in described
    assert (ROOT / "handlers/README.md").read_text().strip() in described


def test_what_the_pipeline_and_its_workers_install(tmp_path: Path) -> None:
    """Built without network and from the source distribution, as Beam does it."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("MANIFEST.in", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("handlers", "schemas", "extractors", "pipelines", "tests"):
        copied(ROOT / name, folder / name)
    (folder / "tests/__init__.py").touch()
    setuptools(folder, "sdist")
    source = unpacked(folder)
    assert not (source / "tests").exists()
    installed = tmp_path / "installed"
    setuptools(source, "build", "--build-lib", str(installed))
    assert {path.name for path in installed.iterdir()} == set(PACKAGES)
    for package, source in PACKAGES.items():
        assert files(installed / package, ".py") == files(source, ".py")
        assert files(installed / package, "py.typed") == {"py.typed"}
    schemas = files(PACKAGES["weighbridge"], ".avsc")
    assert files(installed / "weighbridge", ".avsc") == schemas != set()


def test_the_two_distributions_are_not_in_one_environment() -> None:
    """Both own the package weighbridge: one would overwrite the other's modules."""
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution("weighbridge")
    assert metadata.version("weighbridge-pipeline")
