"""The unbounded graph as the DataflowRunner submits it; `python tests/graphs.py` writes it down.

What is written is a line for each step, so that a diff names the steps that changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

from extractors import load_extractors
from pipelines.deploy.fingerprint import Step, fingerprint
from pipelines.options import parse_run
from pipelines.stream import ReadSubscription, build_stream

FOLDER = Path(__file__).parent / "data" / "graphs"
_ICEBERG = ["--catalog_uri", "https://catalog.example/", "--home", "gs://weighbridge/home"]
_BIGQUERY = ["--tables", "bigquery", "--dataset", "a-project.models"]
_STAGED = ["--staging", "gs://weighbridge/staged", "--home", "gs://weighbridge/home"]
GRAPHS = {
    "iceberg": _ICEBERG,
    "iceberg-without-arize": [*_ICEBERG, "--no_arize"],
    "bigquery": [*_BIGQUERY, *_STAGED],
    "bigquery-without-arize": [*_BIGQUERY, *_STAGED, "--no_arize"],
}
"""Arguments of a run, by name of the file."""
# Nothing is sent: a dry run ends once the graph is made.
_BEAM = [
    *("--runner", "DataflowRunner", "--streaming", "--dry_run", "True", "--no_auth"),
    *("--project", "a-project", "--region", "europe-west1", "--job_name", "weighbridge"),
    *("--staging_location", "gs://weighbridge/tmp", "--temp_location", "gs://weighbridge/tmp"),
    *("--dataflow_endpoint", "http://localhost:9"),
]


def graph(arguments: list[str], package: str = "extractors") -> dict[str, Step]:
    """The fingerprint of what the runner would submit."""
    subscription = "projects/a-project/subscriptions/envelopes"
    options = parse_run(["--streaming", "--input_subscription", subscription, *arguments])
    runner = DataflowRunner()
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(_BEAM))
    messages = pipeline | "ReadSubscription" >> ReadSubscription(options.input_subscription)
    build_stream(messages, load_extractors(package), options, options.commit_interval)
    pipeline.run()
    return fingerprint(runner.proto_pipeline)


def text_of(steps: dict[str, Step]) -> str:
    """What a file holds."""
    lines = (f"{json.dumps(label)}: {json.dumps(step)}" for label, step in steps.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def path_of(name: str) -> Path:
    """Where a graph is written down."""
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    for name, arguments in GRAPHS.items():
        path_of(name).write_text(text_of(graph(arguments)))
