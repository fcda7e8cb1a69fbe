"""Reads deploy/terraform without Terraform, as far as tests ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hcl2

FOLDER = Path(__file__).parents[1] / "deploy" / "terraform"
ACCOUNTS = ("worker", "launcher", "publisher", "checker", "scheduler", "pubsub")
_NAMES = r"\blocal\.(" + "|".join(ACCOUNTS) + r")\b|\bvar\.(publishers|launchers)\b"


class Grant(NamedTuple):
    """Who may do what on what."""

    who: str
    role: str
    on: str


@cache
def files() -> dict[str, dict[str, Any]]:
    """What each file holds, parsed; block labels and texts keep their quotes."""
    return {path.name: hcl2.loads(path.read_text()) for path in sorted(FOLDER.glob("*.tf"))}


def blocks(kind: str) -> Iterator[tuple[str, Any]]:
    """Name and body of all blocks such as `variable` and `output`."""
    for parsed in files().values():
        for block in parsed.get(kind, ()):
            yield from ((name.strip('"'), body) for name, body in block.items())


def resources(*kinds: str) -> dict[str, Any]:
    """Bodies by `kind.name`; of all kinds if none is named."""
    return {
        f"{kind}.{name.strip(chr(34))}": body
        for kind, named in blocks("resource")
        for name, body in named.items()
        if not kinds or kind in kinds
    }


def local(name: str) -> Any:
    """A value of some `locals`."""
    [found] = [
        block[name]
        for parsed in files().values()
        for block in parsed.get("locals", ())
        if name in block
    ]
    return found


def text(value: Any) -> str:
    """A literal without its quotes."""
    return str(value).removeprefix('"').removesuffix('"').replace('\\"', '"')


def grants() -> Iterator[Grant]:
    """All that is granted, by the names of accounts."""
    for name, body in resources().items():
        if "_iam_" not in name:
            continue
        who = f"{body['member']} {body.get('for_each', '')}"
        if "secret_grants" in who:
            who += str(local("secret_readers"))
        found = [match[1] or match[2] for match in re.finditer(_NAMES, who)]
        assert found, name
        for account in dict.fromkeys(found):
            yield Grant(account, text(body["role"]), _target(name, body))


def _target(name: str, body: dict[str, Any]) -> str:
    kind = name.partition(".")[0]
    if kind == "google_project_iam_member":
        return "project"
    for argument in ("topic", "subscription", "bucket", "dataset_id", "secret_id", "repository",
                     "service_account_id", "name"):  # fmt: skip
        if argument in body:
            [of] = re.findall(r"google_\w+\.(\w+)", body[argument])
            return f"{argument.removesuffix('_id').replace('name', 'job')} {of}"
    raise AssertionError(name)
