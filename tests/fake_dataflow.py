"""The Dataflow service as far as submission needs it: jobs that are created, listed and ended.

It answers what Beam's client expects (v1b3, JSON over REST), and validates nothing: what it carries
is that the unmodified DataflowRunner submits, and what it submits.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATH = re.compile(r".*/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/:?]+))?(?:\?.*)?")
_STATES = {"DRAINING": "DRAINED", "CANCELLED": "CANCELLED"}
Answer = tuple[int, dict[str, Any]]


class FakeDataflow:
    """The jobs of a service.

    Attributes:
        url: for `--dataflow_endpoint`.
        jobs: as they were submitted, by id, with their state.
        calls: method and path of each request.
        states: of a job that was created, one for each time it is asked for; the last one stays.
        refusals: status and text that answer a method instead, such as POST.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.states = ["PENDING", "RUNNING"]
        self.refusals: dict[str, tuple[int, str]] = {}
        self._asked: dict[str, int] = {}

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        self.calls.append(f"{method} {path.partition('?')[0]}")
        if method in self.refusals:
            return _error(*self.refusals[method])
        found = _PATH.fullmatch(path)
        if found is None:
            return _error(404, f"no such path: {path}")
        job_id = found[3]
        if job_id is None:
            return self._create(body, found[1], found[2]) if method == "POST" else self._list()
        if job_id not in self.jobs:
            return _error(404, "no such job")
        job = self.jobs[job_id]
        if method == "PUT":
            # As numbers: JOB_STATE_CANCELLED and JOB_STATE_DRAINING.
            wanted = {5: "CANCELLED", 7: "DRAINING"}[body["requestedState"]]
            job["currentState"] = f"JOB_STATE_{_STATES[wanted]}"
            self._asked[job_id] = -1
        elif self._asked[job_id] >= 0:
            state = self.states[min(self._asked[job_id], len(self.states) - 1)]
            job["currentState"] = f"JOB_STATE_{state}"
            self._asked[job_id] += 1
        return 200, job

    def active(self) -> list[dict[str, Any]]:
        ended = {f"JOB_STATE_{state}" for state in ("CANCELLED", "DRAINED", "FAILED", "UPDATED")}
        return [job for job in self.jobs.values() if job["currentState"] not in ended]

    def _create(self, body: dict[str, Any], project: str, location: str) -> Answer:
        replaced = body.get("replaceJobId")
        for job in self.active():
            if job["name"] == body["name"] and not replaced:
                return 200, job  # the client sees that it is not its own
        if replaced:
            self.jobs[replaced]["currentState"] = "JOB_STATE_UPDATED"
            self._asked[replaced] = -1
        job_id = f"2026-01-01_00_00_00-{len(self.jobs) + 1}"
        self._asked[job_id] = 0
        place = {"id": job_id, "projectId": project, "location": location}
        created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        state = {"currentState": f"JOB_STATE_{self.states[0]}", "createTime": created}
        self.jobs[job_id] = {**body, **place, **state}
        return 200, self.jobs[job_id]

    def _list(self) -> Answer:
        names = "id", "name", "type", "currentState"
        jobs = [{n: job[n] for n in names if n in job} for job in self.active()]
        return 200, {"jobs": jobs}


@contextmanager
def fake_dataflow() -> Iterator[FakeDataflow]:
    """A service on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = fake.answer(self.command, self.path, json.loads(body or b"{}"))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeDataflow(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def _error(status: int, text: str) -> Answer:
    names = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
    return status, {"error": {"code": status, "status": names.get(status), "message": text}}
