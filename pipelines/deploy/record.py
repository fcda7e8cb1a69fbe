"""What a job runs, as it is noted in its graph and read again from the staged one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2
from google.protobuf.message import DecodeError

from extractors import Extractors
from pipelines.address import folder_of
from pipelines.deploy.fingerprint import Step, fingerprint
from pipelines.deploy.settings import Settings
from pipelines.options import RunOptions
from pipelines.store import Store

KEY = "weighbridge"
"""Of the item of the graph's display data, which travels in it and is shown to nobody's harm."""
_UNNOTED = {"beam_args", "environment", "selection", "setup_file", "extra_package"}
_OF_FOLLOWING = {"archive_age", "archive_bytes", "exit_when_idle", "follow", "quarantine"}
_OF_FOLLOWING |= {"workers", "input_files", "replay", "rewrite", "streaming"}


@dataclass(frozen=True)
class Record:
    """What one job runs.

    Attributes:
        options: as text, by name; those that are empty are left out.
        models: versions of extractors, by "MODEL KIND".
        steps: what `fingerprint` tells of each step that does something.
    """

    options: Mapping[str, str]
    models: Mapping[str, str]
    steps: Mapping[str, Step] = field(default_factory=dict)

    def to_json(self) -> str:
        """Options and models; steps are those of the graph that it is noted in."""
        return json.dumps({"options": dict(self.options), "models": dict(self.models)})


def record_of(settings: Settings, options: RunOptions, extractors: Extractors) -> Record:
    """What a job of these would run. There is no secret in options, and no path of this machine."""
    found: dict[str, Any] = {}
    for holder in (options, settings):
        found |= {item.name: getattr(holder, item.name) for item in fields(holder)}
    texts = {
        name: _text(value)
        for name, value in sorted(found.items())
        if name not in _UNNOTED | _OF_FOLLOWING
    }
    texts["extra_package"] = _text([path.name for path in settings.packages])
    texts["setup_file"] = Path(settings.setup_file).name
    texts["beam"] = " ".join(settings.beam_args)
    models = {f"{model} {kind}": entry.version for (model, kind), entry in extractors.items()}
    return Record(
        {name: text for name, text in texts.items() if text}, dict(sorted(models.items()))
    )


def recorded(graph: beam_runner_api_pb2.Pipeline) -> Record | None:
    """What a graph runs; None if it is none of ours."""
    steps = {name: step for name, step in fingerprint(graph).items() if step["urn"]}
    for item in graph.display_data:
        try:
            payload = beam_runner_api_pb2.LabelledPayload.FromString(item.payload)
            if payload.key == KEY:
                found = json.loads(payload.string_value)
                return Record(dict(found["options"]), dict(found["models"]), steps)
        except (DecodeError, KeyError, TypeError, ValueError):  # of another version, or nobody's
            continue
    return None


def read_staged(url: str) -> Record | None:
    """What the staged graph of a job says; None if it is not there any more, or none of ours."""
    folder, _, name = url.rpartition("/")
    try:
        data = Store(folder_of(folder)).read(name)
        return recorded(beam_runner_api_pb2.Pipeline.FromString(data))
    except (DecodeError, OSError, ValueError):
        return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g} s"
    return str(value)
