"""The options of `weighbridge run`, and what is said about wrong ones. Imports no Beam."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipelines.config.environment import Environment
from pipelines.config.options import CONFIG_PARAMETERS, environment
from pipelines.place import PLACE_PARAMETERS, Place, check_place
from pipelines.selection import Selection
from pipelines.units import Duration, Size

if TYPE_CHECKING:
    from extractors import Extractors

DEFAULT_PACKAGE = "extractors"
_SUBSCRIPTION = re.compile(r"projects/[^/]+/subscriptions/[^/]+")
_FLAG = re.compile(r"--([A-Za-z][\w-]*)(=.*)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Place):
    """What one run reads, where it keeps things and where it pushes."""

    input_files: str
    input_subscription: str
    follow: bool
    exit_when_idle: float | None
    streaming: bool
    commit_interval: float
    archive_age: float
    archive_bytes: int
    extractors_package: str
    exclude_model: tuple[str, ...] = ()
    arize_url: str
    no_arize: bool
    max_future: float
    max_envelope_bytes: int
    workers: int
    quarantine: bool
    beam_args: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    selection: Selection = Selection()
    """Of the messages in the files, those that are run."""
    replay: str = ""
    """Name of a replay, under which it is noted what came out."""
    rewrite: bool = False
    """Whether rows of envelopes that the tables hold are replaced, not left out."""

    def load(self) -> Extractors:
        """The extractors of the run, with the settings that the environment gives their models.

        Raises:
            ConfigurationError: a package, module or setting that cannot be used.
        """
        from extractors import load_extractors

        found = load_extractors(self.extractors_package, self.exclude_model)
        return self.environment.configured(found, some_left_out=bool(self.exclude_model))

    @property
    def follows(self) -> bool:
        """Whether it goes on until it is stopped."""
        return self.follow or bool(self.input_subscription)

    @property
    def quarantines(self) -> bool:
        """Whether models that harm the others are set aside."""
        return self.quarantine or self.follows

    @property
    def interval(self) -> float | None:
        """Seconds from commit to commit, of runs without end."""
        return self.commit_interval if self.follows else None

    @property
    def archive(self) -> Path:
        """Where messages of a subscription are put before they are acknowledged."""
        return self.local_home("following").resolve() / "archive"


NOTHING_OF_HERE = (
    # To Dataflow Beam would send what the launching script has imported, else,
    "--no_save_main_session",
    # and stage a list of this machine's packages, with the path of its interpreter.
    "--experiments=disable_logging_submission_environment",
)
"""Arguments of Beam that keep the launching machine out of a job."""
PACKAGE = click.Option(
    ["--extractors_package"],
    default=DEFAULT_PACKAGE,
    show_default=True,
    metavar="PACKAGE",
    help="Package whose modules register the extractors.",
)
EXCLUDE = click.Option(
    ["--exclude_model"],
    multiple=True,
    metavar="MODEL",
    help="Leave a model out, by its id or its module's name, also one whose module cannot be "
    "imported: its envelopes are parked. More than once for several.",
)
RUN_PARAMETERS: list[click.Parameter] = [
    click.Option(
        ["--input_files"],
        default="",
        metavar="GLOB",
        help="Archive files (Avro) to read, also of gs:// and s3://, ** for any depth; a folder "
        "means all in it.",
    ),
    click.Option(
        ["--input_subscription"],
        default="",
        metavar="NAME",
        help="Pub/Sub subscription to follow instead, projects/P/subscriptions/S.",
    ),
    click.Option(["--follow"], is_flag=True, help="Go on with files that appear later."),
    click.Option(
        ["--exit_when_idle"],
        type=Duration(),
        help="Stop following once nothing has come for as long, e.g. 30s.",
    ),
    click.Option(
        ["--streaming"],
        is_flag=True,
        help="Run the subscription as one unbounded Beam job, not in batches on this machine.",
    ),
    click.Option(
        ["--commit_interval"],
        type=Duration(),
        show_default="5s, with --streaming or --tables bigquery 5m",
        help="Time from commit to commit when following.",
    ),
    *PLACE_PARAMETERS,
    PACKAGE,
    EXCLUDE,
    click.Option(
        ["--arize_url"],
        default="",
        metavar="URL",
        help="Push to this address instead of Arize's own, e.g. a local receiver.",
    ),
    click.Option(
        ["--no_arize"], is_flag=True, help="Fill the tables only; nothing is queued for Arize."
    ),
    click.Option(
        ["--max_future"],
        type=Duration(),
        default="10m",
        show_default=True,
        help="How far an event may lie ahead of its publish time.",
    ),
    click.Option(
        ["--max_envelope_bytes"],
        type=click.IntRange(min=1),
        default=10 << 20,
        show_default=True,
        help="Most payload bytes of one envelope.",
    ),
    click.Option(
        ["--workers"],
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes that share the files of a batch.",
    ),
    click.Option(
        ["--quarantine"],
        is_flag=True,
        help="Park the envelopes of models that keep failing or take too long, as following does.",
    ),
    click.Option(
        ["--archive_age"],
        type=Duration(),
        default="7d",
        show_default=True,
        help="How long messages of a subscription are kept once they are in the tables.",
    ),
    click.Option(
        ["--archive_bytes"],
        type=Size(),
        default="10GB",
        show_default=True,
        help="How much of them is kept at most; what is not in the tables yet is never removed.",
    ),
]
RUN_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True}


def normalized(argv: Iterable[str]) -> list[str]:
    """The arguments with flags spelt with underscores; hyphens mean the same."""
    words = []
    for word in argv:
        found = _FLAG.fullmatch(word)
        if found:
            word = f"--{found[1].replace('-', '_')}{found[2] or ''}"
        words.append(word)
    return words


def run_options(parameters: dict[str, Any], beam_args: Sequence[str]) -> RunOptions:
    """The options of a parsed command line.

    Raises:
        click.UsageError: a flag that neither we nor Beam know, with a suggestion.
    """
    check_beam_args(beam_args, RUN_PARAMETERS)
    _check_input(parameters)
    check_place(parameters)
    if parameters["workers"] > 1 and beam_args:
        raise click.UsageError(
            "--workers is for this machine, and other runners have options of their own; drop it, "
            f"or drop {beam_args[0]}"
        )
    if parameters["no_arize"] and parameters["arize_url"]:
        raise click.UsageError("--arize_url and --no_arize contradict each other; drop one")
    if parameters["commit_interval"] is None:
        often = parameters["tables"] == "iceberg" and not parameters["streaming"]
        parameters["commit_interval"] = 5.0 if often else 300.0
    return RunOptions(**parameters, beam_args=tuple(beam_args), environment=environment())


def run_defaults() -> dict[str, Any]:
    """The parameters of a run of which nothing is given."""
    with click.Command("run", params=RUN_PARAMETERS).make_context("weighbridge run", []) as context:
        return dict(context.params)


def parse_run(argv: Sequence[str]) -> RunOptions:
    """The options of a run, as the command line and `weighbridge.toml` give them.

    Raises:
        click.UsageError: anything wrong with them.
        ConfigurationError: anything wrong with the file.
    """
    parameters = [*RUN_PARAMETERS, *CONFIG_PARAMETERS]
    command = click.Command("run", params=parameters, context_settings=RUN_SETTINGS)
    with command.make_context("weighbridge run", normalized(argv)) as context:
        return run_options(context.params, context.args)


def _check_input(parameters: dict[str, Any]) -> None:
    files, subscription = parameters["input_files"], parameters["input_subscription"]
    if not files and not subscription:
        raise click.UsageError(
            "--input_files is missing: name archive files, e.g. 'archive/*.avro'; or a Pub/Sub "
            "subscription with --input_subscription"
        )
    if files and subscription:
        raise click.UsageError("--input_files and --input_subscription: name one of them")
    if subscription and not _SUBSCRIPTION.fullmatch(subscription):
        raise click.UsageError(
            f"--input_subscription: {subscription} is not of the form projects/P/subscriptions/S"
        )
    if parameters["follow"] and not files:
        raise click.UsageError("--follow is for --input_files; a subscription is always followed")
    if parameters["follow"] and "://" in files:
        raise click.UsageError(
            "--follow is for folders of this machine; run again for what has come since, or follow "
            "an --input_subscription"
        )
    if parameters["streaming"] and not subscription:
        raise click.UsageError("--streaming reads from Pub/Sub: name an --input_subscription")
    if parameters["streaming"] and (parameters["exit_when_idle"] or parameters["workers"] > 1):
        raise click.UsageError("--exit_when_idle and --workers are not for --streaming; drop them")
    if parameters["exit_when_idle"] is not None and not (parameters["follow"] or subscription):
        raise click.UsageError("--exit_when_idle needs --follow: other runs end by themselves")


def check_beam_args(
    words: Sequence[str], parameters: Sequence[click.Parameter], command: str = "run"
) -> None:
    """Refuse words that are no options of Beam.

    Args:
        words: what is left of a command line.
        parameters: those of the command, for a suggestion.
        command: its name.

    Raises:
        click.UsageError: there is one, or its value is none that it takes.
    """
    unknown = unknown_beam_args(words) if words else []
    if not unknown:
        return
    word = unknown[0].partition("=")[0]
    ours = [flag for parameter in parameters for flag in parameter.opts]
    near = get_close_matches(word, [*ours, *_beam_parser()._option_string_actions], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; see `weighbridge {command} --help`"
    raise click.UsageError(f"no such option: {word}{hint}")


def unknown_beam_args(words: Sequence[str]) -> list[str]:
    """The words that are no option of Beam's, nor a value of one.

    Raises:
        click.UsageError: a value that an option does not take.
    """
    found: list[str] = _beam_parser().parse_known_args(list(words))[1]
    return found


def is_beam_option(name: str) -> bool:
    """Whether Beam has an option of that name, without its hyphens."""
    return f"--{name}" in _beam_options()


@lru_cache
def _beam_options() -> frozenset[str]:
    return frozenset(_beam_parser()._option_string_actions)


def _beam_parser() -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    class Parser(_BeamArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise click.UsageError(message)

    parser = Parser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser
