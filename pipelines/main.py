"""The pipeline: read, extract, write what failed or has no extractor, commit, push."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from extractors import Extractors, load_extractors
from pipelines.arize import ArizeAccess
from pipelines.commit import CommitFiles
from pipelines.extract import ExtractRows
from pipelines.failures import FAILURES, PARKED, WriteMessages
from pipelines.metrics import counts
from pipelines.options import RunOptions, parse_run
from pipelines.outbox import Outbox
from pipelines.push import Push, PushToArize
from pipelines.read import ReadArchive, match_files
from pipelines.report import Report
from pipelines.tables import Tables, table_of
from pipelines.write import WriteFiles

Say = Callable[[str], object]


def build(
    pipeline: beam.Pipeline,
    files: list[str],
    extractors: Extractors,
    options: RunOptions,
) -> None:
    """Add the bounded graph to a pipeline; it is the same for one model and for a thousand."""
    home, tables = options.home, Tables(options.home)
    extracted = (
        pipeline
        | "ReadArchive" >> ReadArchive(files)
        | "ExtractRows"
        >> ExtractRows(
            extractors, WriteFiles(tables), options.max_future, options.max_envelope_bytes
        )
    )
    extracted.failures | "WriteFailures" >> WriteMessages(home, FAILURES)
    extracted.parked | "WriteParked" >> WriteMessages(home, PARKED)
    outboxes = _outboxes(extractors, options)
    committed = extracted.rows | "CommitFiles" >> CommitFiles(tables, outboxes)
    if not options.no_arize:
        committed | "PushToArize" >> PushToArize(_push_arguments(extractors, options))


def run(argv: Sequence[str], say: Say = lambda line: None) -> Report:
    """Read all that `--input_files` names and add what is missing.

    Args:
        argv: the arguments of `weighbridge run`.
        say: is given a line about each table that is created or changed.

    Raises:
        click.UsageError: a wrong argument.
        ConfigurationError: extractors, files or settings that cannot work.
    """
    return run_with(parse_run(argv), say)


def run_with(options: RunOptions, say: Say = lambda line: None) -> Report:
    """Like `run`, with options that are parsed already."""
    started = time.monotonic()
    extractors = load_extractors(options.extractors_package)
    files = match_files(options.input_files)
    push = None
    if not options.no_arize:
        pushed = [item for item in extractors.values() if item.pushed]
        spaces = {item.settings.arize_space for item in pushed}
        ArizeAccess(options.arize_url).check(spaces or {""})
        push = Push(**_push_arguments(extractors, options))
    for line in Tables(options.home).prepare(extractors.values()):
        say(line)
    earlier = push.deliver(wait=False) if push else {}
    pipeline = _pipeline(options)
    build(pipeline, files, extractors, options)
    result = pipeline.run()
    result.wait_until_finish()
    return Report(
        extractors,
        counts(result),
        files=len(files),
        delivered_earlier=earlier,
        denied_earlier=push.denied if push else False,
        undelivered_rows=push.pending_rows() if push else 0,
        seconds=time.monotonic() - started,
    )


def _pipeline(options: RunOptions) -> beam.Pipeline:
    beam_options = PipelineOptions(list(options.beam_args))
    runner = beam_options.view_as(StandardOptions).runner
    if runner in (None, "", "DirectRunner"):
        # What DirectRunner ends up with for files, without its search for other runners.
        return beam.Pipeline(runner=FnApiRunner(), options=beam_options)
    return beam.Pipeline(options=beam_options)


def _outboxes(extractors: Extractors, options: RunOptions) -> dict[str, Outbox]:
    return {
        table_of(item).name: Outbox(options.home)
        for item in extractors.values()
        if item.pushed and not options.no_arize
    }


def _push_arguments(extractors: Extractors, options: RunOptions) -> dict[str, Any]:
    return {
        "home": options.home,
        "extractors": dict(extractors),
        "access": ArizeAccess(options.arize_url),
    }
