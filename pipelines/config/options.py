"""What every command takes: `--config` and `--env`, whose file goes below flags; `--log_format`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipelines.config.environment import GIVEN_BY_HAND, Environment, over, read_environment
from pipelines.logs import FORMATS, use_json

if TYPE_CHECKING:
    from extractors import Extractors

_GIVEN, _READ = "weighbridge.given", "weighbridge.environment"
REPLACES = {
    "input_files": ("input_subscription", "streaming"),
    "input_subscription": ("input_files", "follow"),
    "no_arize": ("arize_url",),
    "sdk_container_image": ("setup_file",),
    "setup_file": ("sdk_container_image",),
    "tables": ("dataset", "staging", "catalog_uri", "warehouse", "catalog_property"),
}
"""Options that contradict one, by that one: given as a flag, it is not held up by the file's."""

CONFIG = click.Option(
    ["--config"],
    default="",
    expose_value=False,
    envvar="WEIGHBRIDGE_CONFIG",
    show_envvar=True,
    metavar="FILE",
    show_default="weighbridge.toml, if it is there",
    help="File with settings by environment.",
)


class _Env(click.Option):
    """Reads the file before any other option takes its value."""

    def handle_parse_result(
        self, context: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        result = super().handle_parse_result(context, opts, args)
        # A group's hold for its commands, and come before environment variables.
        given: dict[str, str] = context.meta.setdefault(_GIVEN, {})
        given |= {name: opts[name] for name in ("config", "env") if isinstance(opts.get(name), str)}
        own = [option for option in _options(context.command) if option.expose_value]
        if own:
            file, name = (
                given.get(str(option.name), option.value_from_envvar(context) or "")
                for option in (CONFIG, self)
            )
            context.meta[_READ] = read_environment(file, name, _all_options(), REPLACES)
            context.default_map = _defaults(context, opts, {str(option.name) for option in own})
        return result


ENV = _Env(
    ["--env"],
    default="",
    is_eager=True,
    expose_value=False,
    envvar="WEIGHBRIDGE_ENV",
    show_envvar=True,
    metavar="NAME",
    help="Take what the file says in [env.NAME], too.",
)


def _use_format(context: click.Context, option: click.Parameter, value: str) -> None:
    # A group's comes first, and is not taken back by a command to which nothing was given.
    if value == "json":
        use_json(context.command_path)


LOG_FORMAT = click.Option(
    ["--log_format"],
    type=click.Choice(FORMATS),
    default="text",
    is_eager=True,
    expose_value=False,
    callback=_use_format,
    envvar="WEIGHBRIDGE_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="How lines are written: json for Cloud Logging, an object each.",
)
CONFIG_PARAMETERS: list[click.Parameter] = [CONFIG, ENV, LOG_FORMAT]


def add_to(command: click.Command) -> None:
    """Have a command, and all below it, take `--config`, `--env` and `--log_format`."""
    command.params = [*command.params, *CONFIG_PARAMETERS]
    for child in _below(command):
        add_to(child)


def environment() -> Environment:
    """What the file says for the command that is being run; outside of one, nothing."""
    context = click.get_current_context(silent=True)
    found = context.meta.get(_READ) if context else None
    return found if isinstance(found, Environment) else Environment()


def load_models(package: str) -> Extractors:
    """The extractors of a package, with the settings that the environment gives their models.

    Raises:
        ConfigurationError: a package, module or setting that cannot be used.
    """
    from extractors import load_extractors

    return environment().configured(load_extractors(package))


def _defaults(
    context: click.Context, opts: Mapping[str, Any], names: set[str]
) -> MutableMapping[str, Any]:
    read: Environment = context.meta[_READ]
    above: dict[str, Any] = {}
    parent = context.parent
    while parent is not None:
        for name, value in parent.params.items():
            if parent.get_parameter_source(name) in _EXPLICIT:
                above.setdefault(name, value)
        parent = parent.parent
    given = {**above, **opts}
    kept = over(read.options, {k: v for k, v in given.items() if k in names}, REPLACES)
    found = {**{name: value.value for name, value in kept.items()}, **above}
    return {name: value for name, value in found.items() if name in names}


_EXPLICIT = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _below(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        yield from command.commands.values()


def _all_options() -> dict[str, list[click.Option]]:
    """By name, those of all commands that the file may hold."""
    from pipelines.cli import cli

    found: dict[str, list[click.Option]] = {}
    commands: list[click.Command] = [cli]
    while commands:
        command = commands.pop()
        commands += _below(command)
        for option in _options(command):
            if option.expose_value and option.name not in GIVEN_BY_HAND:
                found.setdefault(str(option.name), []).append(option)
    return found
