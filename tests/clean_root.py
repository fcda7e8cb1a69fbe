"""Images without a container engine: a Dockerfile's steps in a root of its own, and `docker`.

`beam_root` stands in for Beam's image. It is Debian with what Beam's Dockerfile installs: the same
list of packages, Beam from the package index, and `boot` built from Beam's sources. It lacks the
Cloud SDK, and its Python is Debian's; `docs/images.md` says what else differs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from google_emulators import NotInstalled

PACKAGES = ["python3.11", "python3.11-venv", "python3-pip", "ca-certificates"]
# As Beam's Dockerfile installs them; a compiler is in the image that it begins with.
_NATIVE = ["g++", "libgeos-dev", "libsnappy-dev", "libyaml-dev", "python3.11-dev"]
_MODULE = "github.com/apache/beam/sdks/v2"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOST_FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")


def beam_root() -> Path:
    """A root folder like that of Beam's image; kept for the next time.

    Raises:
        NotInstalled: what it takes is not there, or this is not root's.
    """
    if os.geteuid() != 0 or shutil.which("debootstrap") is None or shutil.which("go") is None:
        raise NotInstalled("a clean root needs root, Go, and apt-get install debootstrap")
    beams = version("apache-beam")
    kept = Path.home() / ".cache" / "weighbridge-tests" / f"root-beam-{beams}"
    if not kept.exists():
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        _make(made, beams)
        with suppress(OSError):  # another process of the tests was faster
            made.rename(kept)
    return kept


def _make(root: Path, beams: str) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    included = ",".join(PACKAGES)
    _run("debootstrap", "--variant=minbase", f"--include={included}", "bookworm", str(root))
    downloaded = json.loads(_run("go", "mod", "download", "-json", f"{_MODULE}@v{beams}"))
    listed = Path(downloaded["Dir"], "python/container/py311/base_image_requirements.txt")
    shutil.copyfile(listed, root / "tmp/base.txt")
    boot = root / "opt/apache/beam"
    boot.mkdir(parents=True)
    builds = {**os.environ, "GOBIN": str(boot)}
    command = ["go", "install", f"{_MODULE}/python/container@v{beams}"]
    subprocess.run(command, check=True, capture_output=True, env=builds)
    (boot / "container").rename(boot / "boot")
    # Debian's Python refuses pip, and is not called python.
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    (root / "usr/bin/python").symlink_to("python3.11")
    with Image(root).mounted() as image:
        image.run("apt-get update -qq && apt-get install -y -qq " + shlex.join(_NATIVE))
        image.run("pip install -q --no-cache-dir --prefer-binary --no-deps -r /tmp/base.txt")
        image.run(f"pip install -q --no-cache-dir --no-deps 'apache-beam[gcp]=={beams}'")
        image.run("pip check")


@dataclass
class Image:
    """A root folder, and what its Dockerfiles say of it.

    Attributes:
        root: the folder.
        environment: of what is run in it.
        entrypoint: what a container begins with.
        skipped: steps that were not done.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH, "HOME": "/root"})
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=lambda: ["/opt/apache/beam/boot"])
    skipped: list[str] = field(default_factory=list)

    @contextmanager
    def mounted(self) -> Iterator[Image]:
        """With /proc, and with what leads to the network from here."""
        for name in _HOST_FILES:
            place = self.root / name.removeprefix("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, place)
        with _mount("--bind", "/proc", str(self.root / "proc")):
            yield self

    def run(self, command: str, **environment: str) -> str:
        """What a shell in it says.

        Raises:
            AssertionError: the command failed.
        """
        inside = f"cd {shlex.quote(self.folder)} && {command}"
        found = {**self.environment, "DEBIAN_FRONTEND": "noninteractive", **environment}
        words = ["chroot", str(self.root), "/bin/sh", "-c", inside]
        done = subprocess.run(words, env=found, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def build(self, dockerfile: Path, context: Path) -> None:
        """Do the steps of a Dockerfile, on top of what is there."""
        ignored = (context / ".dockerignore").read_text().splitlines()
        for step, rest in steps(dockerfile.read_text()):
            if step == "RUN":
                self.run(rest)
            elif step == "COPY" and rest.startswith("--from"):
                self.skipped.append(rest)
            elif step == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    assert f"!{source}" in ignored, f"{source} is not in the build's context"
                    self._copy(context / source, target)
            elif step == "ENV":
                self.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
            elif step == "WORKDIR":
                self.folder = rest
                self.inside(rest).mkdir(parents=True, exist_ok=True)
            elif step == "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            else:
                assert step in ("ARG", "FROM"), step

    def inside(self, path: str) -> Path:
        """Where a path of the image is here."""
        return self.root / str(Path(self.folder, path)).removeprefix("/")

    def _copy(self, source: Path, target: str) -> None:
        place = self.inside(target)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, place, ignore=ignored, dirs_exist_ok=True)
            return
        if target.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            place /= source.name
        shutil.copyfile(source, place)


def steps(text: str) -> list[tuple[str, str]]:
    """The steps of a Dockerfile."""
    return re.findall(r"^([A-Z]+) (.*)$", text.replace("\\\n", " "), re.M)


@contextmanager
def image_of(base: Path, folder: Path) -> Iterator[Image]:
    """An image that begins with a root, and leaves it as it is."""
    parts = [folder / name for name in ("upper", "work", "root")]
    for part in parts:
        part.mkdir(parents=True)
    upper, work, root = parts
    layers = f"lowerdir={base},upperdir={upper},workdir={work}"
    with ExitStack() as mounts:
        mounts.enter_context(_mount("-t", "overlay", "overlay", "-o", layers, str(root)))
        image = mounts.enter_context(Image(root).mounted())
        try:
            yield image
        finally:
            _end_all(root)


@contextmanager
def shared(image: Image, folder: Path) -> Iterator[None]:
    """A folder that has the same path in the image and here."""
    place = image.inside(str(folder))
    place.mkdir(parents=True)
    with _mount("--bind", str(folder), str(place)):
        yield


@contextmanager
def docker(image: Image, folder: Path, **environment: str) -> Iterator[None]:
    """A program `docker` for Beam's runner, whose containers are processes in the image."""
    folder.mkdir()
    program = folder / "docker"
    given = {
        "root": str(image.root),
        "entrypoint": image.entrypoint,
        "environment": {**image.environment, **environment},
        "log": str(folder / "log"),
    }
    (folder / "image.json").write_text(json.dumps(given))
    program.write_text(f"#!{sys.executable}\n{_DOCKER}")
    program.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
        _end_all(image.root)


_DOCKER = '''
"""What Beam's local runner asks of Docker: run, inspect, kill and container logs."""
import json, os, signal, subprocess, sys
from pathlib import Path

image = json.loads(Path(__file__).with_name("image.json").read_text())
verb, *rest = sys.argv[1:]
if verb == "run":
    arguments = [word for word in rest if word.startswith("--") and "_endpoint=" in word]
    arguments += [word for word in rest if word.startswith("--id=")]
    with open(image["log"], "ab") as log:
        process = subprocess.Popen(
            ["chroot", image["root"], *image["entrypoint"], *arguments],
            env=image["environment"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
    print(process.pid)
elif verb == "inspect":
    stat = Path(f"/proc/{rest[-1]}/stat")
    alive = stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    print("running" if alive else "exited")
elif verb == "kill":
    os.kill(int(rest[-1]), signal.SIGTERM)
elif verb == "container":
    print(Path(image["log"]).read_text())
'''


def _end_all(root: Path) -> None:
    """End what still runs in a root, and only that."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "root").readlink() == root:
                os.kill(int(process.name), signal.SIGKILL)


@contextmanager
def _mount(*arguments: str) -> Iterator[None]:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled(f"nothing may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # What ends in it may take a moment.
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
