"""What the launcher of the flex template runs: `weighbridge run`, with a template's arguments.

Those are text, and each has one value: a flag is `--name=true`, and an option that may be given
several times holds its values in one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import click

from pipelines.deploy.template import IMAGE, NOT_STREAMING, SEPARATOR, parameters
from pipelines.options import normalized, unknown_beam_args

_WORDS = {"true": True, "false": False}


def run_arguments(argv: Iterable[str]) -> list[str]:
    """The arguments of `weighbridge` for those that the launcher gives.

    What neither we nor Beam know is left out: the launcher adds words of its own, and Dataflow has
    held a user's against the template's parameters.

    Raises:
        click.UsageError: a parameter that no streaming run takes, or that lacks a value.
    """
    ours = {str(option.name): option for option in parameters()}
    own: list[str] = []
    beams: list[str] = []
    for word in normalized(argv):
        name, equals, value = word.removeprefix("--").partition("=")
        if name in NOT_STREAMING - {"streaming"}:
            raise click.UsageError(f"--{name} is not for a streaming job; drop it")
        if name not in ours:
            beams += [word] if name != "streaming" else []
        elif equals:
            own += _given(ours[name], value)
        else:
            raise click.UsageError(f"--{name} lacks its value; write --{name}=VALUE")
    known = list(_known(beams))
    if not any(word.startswith(f"--{IMAGE}=") for word in known):
        raise click.UsageError(
            f"{IMAGE} is missing: name the image of the template, or workers lack the package"
        )
    # Else the launcher would live as long as the job.
    return ["run", "--streaming", *own, *known, "--no_wait_until_finish"]


def launch(argv: Sequence[str]) -> None:
    """Submit the job and exit, as the command does."""
    from pipelines.cli import main

    try:
        arguments = run_arguments(argv)
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    main(arguments)


def _given(option: click.Option, value: str) -> Iterator[str]:
    name = f"--{option.name}"
    if option.is_flag:
        if value.lower() not in _WORDS:
            raise click.UsageError(f"{name} takes true or false")
        yield from [name] if _WORDS[value.lower()] else []
    else:
        for each in value.split(SEPARATOR) if option.multiple else [value]:
            if each.strip():
                yield f"{name}={each.strip()}"


def _known(words: Sequence[str]) -> Iterator[str]:
    unknown = set(unknown_beam_args(words)) if words else set()
    for word in words:
        if word in unknown:
            logging.warning("the launcher's %s is left out", word.partition("=")[0])
        else:
            yield word
