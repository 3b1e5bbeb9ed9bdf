"""Everything at once, in an order drawn from a seed: updates, rollbacks, cancels, deaths, …"""

import contextlib
import json
import os
import random
import signal
import socket
import time

import pytest

from corpus import Traffic, check_all, fill
from corpus import corpus, options, patient, texts  # noqa: F401
from fixtures import SOAK
from loading import assert_clean
from serving import HealthPoll, until

SECONDS = 300 if SOAK else 6


class Chaos:
    """What may happen to a server at any time; each is one step."""

    def __init__(self, server, tiny, seed):
        self.server, self.tiny, self.draw = server, tiny, random.Random(seed)
        self.kills = 0

    def step(self):
        steps = [self.update, self.update, self.broken_update, self.roll_back, self.cancel,
                 self.kill_a_worker, self.desert, self.ask_for_all]
        self.draw.choice(steps)()
        time.sleep(self.draw.choice([0, 0.005, 0.02, 0.1]))

    def update(self):
        self.server.update(self.tiny[self.draw.choice("abc")], wait=self.draw.random() < 0.5,
                           force=self.draw.random() < 0.2)

    def broken_update(self):
        self.server.update(self.tiny.place / "nowhere", wait=self.draw.random() < 0.5)

    def roll_back(self):
        self.server.post("/rollback", {"wait": self.draw.random() < 0.5})

    def cancel(self):
        update = self.server.slot()["update"]
        if update:
            self.server.call("DELETE", f"/update_model/{update['id']}")

    def kill_a_worker(self):
        """Seldom: restarts become slow on purpose when deaths follow each other."""
        workers = self.server.workers()
        if workers and self.draw.random() < 0.3:
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.draw.choice(workers), signal.SIGKILL)

    def desert(self):
        body = json.dumps({"inputs": ["london"] * self.draw.choice([1, 30, 500])}).encode()
        request = (b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            connection.sendall(request[:self.draw.randrange(len(request) + 1)])
            time.sleep(self.draw.choice([0, 0.002]))

    def ask_for_all(self):
        for path in ("/update_model", "/v1/models", "/info", "/?q=london"):
            assert self.server.get(path).status == 200, path


@pytest.mark.parametrize("keep_warm", [0, "1s", "10m"])
def test_chaos(serve, tiny, keep_warm):
    server = serve(tiny["a"], options=["--keep-warm", keep_warm,
                                       "--allow-model-from", tiny.place])
    chaos = Chaos(server, tiny, f"moult {keep_warm}")
    with HealthPoll(server), tiny.load(server, connections=8) as load:
        load.wait_for_answers(50)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chaos.step()
            assert server.process.poll() is None, server.log()[-4000:]
        until("the last update to end", lambda: not server.slot()["update"])
        load.wait_for_answers(100)
        result = load.stop()
    print(f"{chaos.kills} kills, {server.generation()} generations", result)
    assert_clean(result, least=100)
    # A restart finds what was last said to be live.
    fingerprint = server.fingerprint()
    server.kill()
    server.start()
    assert server.fingerprint() == fingerprint


@pytest.mark.parametrize("keep_warm", [0, "10m"])
def test_chaos_among_documents(serve_with_faults, faults, patient, tiny, corpus, options,
                               keep_warm):
    """The same beside searches, writes and deletes, each answer a full scan's."""
    faults.environment["MOULT_FAULTS_TIDY_S"] = "1"
    server = serve_with_faults(tiny["a"], options=[*options, "--keep-warm", keep_warm])
    chaos = Chaos(server, tiny, f"moult among documents {keep_warm}")
    fill(server, corpus, 500)
    with HealthPoll(server), Traffic(server, corpus, ids=50) as traffic:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chaos.step()
            assert server.process.poll() is None, server.log()[-4000:]
        traffic.wait_for(20)
        until("the last update to end", lambda: not server.slot()["update"])
    check_all(server, corpus)
