"""The flex template: what it asks for, which follows from the options of a run.

`python -m pipelines.deploy.template IMAGE > template.json` gives what a launch names with
--template-file-gcs-location; without an image, the metadata alone, for `gcloud … build`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from pipelines.config.options import CONFIG_PARAMETERS
from pipelines.options import RUN_PARAMETERS
from pipelines.units import Duration

NOT_STREAMING = {
    "archive_age",
    "archive_bytes",
    "exit_when_idle",
    "follow",
    "input_files",
    "quarantine",
    "streaming",
    "workers",
}
"""Options of a run that a streaming job does not have, or has always."""
IMAGE = "sdk_container_image"
"""Beam's own option; the one that each launch must give."""
_TYPES = {"input_subscription": "PUBSUB_SUBSCRIPTION", "home": "GCS_WRITE_FOLDER"}
_REQUIRED = {"input_subscription": r"projects/[^/]+/subscriptions/[^/]+", "home": r"gs://.+"}
SEPARATOR = ";"
"""Between the values of an option that a command line takes more than once."""


def parameters() -> list[click.Option]:
    """The options of a run that are parameters of the template."""
    options = [item for item in [*RUN_PARAMETERS, *CONFIG_PARAMETERS] if _is_parameter(item)]
    return [item for item in options if isinstance(item, click.Option)]


def metadata() -> dict[str, Any]:
    """What the template asks for, as Dataflow's `TemplateMetadata`."""
    return {
        "name": "Weighbridge",
        "description": "Rows of the envelopes of a Pub/Sub subscription, for all models: into "
        "tables of Iceberg or BigQuery, and to Arize.",
        "streaming": True,
        "supportsExactlyOnce": True,
        "supportsAtLeastOnce": True,
        "defaultStreamingMode": "EXACTLY_ONCE",
        "parameters": [*map(_described, parameters()), _IMAGE],
    }


def spec(image: str) -> dict[str, Any]:
    """The template, as Dataflow's `ContainerSpec`.

    Unlike what `gcloud dataflow flex-template build` writes, it says that the job is a streaming
    one and which modes it supports.
    """
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(),
        "defaultEnvironment": {"enableStreamingEngine": True},
    }


_IMAGE = {
    "name": IMAGE,
    "label": "Worker image",
    "helpText": "The image of this template: workers run what launched the job.",
    "paramType": "TEXT",
    "isOptional": False,
    "regexes": [r"^[^\s]+[:@][^\s]+$"],
}


def _is_parameter(item: click.Parameter) -> bool:
    return item.name not in NOT_STREAMING


def _described(option: click.Option) -> dict[str, Any]:
    name = str(option.name)
    found: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": _help(option),
        "paramType": _type(option),
        "isOptional": name not in _REQUIRED,
    }
    if isinstance(option.type, click.Choice):
        found["enumOptions"] = [{"value": choice, "label": choice} for choice in _choices(option)]
        found["defaultValue"] = str(option.default)
    elif regex := _regex(option):
        found["regexes"] = [regex]
    return found


def _choices(option: click.Option) -> list[str]:
    return [str(choice) for choice in getattr(option.type, "choices", ())]


def _help(option: click.Option) -> str:
    text = str(option.help).partition("  ")[0]
    if option.multiple:
        text += f" Several are separated by {SEPARATOR}"
    elif not isinstance(option.show_default, bool) and option.show_default:
        text += f" Default: {option.show_default}."
    elif option.show_default and option.name not in _REQUIRED:
        text += f" Default: {option.default}."
    return text


def _type(option: click.Option) -> str:
    if option.is_flag:
        return "BOOLEAN"
    if isinstance(option.type, click.Choice):
        return "ENUM"
    if isinstance(option.type, click.types.IntParamType):
        return "NUMBER"
    return _TYPES.get(str(option.name), "TEXT")


def _regex(option: click.Option) -> str:
    if option.is_flag:
        return "^(true|false)$"
    if isinstance(option.type, click.types.IntParamType):
        return r"^[1-9]\d*$"
    if isinstance(option.type, Duration):
        return r"^\d+(\.\d+)?(ms|s|m|h|d)$"
    own = _REQUIRED.get(str(option.name))
    return f"^{own}$" if own else ""


if __name__ == "__main__":
    print(json.dumps(spec(*sys.argv[1:]) if sys.argv[1:] else metadata(), indent=2))
