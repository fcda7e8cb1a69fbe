"""Log lines that say which job, step and model they are about, as Cloud Logging reads them."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

FORMATS = ("text", "json")
FIELDS = ("model", "check", "value")
"""What a line may have beside `severity`, `time`, `message`, `job` and `step`, by `extra=`."""


def about(table: str) -> dict[str, str]:
    """The `extra=` of a line about a model.

    Args:
        table: of the model; "models.payment_fraud" is "payment_fraud", as in names of counters.
    """
    return {"model": table.removeprefix("models.")}


class _NameModel(logging.Filter):
    """On workers, says the model in the text: Beam's handler sends a text and its own fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        model = getattr(record, "model", "")
        if model and _sent_by_beam():
            record.msg, record.args = f"{record.getMessage()} [model={model}]", ()
        return True


log = logging.getLogger("weighbridge")
"""All lines of the pipeline. None holds a payload, nor a value of one."""
log.addFilter(_NameModel())


class JsonFormatter(logging.Formatter):
    """One JSON object for each line.

    Args:
        job: what is running, for the field `job`.
    """

    def __init__(self, job: str) -> None:
        super().__init__()
        self._job = job

    def format(self, record: logging.LogRecord) -> str:
        """The object; of an exception it has the class and the places, as texts may quote input."""
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage(),
            "job": self._job,
            "step": _step() or record.module,
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            places = "".join(traceback.format_tb(record.exc_info[2]))
            line["message"] += f"\n{places}{record.exc_info[0].__name__}"
        return json.dumps(line, ensure_ascii=False)


class JsonLines(io.TextIOBase):
    """A file whose every flush is one line of a log, however many lines of text it is.

    Args:
        to: where the objects go.
        level: of `logging`.
        formatter: makes them.
    """

    def __init__(self, to: TextIO, level: int, formatter: logging.Formatter) -> None:
        self._to, self._level, self._formatter = to, level, formatter
        self._text = ""

    def write(self, text: str) -> int:
        """Keep a part of the text."""
        self._text += text
        return len(text)

    def flush(self) -> None:
        """Make a line of what was written."""
        text, self._text = self._text.strip("\n"), ""
        if text.strip():
            record = logging.LogRecord(log.name, self._level, "output", 0, text, None, None)
            print(self._formatter.format(record), file=self._to, flush=True)


def use_json(job: str) -> None:
    """From now on, write an object for each line of a log and each print of a command.

    Args:
        job: the command; what Cloud Run calls its job goes before it.
    """
    from pipelines.commands.terminal import console, errors

    formatter = JsonFormatter(os.environ.get("CLOUD_RUN_JOB", job))
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    logging.captureWarnings(True)
    console.file = JsonLines(sys.stdout, logging.INFO, formatter)  # type: ignore[assignment]
    errors.file = JsonLines(sys.stderr, logging.ERROR, formatter)  # type: ignore[assignment]


def is_json() -> bool:
    """Whether `use_json` was called."""
    from pipelines.commands.terminal import errors

    return isinstance(errors.file, JsonLines)


def _step() -> str:
    """The step that a line comes from, where Beam is running one in this thread."""
    states = sys.modules.get("apache_beam.runners.worker.statesampler")
    tracker = states and states.get_current_tracker()
    state = tracker and tracker.current_state()
    context = state and state.name_context
    return str(getattr(context, "transform_id", "") or "")


def _sent_by_beam() -> bool:
    beam = sys.modules.get("apache_beam.runners.worker.log_handler")
    handlers = logging.getLogger().handlers
    return beam is not None and any(isinstance(h, beam.FnApiLogRecordHandler) for h in handlers)
