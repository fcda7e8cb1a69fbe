"""What must be true of any input."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from extractors import load_extractors
from pipelines.decode import decode
from pipelines.extract import FAILURES, PARKED, _ExtractRowsFn
from pipelines.ledger import COSTS
from pipelines.tables import RowTable
from weighbridge import RecordError
from weighbridge.archive import Message, UnreadableArchive, encode_archive, read_archive

LIMIT = 1 << 20


class Keep:
    """Keeps record batches, by table."""

    element_type: Any = Any
    max_table_bytes = max_bytes = 1 << 30

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, table: RowTable, batches: list[pa.RecordBatch]) -> Iterator[Any]:
        """Take the rows, and give none."""
        for batch in batches:
            self.rows += ((table.name, row) for row in batch.to_pylist())
        return iter(())


class Extraction:
    """The step that makes rows, without a runner around it."""

    def __init__(self) -> None:
        self._keep = Keep()
        self._home = tempfile.TemporaryDirectory(prefix="weighbridge-fuzz-")
        home = Path(self._home.name)
        self._fn = _ExtractRowsFn(load_extractors("odd"), self._keep, 600.0, LIMIT, home, False)

    def __enter__(self) -> Extraction:
        self._fn.setup()
        return self

    def __exit__(self, *_: object) -> None:
        self._fn.teardown()
        self._home.cleanup()

    def check(self, message: Message) -> str:
        """Run one message, and say what became of it; each envelope is somewhere, and once."""
        self._keep.rows = []
        self._fn.start_bundle()
        outputs = [*self._fn.process(message), *self._fn.finish_bundle()]
        letters: list[Message] = []
        parked: list[Message] = []
        for output in outputs:
            assert isinstance(output, TaggedOutput), output
            value = output.value.value if isinstance(output.value, WindowedValue) else output.value
            {FAILURES: letters, PARKED: parked}[output.tag].append(value)
        rows = [row for row in self._keep.rows if row[0] != COSTS]
        if parked:
            assert parked == [message]
            assert not letters
            assert not rows
            return "parked"
        if any(table == "weighbridge.heartbeats" for table, _ in rows):
            return "heartbeat"
        try:
            decoded = decode(message, LIMIT)
        except RecordError:
            decoded = None
        if decoded is None or (letters and letters[0].attributes["failure_stage"] == "route"):
            [letter] = letters
            assert letter.data == message.data
            return letter.attributes["failure_stage"]
        if isinstance(decoded, dict):
            return "heartbeat"  # of no models: it has no rows
        named = {row["envelope_id"] for _, row in rows}
        named |= {
            letter.attributes["envelope_id"]
            for letter in letters
            if "content" in letter.attributes or letter.attributes.get("envelope_id")
        }
        assert named == set(decoded.ids)
        for letter in letters:
            self._check_bytes(decoded, letter)
        kinds = {"rows" if table.startswith("models.") else "skipped" for table, _ in rows}
        stages = {one.attributes["failure_stage"] for one in letters}
        return "+".join(sorted(kinds | stages)) or "no envelopes"

    def _check_bytes(self, decoded: Any, letter: Message) -> None:
        again = decode(letter, LIMIT)
        assert not isinstance(again, dict)
        [stored] = again.envelopes()
        originals = [one for one in decoded.envelopes() if one.envelope_id == stored.envelope_id]
        raw = [(one._request_raw, one._response_raw, one._context_raw) for one in originals]
        assert (stored._request_raw, stored._response_raw, stored._context_raw) in raw
        assert stored.event_micros in [one.event_micros for one in originals]


def check_archive(data: bytes) -> str:
    """Read it; what was read can be written and read again."""
    found = []
    said = "whole"
    try:
        for message in read_archive(io.BytesIO(data)):
            found.append(message)
    except UnreadableArchive:
        said = "damaged"
    assert list(read_archive(io.BytesIO(encode_archive(found)))) == found
    return said


def summary(outcomes: Counter[str]) -> str:
    """Counts, the most frequent first."""
    return ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common())
