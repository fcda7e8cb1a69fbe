"""Writes deploy/requirements.txt: what the image installs, each file by its hash.

`python deploy/lock.py BASE`, with BASE the list of what Beam's own image holds (docs/images.md says
where it is). Of what is in it already, its version is kept: the image stays small, and the versions
are those that Beam is tested with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXTRAS = "bigquery,dataflow,postgres,secrets"
# In Beam's image, in versions that are not taken: arize wants wrapt 1, and we types of click 8.5.
OTHERWISE = {"click", "wrapt"}
HEADER = f"""\
# What the image installs. Made by deploy/lock.py from setup.py with [{EXTRAS}], for
# Python 3.11 on Linux x86_64; `make image-requirements` makes it anew.
"""


def resolved(base: Path) -> list[dict[str, Any]]:
    """What pip would install into an empty environment, as its report says."""
    lines = base.read_text().splitlines()
    kept = [line for line in lines if line.partition("==")[0] not in OTHERWISE]
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("\n".join(kept))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        pip += ["--ignore-installed", "--report", str(report), "--constraint", str(constraints)]
        subprocess.run([*pip, f"{ROOT}[{EXTRAS}]"], check=True, cwd=folder)
        found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return found


def pin(package: dict[str, Any]) -> str:
    """The line of one package; empty for our own, which is built from these sources."""
    about, archive = package["metadata"], package["download_info"].get("archive_info")
    if archive is None:
        return ""
    return f"{about['name']}=={about['version']} --hash=sha256:{archive['hashes']['sha256']}\n"


if __name__ == "__main__":
    pins = sorted(map(pin, resolved(Path(sys.argv[1]))), key=str.lower)
    (ROOT / "deploy/requirements.txt").write_text(HEADER + "".join(pins))
