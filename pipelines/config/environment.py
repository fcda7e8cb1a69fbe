"""What `weighbridge.toml` says about one environment: options, spaces of Arize, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from pipelines.config.file import FILE, Section, Value, kind, listed, quoted, read
from pipelines.config.models import configured, model_values
from pipelines.secrets import SOURCES, Secret
from pipelines.spaces import DEFAULT_SPACE, Space
from pipelines.units import Duration, Size, timespan
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from extractors import Extractors

Options = Mapping[str, Sequence[click.Option]]
"""The options of all commands, by name."""
GIVEN_BY_HAND = ("cancel", "drain", "update", "yes")
"""Options that would do harm if a file gave them each time."""
_SECTIONS = ("arize", "models")
_COUNT = click.IntRange(min=1)
_KINDS: list[tuple[type[Any], tuple[type, ...], str]] = [
    (Duration, (str,), 'text such as "5m"'),
    (Size, (str, int), 'a number, or text such as "10GB"'),
    (click.types.IntParamType, (int,), "a whole number"),
    (click.types.FloatParamType, (int, float), "a number"),
    (click.types.BoolParamType, (bool,), "true or false"),
    (click.ParamType, (str,), "text"),
]


@dataclass(frozen=True)
class Environment:
    """An environment of `weighbridge.toml`; as it is made, one that says nothing.

    Args:
        name: "" if none was chosen: what is true of all of them.
        file: "" if there is none.
        others: the environments of the file.
        options: by name of the option.
        spaces: by name, those of the file.
        places: of each space, where the file describes it.
        models: values of settings, by model id and setting.
    """

    name: str = ""
    file: str = ""
    others: tuple[str, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict)
    spaces: Mapping[str, Space] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def configured(self, extractors: Extractors, some_left_out: bool = False) -> Extractors:
        """The extractors, with the settings that this environment gives their models.

        Args:
            extractors: what `load_extractors` gave.
            some_left_out: whether there may be settings of models that are not among them.

        Raises:
            ConfigurationError: a model or a value that cannot be.
        """
        return configured(extractors, self.models, some_left_out)


def read_environment(
    file: str, name: str, options: Options, replaces: Mapping[str, Sequence[str]]
) -> Environment:
    """The environment of that name; "" is what is true of all.

    Args:
        file: "" for `weighbridge.toml`, if it is there.
        name: of an `[env.NAME]`.
        options: what may stand in the file.
        replaces: options that one which stands in an environment takes the place of.

    Raises:
        ConfigurationError: no such file or environment, or anything wrong in what is read.
    """
    if not file and not Path(FILE).is_file():
        if name:
            raise ConfigurationError(
                f"--env {name}: there is no {FILE} in this folder; name a file with --config"
            )
        return Environment()
    top = read(Path(file or FILE))
    others = [section.names[-1] for section in top.sections("env")]
    if name and name not in others:
        there = f"it has {listed(map(quoted, others))}" if others else "it has no [env.NAME]"
        raise ConfigurationError(f"--env {name} is not in {top.file}: {there}")
    environment = Environment(name, top.file, tuple(others))
    layers = [Section(top.file, (), {k: v for k, v in top.table.items() if k != "env"})]
    layers += [section for section in top.sections("env") if section.names[-1] == name]
    for layer in layers:
        environment = _over(environment, layer, options, replaces)
    return environment


def over(
    lower: Mapping[str, Value], upper: Mapping[str, Any], replaces: Mapping[str, Sequence[str]]
) -> dict[str, Value]:
    """The lower options, without those that one of the upper ones takes the place of."""
    gone = {
        other
        for name, value in upper.items()
        if name not in lower or lower[name].value != value
        for other in replaces.get(name, ())
        if other not in upper
    }
    return {name: value for name, value in lower.items() if name not in gone}


def _over(
    lower: Environment, section: Section, options: Options, replaces: Mapping[str, Sequence[str]]
) -> Environment:
    own: dict[str, Any] = {}
    for key, value in section.table.items():
        if key not in _SECTIONS:
            if key not in options:
                _not_ours(key, section)
            section.known(key, [*options, *_SECTIONS], "option or section")
            own[key] = _option_value(options[key], value, section)
    placed = {name: Value(value, section.where) for name, value in own.items()}
    environment = replace(lower, options={**over(lower.options, own, replaces), **placed})
    models = {name: dict(values) for name, values in lower.models.items()}
    for model in section.sections("models"):
        models.setdefault(model.names[-1], {}).update(model_values(model))
    return _with_spaces(replace(environment, models=models), section)


def _not_ours(key: str, section: Section) -> None:
    """Refuse an option that there is, but not in a file."""
    from pipelines.options import is_beam_option  # which takes Beam's to know

    if key in GIVEN_BY_HAND:
        raise section.wrong(f"{key} is given by hand only, as --{key}; drop it")
    if is_beam_option(key):
        raise section.wrong(
            f"{key} is an option of Apache Beam, which are given by hand only: --{key}=…"
        )


def _option_value(options: Sequence[click.Option], value: Any, section: Section) -> Any:
    for option in options:
        name = str(option.name)
        if option.multiple:
            value = _many(value)
            if not isinstance(value, list):
                raise section.wrong(f"{name} takes a list, and not {kind(value)}")
        values = value if option.multiple else [value]
        for each in values:
            types, what = next(
                (types, what) for type_, types, what in _KINDS if isinstance(option.type, type_)
            )
            fits = isinstance(each, types) and (bool in types or not isinstance(each, bool))
            if not fits:
                plural = "a list, each " if option.multiple else ""
                raise section.wrong(f"{name} takes {plural}{what}, and not {kind(each)}")
        try:
            option.type_cast_value(click.Context(click.Command("config")), value)
        except click.BadParameter as error:
            raise section.wrong(f"{name}: {error.message}") from None
        except (OverflowError, ValueError):  # more digits than Python reads
            raise section.wrong(f"{name} is out of range") from None
    return value


def _many(value: Any) -> Any:
    """Values of an option that may be given more than once: a list; a table is KEY=VALUE each."""
    if isinstance(value, dict):
        return [f"{k}={v}" if isinstance(v, str) else v for k, v in value.items()]
    return value


def _with_spaces(lower: Environment, section: Section) -> Environment:
    spaces, places = dict(lower.spaces), dict(lower.places)
    if arize := section.below("arize"):
        for key in arize.table:
            arize.known(key, ["spaces"], "section")
        for space in arize.sections("spaces"):
            name = "" if space.names[-1] == DEFAULT_SPACE else space.names[-1]
            spaces[name] = _space(spaces.get(name, Space(name)), space)
            places[name] = space.where
    return replace(lower, spaces=spaces, places=places)


def _space(space: Space, section: Section) -> Space:
    kinds = {name: kind for name, kind in get_type_hints(Space).items() if name != "name"}
    for key, value in section.table.items():
        section.known(key, kinds, "setting of a space")
        if kinds[key] is timedelta:
            own: Any = _time_span(key, value, section)
        elif kinds[key] is int:
            own = _option_value([click.Option([f"--{key}"], type=_COUNT)], value, section)
        else:
            own = _secret(key, value, section)
        space = replace(space, **{key: own})
    return space


def _time_span(key: str, value: Any, section: Section) -> timedelta:
    if not isinstance(value, str):
        raise section.wrong(f'{key} takes text such as "14d", and not {kind(value)}')
    try:
        return timespan(value)
    except click.BadParameter as error:
        raise section.wrong(f"{key}: {error.message}") from None


def _secret(key: str, value: Any, section: Section) -> Secret:
    if not isinstance(value, dict):
        raise section.wrong(
            f"{key} itself must not stand in a file; say where it is: "
            f'{key} = {{ env = "VARIABLE" }}, or {key} = '
            '{ secret = "projects/P/secrets/S/versions/latest" }'
        )
    if len(value) != 1 or next(iter(value)) not in SOURCES:
        raise section.wrong(f"{key} takes one of env and secret")
    [(source, name)] = value.items()
    form, example = SOURCES[source]
    if not (isinstance(name, str) and form.fullmatch(name)):
        raise section.wrong(f"{key}: {source} takes a name such as {example}, never the value")
    return Secret(source, name)
