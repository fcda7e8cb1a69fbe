"""What a running job keeps state by: a graph of which this is equal can take its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2 as model
from apache_beam.portability.api import standard_window_fns_pb2 as windows
from google.protobuf.json_format import MessageToDict
from google.protobuf.wrappers_pb2 import BytesValue

_PARDO = "beam:transform:pardo:v1"
_FIXED = "beam:window_fn:fixed_windows:v1"
_PICKLED = "beam:coder:pickled_python:v1"

Step = dict[str, Any]


def fingerprint(proto: model.Pipeline) -> dict[str, Step]:
    """The steps of a graph by label; a dict of what JSON knows, equal for each build of a graph.

    It does not see what a coder is pickled with, how a DoFn uses its state, nor the code of any
    step. Nothing of the graph is unpickled.

    Args:
        proto: a whole pipeline, as a job's staged `pipeline.pb` holds it.

    Returns:
        By label of each step that is not made of others: `urn`; `inputs`, the steps that it takes
        from, with the tag of an output that is not the main one; `outputs`, the coder of each by
        tag; `windows`, of its outputs; and, where it has any, `state`, `timers`, `side_inputs` and
        `restriction`.
    """
    parts = proto.components
    leaves = {id: step for id, step in parts.transforms.items() if not step.subtransforms}
    made_by = {
        output: f"{step.unique_name}.{tag}" if tag not in ("None", "out") else step.unique_name
        for step in leaves.values()
        for tag, output in step.outputs.items()
    }
    return {
        step.unique_name: {
            "urn": step.spec.urn,
            "inputs": sorted(made_by[id] for id in step.inputs.values()),
            "outputs": {
                tag: _coder(parts, parts.pcollections[id].coder_id)
                for tag, id in sorted(step.outputs.items())
            },
            "windows": _windows(parts, step.outputs.values()),
            **_kept(parts, step.spec.urn, step.spec.payload),
        }
        for step in sorted(leaves.values(), key=lambda step: step.unique_name)
    }


def unstable(labels: Iterable[str]) -> list[str]:
    """Labels that change with an edit of a file: they hold the line of a lambda."""
    return sorted(label for label in labels if "<lambda at" in label)


def _coder(parts: model.Components, id: str) -> str:
    coder = parts.coders[id]
    name = coder.spec.urn
    if name == _PICKLED:
        # The class stands before what it is pickled to.
        text = BytesValue.FromString(coder.spec.payload).value
        name = text.partition(b"$")[0].decode("ascii", "replace")
    inner = ",".join(_coder(parts, each) for each in coder.component_coder_ids)
    return f"{name}({inner})" if inner else name


def _windows(parts: model.Components, outputs: Iterable[str]) -> list[Step]:
    ids = {parts.pcollections[output].windowing_strategy_id for output in outputs}
    found = {
        repr(window): window for window in (_window(parts.windowing_strategies[id]) for id in ids)
    }
    return [found[text] for text in sorted(found)]


def _window(strategy: model.WindowingStrategy) -> Step:
    spec = strategy.window_fn
    found: Step = {
        "fn": spec.urn,
        "trigger": MessageToDict(strategy.trigger),
        "accumulation": model.AccumulationMode.Enum.Name(strategy.accumulation_mode),
        "allowed_lateness_ms": strategy.allowed_lateness,
    }
    if spec.urn == _FIXED:
        size = windows.FixedWindowsPayload.FromString(spec.payload).size
        found["size_ms"] = size.ToMilliseconds()
    return found


def _kept(parts: model.Components, urn: str, payload: bytes) -> Mapping[str, Any]:
    if urn != _PARDO:
        return {}
    step = model.ParDoPayload.FromString(payload)
    found: Step = {
        "state": {name: spec.WhichOneof("spec") for name, spec in sorted(step.state_specs.items())},
        "timers": sorted(step.timer_family_specs),
        "side_inputs": sorted(step.side_inputs),
        "restriction": step.restriction_coder_id and _coder(parts, step.restriction_coder_id),
    }
    return {name: value for name, value in found.items() if value}
