"""Prints what holds for a command, and where each value comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from pipelines.config.environment import Environment
from pipelines.config.file import listed, quoted
from pipelines.config.options import ENV, environment, load_models
from pipelines.render import grid
from pipelines.spaces import DEFAULT_SPACE, space_named
from pipelines.units import timespan_text
from schemas import ModelSettings

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
_PRIVATE = re.compile(r"(?i)([\w.-]*(?:credential|key|password|secret|token)[\w.-]*)=.+")


def print_config(console: Console, words: Sequence[str]) -> None:
    """Options of a command, spaces and settings of models.

    Raises:
        click.UsageError: no such command.
        ConfigurationError: a file, package or setting that cannot be used.
    """
    context = _context(words)
    ENV.handle_parse_result(context, {}, [])
    with context.scope(cleanup=False):
        found = environment()
        console.print(_heading(found), soft_wrap=True, markup=False)
        package = _print_options(console, context, found)
        if package:
            _print_arize(console, found, package)


def _context(words: Sequence[str]) -> click.Context:
    here = click.get_current_context()
    command, name = here.find_root().command, ""
    for word in words:
        below = command.commands if isinstance(command, click.Group) else {}
        if word not in below:
            raise click.UsageError(f"no command {word} in weighbridge{name}: {listed(below)}")
        command, name = below[word], f"{name} {word}"
    return click.Context(command, parent=here, info_name=name.strip())


def _heading(found: Environment) -> str:
    if not found.file:
        return "no weighbridge.toml in this folder"
    name = f"environment {found.name}" if found.name else "no environment chosen"
    others = [quoted(other) for other in found.others if other != found.name]
    return f"{found.file}, {name}" + (f"; it also has {listed(others)}" if others else "")


def _print_options(console: Console, context: click.Context, found: Environment) -> str:
    """Print the options, and give the package of extractors, "" if the command takes none."""
    table, package = grid("option", "value", "from"), ""
    for option in context.command.params:
        name = str(option.name)
        if not (isinstance(option, click.Option) and option.expose_value):
            continue
        value, source = option.consume_value(context, {})
        package = str(value) if name == "extractors_package" else package
        place = "default"
        if source is ParameterSource.DEFAULT_MAP:
            place = found.options[name].where
        elif source is ParameterSource.ENVIRONMENT:
            place = str(option.envvar)
        elif isinstance(option.show_default, str):
            value = option.show_default
        table.add_row(name, *map(_escaped, (_shown(value), place)))
    console.print(table)
    return package


def _print_arize(console: Console, found: Environment, package: str) -> None:
    extractors = load_models(package)
    used = {entry.settings.arize_space for entry in extractors.values() if entry.pushed}
    used = {"" if name == DEFAULT_SPACE else name for name in used}
    spaces = grid("space", "space id", "key", "look-back", "from")
    for name in sorted(used | set(found.spaces)):
        space = space_named(name, found.spaces.values())
        place = found.places.get(name, "default")
        texts = (name or DEFAULT_SPACE, str(space.id), str(space.api_key))
        spaces.add_row(*map(_escaped, (*texts, _shown(space.look_back), place)))
    console.print(spaces)
    models = grid("model", "setting", "value", "from")
    usual = dict(ModelSettings())
    for model_id, kind in sorted(extractors):
        entry = extractors[model_id, kind]
        # Those of actuals are the same, unless they have their own.
        prediction = extractors.get((model_id, "prediction"))
        if kind == "actual" and prediction and prediction.settings == entry.settings:
            continue
        own = found.models.get(model_id, {})
        for name, value in entry.settings:
            if name in own or value != usual[name]:
                place = own[name].where if name in own else _near(entry.place)
                models.add_row(model_id, name, *map(_escaped, (_shown(value), place)))
    console.print(models)


def _near(place: str) -> str:
    """A place in a file, from this folder if it is below."""
    return place.removeprefix(f"{Path.cwd()}/")


def _shown(value: Any) -> str:
    """A value as text, without passwords that someone put into an address or a property."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return timespan_text(value)
    if value in (None, "") or type(value).__name__ == "Sentinel":
        return "-"
    return _PRIVATE.sub(r"\1=(not shown)", _PASSWORD.sub("(not shown)", str(value)))


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
