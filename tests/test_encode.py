import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.encode import writer

PACKAGE = Path(__file__).parents[1] / "handlers/weighbridge"
SCHEMA = json.loads((PACKAGE / "envelope.avsc").read_text())
BY_FASTAVRO = fastavro.parse_schema(SCHEMA)
write = writer(SCHEMA)

longs = st.integers(0, 2**63 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    '"string"': st.text(),
    '"long"': longs,
    '"int"': st.integers(0, 7),
    '"bytes"': st.binary(),
    '["null", "bytes"]': st.none() | st.binary() | st.integers(60, 20_000).map(bytes),
    '["null", "int"]': st.none() | st.integers(-(2**31), 2**31 - 1),
    '["null", "long"]': st.none() | longs,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, dict):
        return st.lists(VALUES[json.dumps(kind["items"])], max_size=5)
    return VALUES[json.dumps(kind)]


RECORDS = st.fixed_dictionaries({one["name"]: values(one["type"]) for one in SCHEMA["fields"]})


@given(RECORDS)
def test_the_bytes_are_those_of_fastavro(record: dict[str, Any]) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, BY_FASTAVRO, record)
    assert write(record) == out.getvalue()


@given(RECORDS, st.sampled_from(["headers", "request"]), st.sampled_from(["text", 1, [b""]]))
def test_what_is_no_bytes_is_refused(record: dict[str, Any], name: str, wrong: Any) -> None:
    with pytest.raises(TypeError):
        write({**record, name: [wrong]})


def test_null_is_refused_where_the_schema_has_none() -> None:
    schema = {"name": "One", "fields": [{"name": "a", "type": {"type": "array", "items": "bytes"}}]}
    with pytest.raises(TypeError):
        writer(schema)({"a": [None]})
