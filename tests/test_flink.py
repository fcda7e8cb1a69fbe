"""The Flink cluster of `make flink`: versions, downloads, and what is said where one is missing."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from deploy.flink import downloads
from deploy.flink.downloads import NotAvailable, job_server_jar, prism
from pipelines.metrics import counter, counts

DOCS = Path(__file__).parents[1] / "docs"


def test_versions_are_those_of_the_installed_beam_and_of_the_page() -> None:
    assert beam.version.__version__ == downloads.BEAM
    assert downloads.FLINK.rpartition(".")[0] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    text = (DOCS / "flink.md").read_text()
    for named in (downloads.FLINK, downloads.JOB_SERVER.rpartition(":")[0], downloads.PRISM):
        assert named in text


def test_flink_is_found_in_a_wheel_and_in_an_archive_of_sources(tmp_path: Path) -> None:
    files = {
        "lib/flink-dist-2.0.2.jar": b"flink",
        "lib/log4j-api-2.24.3.jar": b"log",
        "lib/flink-table-runtime-2.0.2.jar": b"not needed",
        "opt/flink-dist-other.jar": b"elsewhere",
        "lib/log4j.properties": b"no jar",
    }
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(f"pyflink/{name}", data)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as sources:
        for name, data in files.items():
            member = tarfile.TarInfo(f"libraries-2.0.2/deps/{name}")
            member.size = len(data)
            sources.addfile(member, io.BytesIO(data))
    wanted = {"flink-dist-2.0.2.jar": b"flink", "log4j-api-2.24.3.jar": b"log"}
    for package in ("a.whl", "a.tar.gz"):
        assert dict(downloads._members(tmp_path / package)) == wanted


def test_what_is_missing_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(downloads.JOB_SERVER_VARIABLE, raising=False)
    with pytest.raises(NotAvailable, match="job server needs mvn: apt-get install maven"):
        job_server_jar()
    with pytest.raises(NotAvailable, match="Prism needs go: apt-get install golang-go"):
        prism()
    (tmp_path / "mvn").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "mvn").chmod(0o755)
    with pytest.raises(NotAvailable, match="Maven does not get .*; name a jar of it in BEAM_JOB"):
        job_server_jar()
    monkeypatch.setenv(downloads.JOB_SERVER_VARIABLE, str(tmp_path / "none.jar"))
    with pytest.raises(NotAvailable, match="BEAM_JOB_SERVER: there is no file .*none.jar"):
        job_server_jar()
    (tmp_path / "none.jar").write_bytes(b"")
    assert job_server_jar() == tmp_path / "none.jar"


def test_counts_of_a_runner_that_tells_only_what_it_attempted() -> None:
    words = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    pipeline = beam.Pipeline(options=PipelineOptions(words))
    numbers = pipeline | beam.Create([1, 2, 3])
    for step in ("One", "Two"):
        numbers | step >> beam.Map(_counted)
    result = pipeline.run()
    result.wait_until_finish()
    assert counts(result)["some_table"] == {"rows_written": 12}


def _counted(number: int) -> None:
    counter("some_table", "rows_written").inc(number)
