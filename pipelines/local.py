"""The steps up to the data files, built once and run in this process over one batch after another.

Building a pipeline costs more than running it over a small batch, so what differs between batches,
the input and the outcome, is handed over beside the graph.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

from extractors import Extractors
from pipelines.files import FileRef
from pipelines.graph import extract
from pipelines.metrics import Counts, counts
from pipelines.options import RunOptions
from pipelines.room import says_more


@dataclass
class Extraction:
    """What a batch became: data files by table, not committed yet, and counts."""

    files: dict[str, list[FileRef]] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)


class LocalGraph:
    """Runs archive files through the steps up to the data files, dead letters and parked messages.

    Not for two threads at once. A fork inherits it.

    Args:
        extractors: what `load_extractors` gave.
        options: those of the run.
    """

    def __init__(self, extractors: Extractors, options: RunOptions) -> None:
        self._key = next(_keys)
        logging.getLogger(beam.runners.common.__name__).addFilter(says_more)
        self._options = PipelineOptions(list(options.beam_args))
        # What FnApiRunner.run_pipeline does to each pipeline before it runs it.
        self._options.view_as(DebugOptions).add_experiment("beam_fn_api")
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=self._options)
        key = pipeline | "Batch" >> beam.Create([self._key], reshuffle=False)
        files = key | "Files" >> beam.FlatMap(_given_files)
        rows = extract(files, extractors, options)
        rows | "KeepFiles" >> beam.ParDo(_KeepFilesFn(self._key))
        self._proto = pipeline.to_runner_api(
            default_environment=EmbeddedPythonEnvironment.default()
        )

    def __call__(self, paths: list[str]) -> Extraction:
        """Write the data files of what the tables do not have."""
        at_work = _at_work[self._key] = _AtWork(paths)
        RuntimeValueProvider.set_runtime_options({})
        proto = beam_runner_api_pb2.Pipeline()
        proto.CopyFrom(self._proto)  # running it changes it
        try:
            result = FnApiRunner().run_via_runner_api(proto, self._options)
            result.wait_until_finish()
        finally:
            del _at_work[self._key]
        return Extraction(dict(at_work.files), counts(result))


class _AtWork:
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.files: dict[str, list[FileRef]] = defaultdict(list)


_keys = count()
_at_work: dict[int, _AtWork] = {}


def _given_files(key: int) -> list[str]:
    return _at_work[key].paths


class _KeepFilesFn(beam.DoFn):
    def __init__(self, key: int) -> None:
        self._key = key

    def process(self, element: tuple[str, str]) -> None:
        table, ref = element
        _at_work[self._key].files[table].append(FileRef.from_json(ref))
