"""Emulators of BigQuery and of Cloud Storage, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import Home, environment

PROJECT = "test-project"
BUCKET = "staged"
_START_SECONDS = 60.0


class NotInstalled(Exception):
    """An emulator is not; the text says which."""


@dataclass
class GoogleEmulators:
    """Both, running.

    Attributes:
        client: of BigQuery.
        root: folder whose folders are the buckets.
        environment: what leads Google's libraries to them.
    """

    client: Any
    root: Path
    environment: dict[str, str]
    _made: list[str] = field(default_factory=list)

    def dataset(self) -> str:
        """The name of a new dataset, as `--dataset` takes it."""
        name = f"{PROJECT}.d{len(self._made)}"
        self._made.append(name)
        self.client.create_dataset(name)
        return name

    def bucket(self, name: str) -> None:
        """Make another bucket."""
        url = f"{self.environment['STORAGE_EMULATOR_HOST']}/storage/v1/b?project={PROJECT}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps({"name": name}).encode(), headers)
        urllib.request.urlopen(request, timeout=10).close()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table or view, in order."""
        found = self.client.query_and_wait(f"SELECT * FROM `{table}`")
        return sorted(map(dict, found), key=lambda row: (row["row_id"], row["event_time"]))

    def row_ids(self, table: str) -> list[str]:
        return [row["row_id"] for row in self.rows(table)]

    def jobs(self) -> dict[str, Any]:
        """Load jobs by id."""
        listed = (job for job in self.client.list_jobs(all_users=True) if job.job_type == "load")
        # The emulator's list leaves out why a job failed.
        return {job.job_id: self.client.get_job(job.job_id) for job in listed}

    @contextmanager
    def faults(self, **faults: Any) -> Iterator[None]:
        """Make the emulator fail as tests/bqemulator_child.py says."""
        self._put(faults)
        try:
            yield
        finally:
            self._put({"failures": [], "polls": 0, "refusal": None})

    def _put(self, faults: dict[str, Any]) -> None:
        url = self.environment["BIGQUERY_EMULATOR_HOST"] + "/faults"
        data = json.dumps(faults).encode()
        request = urllib.request.Request(url, data, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()


class InBigQuery(Home):
    """A home whose tables are in a dataset of their own."""

    def __init__(self, folder: Path, google: GoogleEmulators, package: str = "odd") -> None:
        super().__init__(folder, package)
        self.google = google
        self.dataset = google.dataset()

    def arguments(self, *more: str, files: str | None = None) -> list[str]:
        place = ["--dataset", self.dataset, "--staging", f"gs://{BUCKET}/{self.dataset}"]
        return super().arguments("--tables", "bigquery", *place, *more, files=files)

    def place(self) -> list[str]:
        """What names this home and its tables to any command."""
        tables = ["--tables", "bigquery", "--dataset", self.dataset]
        staging = f"gs://{BUCKET}/{self.dataset}"
        return ["--home", str(self.folder), *tables, "--staging", staging]

    @contextmanager
    def tables(self) -> Iterator[Any]:
        """The tables, as commands open them."""
        from pipelines.place import Place

        with environment(**self.google.environment):
            staging = f"gs://{BUCKET}/{self.dataset}"
            place = {"tables": "bigquery", "dataset": self.dataset, "staging": staging}
            yield Place(home=self.folder, **place).open()

    def run(self, *more: str, files: str | None = None) -> Any:
        with environment(**self.google.environment):
            return super().run(*more, files=files)

    def rows(self, table: str, namespace: str = "models") -> list[dict[str, Any]]:
        return self.google.rows(f"{self.dataset}.{table}")

    def jobs(self) -> dict[str, str]:
        """Of the load jobs, those of this dataset: the end of the id, and why it failed.

        Those of `weighbridge.costs` are left out: each run has spent other microseconds.
        """
        dataset = self.dataset.partition(".")[2]
        return {
            job_id.partition(f"weighbridge-{dataset}-")[2]: (job.error_result or {}).get("reason")
            for job_id, job in sorted(self.google.jobs().items())
            if f"-{dataset}-" in job_id and "-weighbridge_costs-" not in job_id
        }

    def table(self, name: str) -> Any:
        return self.google.client.get_table(f"{self.dataset}.{name}")


@contextmanager
def google_emulators(root: Path) -> Iterator[GoogleEmulators]:
    """Start both on free ports, and end them.

    Args:
        root: an empty folder that is there.

    Raises:
        NotInstalled: one of them is not.
    """
    for name in ("bqemulator", "gcp_storage_emulator", "google.cloud.bigquery"):
        if importlib.util.find_spec(name) is None:
            raise NotInstalled(f"{name} is not installed: pip install -e '.[test]'")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    rest, grpc, storage = (_free_port() for _ in range(3))
    environment = {
        "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{rest}",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{storage}",
    }
    child = str(Path(__file__).with_name("bqemulator_child.py"))
    commands = [
        [sys.executable, child, "start", "--rest-port", str(rest), "--grpc-port", str(grpc)],
        # fmt: off
        [
            sys.executable,
            "-m",
            "gcp_storage_emulator",
            "--data-dir",
            str(root),
            "start",
            "-q",
            "--host",
            "127.0.0.1",
            "--port",
            str(storage),
            "--default-bucket",
            BUCKET,
        ],
        # fmt: on
    ]
    log = os.open(root / "emulators.log", os.O_WRONLY | os.O_CREAT)
    buckets = root / ".cloudstorage"
    settings = {**os.environ, "BQEMU_GCS_LOCAL_ROOT": str(buckets), "BQEMU_LOG_LEVEL": "error"}
    processes = [
        subprocess.Popen(command, env=settings, stdout=log, stderr=log) for command in commands
    ]
    try:
        for port in (rest, storage):
            _wait_for(port)
        host = environment["BIGQUERY_EMULATOR_HOST"]
        options = {"api_endpoint": host}
        client = bigquery.Client(PROJECT, AnonymousCredentials(), client_options=options)
        yield GoogleEmulators(client, buckets, environment)
        client.close()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        os.close(log)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
