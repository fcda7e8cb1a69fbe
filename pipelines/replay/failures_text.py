"""What `weighbridge failures` and `weighbridge models --parked` print."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.text import Text

from extractors import Extractors, load_extractors
from pipelines.address import Folder
from pipelines.decode import decode
from pipelines.render import grid
from pipelines.replay.groups import Group, grouped
from pipelines.replay.letters import open_messages
from pipelines.replay.parked import parked_models, printable
from pipelines.selection import EVERYTHING, Selection
from pipelines.store import Store
from pipelines.stored import FAILURES, PARKED, failed_id
from schemas import ConfigurationError, RecordError
from weighbridge.archive import Message

MAX_SHOWN, MAX_ID = 2000, 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LIMIT = 1 << 62


def print_failures(console: Console, home: Folder, package: str, selection: Selection) -> None:
    """One line for each group, and the message below it."""
    groups = grouped(open_messages(Store(home), FAILURES, selection))
    if not groups:
        chosen = selection != EVERYTHING
        console.print(f"no dead letters{' are selected' if chosen else ''}")
        return
    owners = _owners(package)
    table = grid("group", "envelopes", "stage", "model", "first", "last")
    table.columns[1].justify = "right"
    for group in groups:
        table.add_row(
            group.name,
            f"{group.count:,}",
            group.attributes.get("failure_stage", ""),
            Text(group.model or "-"),
            _moment(group.first),
            _moment(group.last),
        )
    console.print(table)
    for group in groups:
        console.print(Text(f"{group.name}  {_cause(group)}"), soft_wrap=True)
        whose = owners.get(group.model, "nobody is named")
        version = group.attributes.get("failure_extractor_version", "-")
        more = f"{'':8}  e.g. envelope {_id(group)}; owner: {whose}; extractor {version}"
        console.print(Text(more), soft_wrap=True, style="dim")
    console.print("more of one: weighbridge failures show GROUP")


def print_group(
    console: Console, home: Folder, package: str, selection: Selection, payload: bool
) -> None:
    """All that is known of one group; its first message's payload only if asked for.

    Raises:
        click.UsageError: no group of that name, or several.
    """
    groups = grouped(open_messages(Store(home), FAILURES, selection))
    if not selection.group:
        groups = groups[:1]
    if len(groups) != 1:
        which = ", ".join(group.name for group in groups)
        raise click.UsageError(
            f"{selection.group} begins the names of several groups: {which}"
            if groups
            else f"no dead letters of a group {selection.group}; see `weighbridge failures`"
            if selection.group
            else "no dead letters"
        )
    [group] = groups
    found = group.attributes
    for name, value in (
        ("group", group.name),
        ("model", f"{group.model or '-'}, owner {_owners(package).get(group.model, '-')}"),
        ("stage", found.get("failure_stage", "")),
        ("cause", _cause(group)),
        ("extractor", found.get("failure_extractor_version", "-")),
        ("fingerprint", found.get("failure_fingerprint", "")),
        ("envelopes", f"{group.count:,}"),
        ("published", f"{_moment(group.first)} to {_moment(group.last)}"),
        ("example", _id(group)),
    ):
        console.print(Text(f"{name:11}  {value}"), soft_wrap=True)
    if group.again:
        console.print(f"{'':11}  {group.again:,} had failed for another cause before")
    if trace := found.get("failure_traceback"):
        console.print("in the extractor's code")
        console.print(Text("\n".join(f"  {line}" for line in trace.splitlines())), soft_wrap=True)
    console.print("original bytes")
    for file, position in group.places:
        console.print(Text(f"  {home / file}, message {position}"), soft_wrap=True)
    if group.count > len(group.places):
        console.print(f"  and {group.count - len(group.places):,} more")
    if payload:
        _print_payload(console, group.example.message)


def print_parked(console: Console, home: Folder) -> None:
    """Each parked model id, with the shape of an example: keys and types, no values."""
    found = parked_models(open_messages(Store(home), PARKED, EVERYTHING))
    if not found:
        console.print("nothing is parked")
        return
    table = grid("model id", "envelopes", "first", "last")
    table.columns[1].justify = "right"
    for entry in found:
        table.add_row(
            Text(entry.model_id), f"{entry.envelopes:,}", _moment(entry.first), _moment(entry.last)
        )
    console.print(table)
    for entry in found:
        console.print(Text(f"{entry.model_id}, an example"), style="bold", soft_wrap=True)
        for line in entry.shape or ["cannot be read as JSON"]:
            console.print(Text(f"  {line}"), soft_wrap=True)


def _cause(group: Group) -> str:
    error = group.attributes.get("failure_error", "")
    return group.message if error in group.message else f"{error}: {group.message}"


def _owners(package: str) -> dict[str, str]:
    """Owners by model id. A package that cannot be loaded must not hide what went wrong."""
    try:
        extractors: Extractors = load_extractors(package)
    except ConfigurationError:
        return {}
    found = {item.model_id: item.settings.owner for item in extractors.values()}
    return {model_id: owner for model_id, owner in found.items() if owner}


def _print_payload(console: Console, letter: Message) -> None:
    try:
        decoded = decode(letter, _NO_LIMIT)
        envelopes = [] if isinstance(decoded, dict) else list(decoded.envelopes())
    except RecordError:
        envelopes = []
    if not envelopes:
        console.print(f"payload: {len(letter.data):,} bytes of the message as it came")
        console.print(Text(f"  {_bytes(letter.data)}"), soft_wrap=True)
        return
    [envelope, *_] = envelopes
    for part in ("request", "response", "context"):
        try:
            body = getattr(envelope, f"{part}_bytes")
        except RecordError as error:
            console.print(f"{part}: {error}", markup=False)
            continue
        if body:
            console.print(f"{part}: {len(body):,} bytes")
            console.print(Text(f"  {_bytes(body)}"), soft_wrap=True)


def _bytes(data: bytes) -> str:
    shown = data[:MAX_SHOWN].decode(errors="backslashreplace")
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in shown)
    return shown if len(data) <= MAX_SHOWN else f"{shown} …"


def _id(group: Group) -> str:
    return printable(failed_id(group.example.message), MAX_ID)


def _moment(micros: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S}"
