"""CPU time by stage, taken around the calls of a real run's own functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import process_time_ns
from typing import Any

from benchmarks.measure import replaced
from extractors._calls import ExtractorCalls
from pipelines import decode, extract
from pipelines.shuffle import ShuffleRows
from schemas.buffer import RowBuffer

DECODE, CALL, CHECK, ENCODE = "decode", "extractor", "check", "encode"
REST, WRITE, COMMIT = "rest of ExtractRows", "write files", "commit"
STAGES = (DECODE, CALL, CHECK, ENCODE, REST, WRITE, COMMIT)


class Stages:
    """What was spent in each stage, in nanoseconds of CPU, less what stages within it spent."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._within = [0]

    def call(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, and count its time."""
        self._within.append(0)
        began = process_time_ns()
        try:
            return function(*arguments)
        finally:
            took = process_time_ns() - began
            self.spent[stage] += took - self._within.pop()
            self._within[-1] += took

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what ExtractRows calls: few calls a message, so that counting costs nothing."""
        shuffle = ShuffleRows.__call__
        stages: list[tuple[object, str, str, Callable[..., Any]]] = [
            (extract, "decode", DECODE, decode.decode),
            (ExtractorCalls, "extract", CALL, ExtractorCalls.extract),
            (RowBuffer, "flush", CHECK, RowBuffer.flush),
            (ShuffleRows, "__call__", ENCODE, lambda *given: list(shuffle(*given))),
        ]
        with ExitStack() as stack:
            for owner, name, stage, function in stages:
                stack.enter_context(replaced(owner, name, self._around(stage, function)))
            yield

    def _around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any) -> Any:
            return self.call(stage, function, *arguments)

        return around
