"""A service that captures at a steady rate, told what to do through its standard input.

Arguments: topic, spool or "", and the publisher's other arguments as JSON. Each line of its output
is "model envelope_id", of which the model is written before it captures, or the JSON that answers a
command: `rate N`, `stats`, `close`.
"""

import json
import os
import select
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

from weighbridge import EnvelopePublisher, delivery


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)


def told(publisher: EnvelopePublisher) -> dict[str, Any]:
    names = [thread.name for thread in threading.enumerate()]
    ours = sum(name.startswith("weighbridge") for name in names)
    all_threads = len(list(Path("/proc/self/task").iterdir()))
    memory = {"resident": status("VmRSS") * 1024, "ours": ours, "threads": all_threads}
    return {"stats": publisher.stats(), **memory}


def quote(random: Random) -> tuple[bytes, bytes]:
    request = {"id": f"q{random.randrange(10**9)}", "kilometres": random.randrange(1000)}
    return json.dumps(request).encode(), json.dumps({"price": random.uniform(1, 500)}).encode()


def main(topic: str, spool: str, arguments: dict[str, Any]) -> None:
    random = Random(arguments.pop("seed"))
    models, size = arguments.pop("models"), arguments.pop("size")
    delivery.SPOOL_SECONDS = arguments.pop("spool_seconds")
    publisher = EnvelopePublisher(topic, spool=spool or None, **arguments)
    rate, due = 0.0, time.monotonic()
    while True:
        wait = max(0.0, due - time.monotonic()) if rate else 1.0
        if select.select([0], [], [], wait)[0]:
            command, _, value = sys.stdin.readline().partition(" ")
            if command == "rate":
                rate, due = float(value), time.monotonic()
            elif command.strip() == "close":
                publisher.close()
            os.write(1, f"{json.dumps(told(publisher))}\n".encode())
            if command.strip() in ("close", ""):
                return
        elif rate:
            due += 1 / rate
            model = random.choice(models)
            body = random.randbytes(random.randrange(2 * size))
            answer = body[:9]
            if model == "quotes" and random.random() < 0.9:  # a good one, else a dead letter
                body, answer = quote(random)
            os.write(1, f"{model} ".encode())  # one that is killed has said what it was doing
            os.write(1, f"{publisher.capture(model, body, answer)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
