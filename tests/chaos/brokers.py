"""The emulator behind a proxy: hung, killed, slow or refusing, and what it was given."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from conftest import eventually
from test_publisher import as_message

from benchmarks.emulator import Emulator, NoEmulator, emulator
from weighbridge.archive import Message
from weighbridge.wire import HEARTBEAT_CONTENT, unpack, unpack_heartbeat

CHUNK = 64 << 10


class Proxy:
    """Passes bytes on to `target`, later or not at all.

    Attributes:
        target: port of what it stands before.
        delay: seconds that each piece of at most 64 KiB takes.
    """

    def __init__(self) -> None:
        self.target, self.delay = 0, 0.0
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._accepting()

    def hold(self) -> None:
        """Let nothing through, and close nothing."""
        self._flows.clear()

    def go_on(self) -> None:
        self._flows.set()

    def refuse(self) -> None:
        """Close all, and the port too."""
        # Else it would stay open in the call that accepts.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def accept(self) -> None:
        """Take connections again, after `refuse`."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._accepting()

    def cut(self) -> None:
        """Close all connections."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self.refuse()
        self.go_on()

    def _accepting(self) -> None:
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                if self.delay:
                    threading.Event().wait(self.delay)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open -= {source, sink}


class Broker:
    """An emulator that can be treated badly, and a subscriber that notes all that arrives.

    Attributes:
        proxy: what a publisher connects to.
        arrived: how often each envelope id has arrived.
        beats: the last heartbeat of each publisher, by its id.
    """

    topic = "projects/bench/topics/chaos"

    def __init__(self) -> None:
        self.proxy = Proxy()
        self.arrived: Counter[str] = Counter()
        self.beats: dict[str, dict[str, Any]] = {}
        self._running = ExitStack()
        self._emulator: Emulator | None = None
        self._noted: set[tuple[int, str]] = set()
        self._pulls = 0
        """Of which nothing came, in a row."""
        self._end = threading.Event()
        self._puller = threading.Thread(target=self._pull, daemon=True)
        self.start()
        self._puller.start()

    def start(self) -> None:
        """Start the emulator with its topic."""
        try:
            running = self._running.enter_context(emulator("256m"))
        except NoEmulator as missing:
            pytest.skip(str(missing))
        _, self._subscription = running.make("chaos")
        self.proxy.target = int(running.host.rpartition(":")[2])
        self._emulator = running

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with -9, once all that it has accepted is pulled."""
        self.proxy.hold()
        self.drain()
        self._signal(signal.SIGKILL)
        self._emulator = None
        self._running.close()
        self.proxy.cut()
        self.proxy.go_on()

    def drain(self) -> None:
        """Wait until nothing more comes."""
        self._pulls = 0
        eventually(lambda: self._pulls >= 5, 30)

    def close(self) -> None:
        self._end.set()
        self._puller.join(30)
        self.proxy.close()
        self._running.close()

    def _signal(self, number: int) -> None:
        assert self._emulator is not None
        os.kill(self._emulator.pid, number)

    def _pull(self) -> None:
        while not self._end.is_set():
            emulator = self._emulator
            if emulator is None:
                self._end.wait(0.01)
                continue
            named = {"subscription": self._subscription}
            with suppress(Exception):  # it hangs, or is dead
                # Not waiting for messages: they are lent for long to who stops waiting too soon.
                request = {**named, "max_messages": 100, "return_immediately": True}
                answer = emulator.subscriber.pull(request, timeout=5, retry=None)
                self._pulls += 1
                self._end.wait(0.0 if answer.received_messages else 0.02)
                for one in answer.received_messages:
                    self._pulls = 0
                    name = (emulator.pid, one.message.message_id)
                    if name not in self._noted:  # else it is delivered again, not published
                        self._noted.add(name)
                        self._note(one.message)
                ids = [one.ack_id for one in answer.received_messages]
                emulator.subscriber.acknowledge(**named, ack_ids=ids, timeout=5)

    def _note(self, received: Any) -> None:
        message = as_message(received)
        if message.attributes["content"] == HEARTBEAT_CONTENT:
            beat = unpack_heartbeat(message.attributes, message.data)
            if beat["time"] >= self.beats.get(beat["publisher_id"], {"time": 0})["time"]:
                self.beats[beat["publisher_id"]] = beat
        else:
            self.arrived.update(ids_of(message))


def ids_of(message: Message) -> list[str]:
    """Of the envelopes in a message."""
    batch = unpack(message.attributes, message.data)
    first = batch["first_sequence"]
    return [f"{batch['publisher_id']}-{first + offset}" for offset in batch["sequence_offset"]]
