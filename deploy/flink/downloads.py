"""Which Flink, which job server, and where they are kept: the one place for versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

FLINK = "2.0.2"
"""Of the newest minor version that runs were made on; Beam has a runner for each minor version."""
BEAM = "2.77.0"
PRISM = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{BEAM}"
JOB_SERVER = f"org.apache.beam:beam-runners-flink-{FLINK.rpartition('.')[0]}-job-server:{BEAM}"
JOB_SERVER_VARIABLE = "BEAM_JOB_SERVER"
"""Names the jar of a job server that was brought here by other means."""
CACHE = Path.home() / ".cache" / "weighbridge"
_JARS = ("flink-dist-", "log4j-")


class NotAvailable(Exception):
    """A component is missing; the text says which one, and the remedy."""


def flink_jars() -> Path:
    """The folder with Flink's jars, once pip got them: 300 MB to load, 140 MB to keep.

    Raises:
        NotAvailable: Java is not installed, or pip does not get them.
    """
    _need("java", "Flink", "openjdk-17-jre-headless")
    jars = CACHE / f"flink-{FLINK}"
    if not jars.exists():
        with TemporaryDirectory(dir=_cache()) as folder:
            wanted = f"apache-flink-libraries=={FLINK}"
            got = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, wanted]
            _get(got, wanted, f"Flink: pip does not get {wanted}")
            made = Path(folder, "jars")
            made.mkdir()
            [package] = (path for path in Path(folder).iterdir() if path.is_file())
            for name, data in _members(package):
                (made / name).write_bytes(data)
            _keep(made, jars)
    return jars


def job_server_jar() -> Path:
    """The jar of Beam's job server, as `BEAM_JOB_SERVER` names it, or once Maven got it: 250 MB.

    Raises:
        NotAvailable: Maven is not installed, or does not get it.
    """
    named = os.environ.get(JOB_SERVER_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise NotAvailable(f"{JOB_SERVER_VARIABLE}: there is no file {named}")
        return Path(named)
    _, artifact, version = JOB_SERVER.split(":")
    jar = CACHE / f"{artifact}-{version}.jar"
    if not jar.exists():
        _need("mvn", "Beam's job server", "maven")
        with TemporaryDirectory(dir=_cache()) as folder:
            copy = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={JOB_SERVER}"]
            reason = (
                f"Beam's job server: Maven does not get {JOB_SERVER}; name a jar of it in "
                f"{JOB_SERVER_VARIABLE}"
            )
            _get([*copy, f"-DoutputDirectory={folder}"], JOB_SERVER, reason)
            _keep(Path(folder, jar.name), jar)
    return jar


def prism() -> Path:
    """The program of Prism, once Go has built it: a minute, and 66 MB.

    Raises:
        NotAvailable: Go is not installed, or does not get it.
    """
    program = CACHE / f"prism-{BEAM}"
    if not program.exists():
        _need("go", "Prism", "golang-go")
        with TemporaryDirectory(dir=_cache()) as folder:
            reason = f"Prism: go install {PRISM} fails"
            _get(["go", "install", PRISM], PRISM, reason, GOBIN=folder)
            _keep(Path(folder, "prism"), program)
    return program


def _cache() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


def _need(program: str, what: str, package: str) -> None:
    if shutil.which(program) is None:
        raise NotAvailable(f"{what} needs {program}: apt-get install {package}")


def _get(command: list[str], what: str, reason: str, **environment: str) -> None:
    print(f"getting {what} once, into {CACHE}", file=sys.stderr)
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, check=False
    )
    if done.returncode:
        raise NotAvailable(reason)


def _keep(made: Path, place: Path) -> None:
    with suppress(OSError):  # another process was faster
        made.rename(place)


def _members(package: Path) -> Iterator[tuple[str, bytes]]:
    """Flink is a wheel in some versions, and an archive of sources with the same jars in others."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            for name in filter(_is_wanted, wheel.namelist()):
                yield PurePosixPath(name).name, wheel.read(name)
        return
    with tarfile.open(package) as sources:
        for member in sources:
            if _is_wanted(member.name) and (found := sources.extractfile(member)) is not None:
                yield PurePosixPath(member.name).name, found.read()


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parent.name == "lib" and path.name.startswith(_JARS) and path.suffix == ".jar"


def main() -> None:
    """Get all of it, and say what is not to be had."""
    for what, parts in {"on Flink": (job_server_jar, flink_jars), "on Prism": (prism,)}.items():
        try:
            for get in parts:
                get()
        except NotAvailable as missing:
            print(f"not covered: runs {what}. {missing}")


if __name__ == "__main__":
    main()
