"""Once a job runs: which parked models it can take now, and their replay."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from extractors import Extractors
from pipelines.deploy.talk import Talk
from pipelines.options import RunOptions
from pipelines.replay.letters import open_messages
from pipelines.replay.parked import ParkedModel, parked_models
from pipelines.replay.plan import Sources
from pipelines.replay.show import run_and_show
from pipelines.selection import Selection
from pipelines.store import Store
from pipelines.stored import PARKED


def ready(options: RunOptions, extractors: Extractors) -> list[ParkedModel]:
    """The models with parked envelopes that are registered now."""
    known = {model_id for model_id, _ in extractors}
    found = parked_models(open_messages(Store(options.home), PARKED))
    return [model for model in found if model.model_id in known]


def show_ready(talk: Talk, options: RunOptions, extractors: Extractors) -> list[str]:
    """Name them, and give their ids."""
    found = ready(options, extractors)
    for model in found:
        talk.say(f"parked, and registered now: {model.model_id}, {model.envelopes:,}")
    if not found:
        talk.say("nothing is parked of models that are registered")
    return [model.model_id for model in found]


def replay_ready(console: Console, talk: Talk, options: RunOptions, models: list[str]) -> None:
    """Run their parked envelopes on this machine, into the same tables."""
    here = replace(options, streaming=False, input_subscription="", beam_args=())
    for model in models:
        talk.say(f"weighbridge replay --parked --model {model}")
        chosen = replace(here, selection=Selection(model))
        # In this process: the clients of Google have threads by now, and none may fork.
        run_and_show(console, chosen, Sources(parked=True), dry_run=False, forked=False)
