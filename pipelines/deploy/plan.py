"""What a launch would change: options, models and steps, beside those of the running job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.deploy.fingerprint import Step
from pipelines.deploy.record import Record
from pipelines.deploy.service import Job
from pipelines.deploy.settings import Settings
from schemas import ConfigurationError


@dataclass
class Plan:
    """A new job, or an update of the one that runs.

    Attributes:
        running: the job that is to be updated.
        before: what it runs, None if that is not known any more.
        mapping: old to new names of steps.
    """

    settings: Settings
    after: Record
    running: Job | None = None
    before: Record | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)

    @property
    def gone(self) -> list[str]:
        """Steps of the running job that have no successor."""
        if self.before is None:
            return []
        return sorted({*self.before.steps} - {*self.after.steps} - {*self.mapping})

    @property
    def changed(self) -> dict[str, list[str]]:
        """Steps that both jobs have, and what of them differs; by the names of the new job."""
        found = {}
        for old, step in (self.before.steps if self.before else {}).items():
            name = self.mapping.get(old, old)
            if name in self.after.steps and (parts := _apart(step, self.after.steps[name])):
                found[name] = parts
        return found


def plan_of(settings: Settings, after: Record, running: Job | None, before: Record | None) -> Plan:
    """The plan, with the mapping of steps.

    Raises:
        ConfigurationError: a mapping without a running job, or of steps that there are not.
    """
    if not settings.transform_name_mapping:
        return Plan(settings, after, running, before)
    mapping = _mapping(settings.transform_name_mapping)
    if running is None:
        raise ConfigurationError(
            f"--transform_name_mapping is for updates, and no job {settings.job_name} runs; drop it"
        )
    for old, new in mapping.items():
        if before is not None and old not in before.steps:
            raise ConfigurationError(f"--transform_name_mapping: the running job has no step {old}")
        if new and new not in after.steps:
            raise ConfigurationError(f"--transform_name_mapping: the new job has no step {new}")
    return Plan(settings, after, running, before, mapping)


def print_plan(console: Console, plan: Plan) -> None:
    """Print it: all of a new job, else what differs."""
    settings, running, before = plan.settings, plan.running, plan.before
    job = f"{settings.job_name} in {settings.project}, {settings.region}"
    if running is None:
        _print(console, f"{job}: a new job")
        before = Record({}, {})
    else:
        since = f" of {running.created:%Y-%m-%d %H:%M:%S}" if running.created else ""
        _print(console, f"{job}: an update of job {running.id}{since}, which is {running.state}")
        if before is None:
            _print(console, "  what it runs is not known: its staged graph is gone, or not ours")
            before = Record({}, {})
    for what in ("options", "models"):
        lines = _differences(getattr(before, what), getattr(plan.after, what))
        _print(console, f"  {what}: {'' if lines else 'as before'}".rstrip())
        for line in lines:
            _print(console, f"    {line}")
    _print_steps(console, plan)


def _print_steps(console: Console, plan: Plan) -> None:
    count = len(plan.after.steps)
    if plan.before is None:
        _print(console, f"  steps: {count}")
        return
    new = {*plan.after.steps} - {*plan.before.steps} - {*plan.mapping.values()}
    changed = [f"- {name}" for name in plan.gone] + [f"+ {name}" for name in sorted(new)]
    changed += [f"! {name}  {', '.join(parts)}" for name, parts in sorted(plan.changed.items())]
    renamed = [f"~ {old} -> {name or '(none)'}" for old, name in sorted(plan.mapping.items())]
    _print(console, f"  steps: {count}{', ' if changed or renamed else ' as before'}".rstrip(", "))
    for line in changed + renamed:
        _print(console, f"    {line}")
    if plan.gone:
        _print(
            console,
            "  steps that are gone take what they hold with them, and Dataflow refuses the update: "
            "name their successors with --transform_name_mapping, or --drain this job first",
        )
    if plan.changed:
        _print(
            console,
            "  a step marked with ! would read otherwise what the running job has left there, and "
            "Dataflow refuses such an update: --drain this job first",
        )


def _apart(before: Step, after: Step) -> list[str]:
    """What of a step differs that decides how it reads what the running job holds."""
    return [
        part
        for part in sorted({*before, *after} - {"inputs"})
        if _held(before, part) != _held(after, part)
    ]


def _held(step: Step, part: str) -> Any:
    if part != "windows":
        return step.get(part)
    # Dataflow lets a trigger change, of which --commit_interval is a part.
    return [{k: v for k, v in window.items() if k != "trigger"} for window in step["windows"]]


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None:
            lines.append(f"+ {name}  {new}")
        elif new is None:
            lines.append(f"- {name}  {old}")
        elif old != new:
            lines.append(f"~ {name}  {old} -> {new}")
    return lines


def _mapping(path: str) -> dict[str, str]:
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigurationError(f"--transform_name_mapping {path}: {error.strerror}") from None
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ConfigurationError(
            f"--transform_name_mapping: {path} is no JSON object of old to new names of steps"
        )
    return found


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
