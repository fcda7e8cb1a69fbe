"""Runs an extractor of another revision. Argument: the folder that holds its package.

The order is JSON on standard input; what came out is written to a file that only its parent reads.
"""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import pyarrow as pa


def _main(place: str, order: dict[str, Any]) -> int:
    sys.path.insert(0, place)
    from extractors import load_extractors
    from pipelines.compare.side import extracted
    from schemas import ConfigurationError

    try:
        extractors = load_extractors(order["package"])
        key = tuple(order["key"])
        if key not in extractors:
            raise ConfigurationError(f"{key[0]} ({key[1]}) is not registered there")
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    limits = order["max_future"], order["max_envelope_bytes"]
    side = extracted(order["name"], extractors[key], order["paths"], *limits)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, side.rows.schema) as writer:
        writer.write_table(side.rows)
    data = sink.getvalue().to_pybytes()
    with open(order["result"], "wb") as stream:
        pickle.dump((side.name, side.failed, side.seconds, data), stream)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], json.load(sys.stdin)))
