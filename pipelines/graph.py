"""The bounded graph: read, extract, write what failed or has no extractor, commit, push."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from extractors import Extractors
from pipelines.arize import ArizeAccess
from pipelines.committer import CommitFiles, commit_now, replace_now
from pipelines.extract import Emit, ExtractRows
from pipelines.failures import FAILURES, PARKED, WriteMessages
from pipelines.options import RunOptions
from pipelines.outbox import Outbox
from pipelines.push_to_arize import PushToArize
from pipelines.read import ReadArchive
from pipelines.tables import pushed_tables
from pipelines.write import WriteAll, WriteFiles


def build(
    pipeline: beam.Pipeline, files: list[str], extractors: Extractors, options: RunOptions
) -> None:
    """Add the graph to a pipeline; it is the same for one model and for a thousand."""
    paths = pipeline | "Files" >> beam.Create(files, reshuffle=False)
    commit = replace_now if options.rewrite else commit_now
    committed = extract(paths, extractors, options) | "CommitFiles" >> CommitFiles(
        options.open(), outboxes(extractors, options), commit
    )
    if not options.no_arize:
        committed | "PushToArize" >> PushToArize(push_arguments(extractors, options))


def extract(paths: Any, extractors: Extractors, options: RunOptions) -> Any:
    """Add the steps up to the data files. In: paths. Out: (table name, file reference as JSON)."""
    emit = (WriteAll if options.rewrite else WriteFiles)(options.open())
    extracted = (
        paths
        | "ReadArchive" >> ReadArchive(options.selection)
        | "ExtractRows" >> extract_rows(extractors, emit, options)
    )
    described = (
        messages | label >> WriteMessages(options.home, folder, emit, replay=options.replay)
        for label, messages, folder in (
            ("WriteFailures", extracted.failures, FAILURES),
            ("WriteParked", extracted.parked, PARKED),
        )
    )
    return (extracted.rows, *described) | "FlattenFiles" >> beam.Flatten()


def extract_rows(extractors: Extractors, emit: Emit, options: RunOptions) -> ExtractRows:
    """The step that makes rows, within the limits of a run."""
    return ExtractRows(
        extractors,
        emit,
        options.max_future,
        options.max_envelope_bytes,
        options.home,
        options.quarantines,
    )


def outboxes(extractors: Extractors, options: RunOptions) -> dict[str, Outbox]:
    """The outbox of each table that is pushed."""
    tables = {} if options.no_arize else pushed_tables(extractors)
    return {name: Outbox(options.home) for name in tables}


def push_arguments(extractors: Extractors, options: RunOptions) -> dict[str, Any]:
    """What `Push` takes."""
    return {
        "home": options.home,
        "tables": options.open(),
        "extractors": dict(extractors),
        "access": arize_access(options),
    }


def arize_access(options: RunOptions) -> ArizeAccess:
    """Where Arize is, and in whose name; no secret is in it."""
    return ArizeAccess(options.arize_url, tuple(options.environment.spaces.values()))
