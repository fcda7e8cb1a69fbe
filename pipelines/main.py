"""One run: over the files that are there, following what arrives, or as a job of another runner."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from extractors import Extractors
from pipelines.address import absolute
from pipelines.batch import BatchRunner
from pipelines.batches import Input, cut
from pipelines.display import Display
from pipelines.follow import Follower, only_follower
from pipelines.graph import arize_access, build, outboxes, push_arguments
from pipelines.intake import Intake, Source
from pipelines.journal import Journal
from pipelines.listing import match_files
from pipelines.local import Extraction
from pipelines.maintain.keeper import KeeperThread, after_run, keeper_of
from pipelines.metrics import UNKNOWN, Counts, counts, merge
from pipelines.options import NOTHING_OF_HERE, RunOptions, parse_run
from pipelines.push import Push
from pipelines.pusher import Pusher
from pipelines.report import Report
from pipelines.room import needing_room
from pipelines.runners import check_reachable, named_runner, names_direct_runner, runs_in_memory
from pipelines.stream import ReadSubscription, build_stream
from pipelines.subscription import Subscription
from pipelines.unwritten import commit_unwritten
from pipelines.watch import WatchedFiles
from schemas import ConfigurationError


def run(argv: Sequence[str], display: Display | None = None) -> Report:
    """Read all that the arguments name, and add what is missing.

    Args:
        argv: the arguments of `weighbridge run`.
        display: is told about tables that are created or changed, and how far it is.

    Raises:
        click.UsageError: a wrong argument.
        ConfigurationError: extractors, files or settings that cannot work.
    """
    return run_with(parse_run(argv), display or Display())


def run_with(
    options: RunOptions, display: Display, forked: bool = False, given: Input | None = None
) -> Report:
    """Like `run`, with options that are parsed already.

    Args:
        options: those of the run.
        display: as of `run`.
        forked: whether this process may be forked, as it has no threads yet. Then code that takes
            down its process does so to a fork, and the run goes on.
        given: files that were chosen by other means than `options.input_files`.

    Raises:
        NoRoomError: the disk of the home is full.
    """
    started = time.monotonic()
    check_reachable(options)
    extractors = options.load()
    _check_access(extractors, options)
    with needing_room(options.home):
        report = _how(options, forked, given)(extractors, options, display)
    report.seconds = time.monotonic() - started
    return report


def _how(
    options: RunOptions, forked: bool, given: Input | None
) -> Callable[[Extractors, RunOptions, Display], Report]:
    if options.streaming:
        return _stream
    if options.follows:
        return _follow
    found = given or Input(match_files(options.input_files))
    if runs_in_memory(options.beam_args):
        return partial(_run_here, found, forked)
    return partial(_run_elsewhere, found)


def _run_here(
    given: Input, forked: bool, extractors: Extractors, options: RunOptions, display: Display
) -> Report:
    total, done = sum(file.bytes for file in given.files), 0
    with BatchRunner(extractors, options, forked=forked or options.workers > 1) as batches:
        push = _prepare(extractors, options, display)
        counted = [_deliver(push, wait=False)]
        extracted: list[Extraction] = []
        for batch in cut(given.files):
            extracted += batches.extract(batch)
            done += sum(file.bytes for file in batch)
            if options.rewrite and done < total:
                display.progress(done, total)
                continue  # all is replaced at once, or nothing
            found, extracted = batches.commit(extracted), []
            counted.append(found)
            if any("rows_written" in names for names in found.values()):
                counted.append(_deliver(push))
            given.done(given.files if options.rewrite else batch)
            display.progress(done, total)
    everything = merge(counted)
    for line in after_run(options.open(), extractors, everything):
        display.say(line)
    return _report(extractors, everything, len(given.files), push)


def _follow(extractors: Extractors, options: RunOptions, display: Display) -> Report:
    if not runs_in_memory(options.beam_args):
        raise ConfigurationError("following is for this machine; leave --runner and its mode out")
    home = options.local_home("following")
    # Forked for each batch: code that brings down its process brings down neither us nor the next.
    with BatchRunner(extractors, options, forked=True) as batches, only_follower(home):
        push = _prepare(extractors, options, display)
        journal = Journal(home / "follow.db")
        source: Source = (
            Subscription(options.input_subscription, options.archive, journal)
            if options.input_subscription
            else WatchedFiles(options.input_files, journal)
        )
        intake, pusher = Intake(source, journal), Pusher(push) if push else None
        keeper = keeper_of(options.open(), extractors)
        upkeep = KeeperThread(keeper) if keeper else None
        follower = Follower(batches, journal, intake, pusher, options, display)
        files, counted = follower.run()
        if upkeep is not None:
            upkeep.finish()
        report = _report(extractors, counted, files, push)
        report.failing = [file.path for batch in follower.failing for file in batch.files]
        journal.close()
    return report


def _run_elsewhere(
    given: Input, extractors: Extractors, options: RunOptions, display: Display
) -> Report:
    options = _anywhere(options)
    beam_options = _beam_options(options)
    push = _prepare(extractors, options, display)
    earlier = _deliver(push, wait=False)
    # Named, as DirectRunner would first look for other runners.
    runner = FnApiRunner() if names_direct_runner(beam_options) else None
    pipeline = beam.Pipeline(runner=runner, options=beam_options)
    build(pipeline, [absolute(file.path) for file in given.files], extractors, options)
    result = _started(pipeline, beam_options)
    result.wait_until_finish()
    given.done(given.files)
    return _report(extractors, merge([earlier, counts(result)]), len(given.files), push)


def _stream(extractors: Extractors, options: RunOptions, display: Display) -> Report:
    options = _anywhere(options)
    read = ReadSubscription(options.input_subscription)
    beam_options = _beam_options(options)
    push = _prepare(extractors, options, display)
    _deliver(push, wait=False)
    beam_options.view_as(StandardOptions).streaming = True
    runner: str | None = None
    push_interval: float | None = options.commit_interval
    if names_direct_runner(beam_options):
        display.say(
            "The DirectRunner acknowledges messages before they are processed, and loses some when "
            "it ends: it is for trying out. Without --streaming nothing is lost."
        )
        runner, push_interval = "BundleBasedDirectRunner", None
    pipeline = beam.Pipeline(runner=runner, options=beam_options)
    messages = pipeline | "ReadSubscription" >> read
    build_stream(messages, extractors, options, push_interval)
    result = _started(pipeline, beam_options)
    if not beam_options.view_as(StandardOptions).no_wait_until_finish:
        result.wait_until_finish()
    # Not its counters: the DirectRunner counts the first bundle of each step only.
    return _report(extractors, {}, 0, push)


def _beam_options(options: RunOptions) -> PipelineOptions:
    found = PipelineOptions([*NOTHING_OF_HERE, *options.beam_args])
    if named_runner(found) == "DataflowRunner":
        from pipelines.deploy.guard import check_launch  # and with it clients of Google

        check_launch(found)
    return found


def _started(pipeline: beam.Pipeline, options: PipelineOptions) -> Any:
    if named_runner(options) != "DataflowRunner":
        return pipeline.run()
    from pipelines.deploy.guard import launching

    with launching(options.view_as(GoogleCloudOptions).job_name):
        return pipeline.run()


def _anywhere(options: RunOptions) -> RunOptions:
    """The options, with a home that is the same for workers that were started in another folder."""
    home = options.home
    return replace(options, home=home.resolve()) if isinstance(home, Path) else options


def _check_access(extractors: Extractors, options: RunOptions) -> None:
    if not options.no_arize:
        arize_access(options).check(_spaces(extractors))


def _spaces(extractors: Extractors) -> set[str]:
    return {item.settings.arize_space for item in extractors.values() if item.pushed} or {""}


def prepare_tables(extractors: Extractors, options: RunOptions, display: Display) -> None:
    """Create and evolve the tables, and commit what could not be committed before.

    Raises:
        ConfigurationError: a row class that its table's rows do not fit, or tables that refuse us.
    """
    tables = options.open()
    for line in tables.prepare(extractors.values()):
        display.say(line)
    for line in commit_unwritten(tables, outboxes(extractors, options)):
        display.say(line)


def _prepare(extractors: Extractors, options: RunOptions, display: Display) -> Push | None:
    prepare_tables(extractors, options, display)
    if options.no_arize:
        return None
    if runs_in_memory(
        options.beam_args
    ):  # not before: clients of Google start threads, after which none may fork
        arize_access(options).resolve(_spaces(extractors))
    return Push(**push_arguments(extractors, options))


def _deliver(push: Push | None, wait: bool = True) -> Counts:
    if push is None:
        return {}
    pushed = push.deliver(wait)
    return {
        UNKNOWN: {"pushes_denied": int(push.denied)},
        **{table: {"rows_pushed": rows} for table, rows in pushed.items()},
    }


def _report(extractors: Extractors, counted: Counts, files: int, push: Push | None) -> Report:
    undelivered = push.pending_rows() if push else 0
    return Report(extractors, counted, files=files, undelivered_rows=undelivered)
