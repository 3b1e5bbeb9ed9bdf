"""Documents that were acknowledged, and searches that were admitted, whatever dies meanwhile."""

import concurrent.futures
import os
import random
import signal
import threading
import time

import pytest

from serving import until

LIST = 5      # Documents of one request: all of them, or none.


class Writers:
    """Clients that write lists of documents without end, and remember what was acknowledged."""

    def __init__(self, server, count=4):
        self.server, self.acknowledged, self.statuses = server, set(), []
        self.ending, self.lock = threading.Event(), threading.Lock()
        self.pool = concurrent.futures.ThreadPoolExecutor(count)
        self.clients = [self.pool.submit(self._write, client) for client in range(count)]

    def _write(self, client):
        turn = 0
        while not self.ending.is_set():
            name = f"{client}-{turn}"
            documents = [{"id": f"{name}-{i}", "text": f"{name} people {i}",
                          "metadata": {"name": name}} for i in range(LIST)]
            try:
                status = self.server.post("/documents", documents).status
            except OSError:
                return
            with self.lock:
                self.statuses.append(status)
                if status == 200:
                    self.acknowledged.add(name)
            turn += 1

    def wait_for(self, count):
        until(f"{count} writes", lambda: len(self.acknowledged) >= count)

    def stop(self):
        self.ending.set()
        for client in self.clients:
            client.result()
        self.pool.shutdown()


def stored(server):
    """Names of the lists that are stored, each of them whole."""
    counts, cursor = {}, ""
    while cursor is not None:
        page = server.get(f"/documents?limit=1000&with_text=false{cursor}").json
        for document in page["documents"]:
            name = document["metadata"]["name"]
            counts[name] = counts.get(name, 0) + 1
        cursor = page["cursor"] and "&cursor=" + page["cursor"]
    assert set(counts.values()) <= {LIST}, "a list is all or nothing"
    return set(counts)


def found(server, name):
    answer = server.post("/search", {"query": "people", "filter": {"name": name}})
    assert answer.status == 200, answer
    return {hit["id"] for hit in answer.json["results"]}


@pytest.mark.parametrize("point", ["store-commit", "store-committed"])
def test_killed_while_it_stores(serve_with_faults, faults, tiny, point, tmp_path):
    server = serve_with_faults(tiny["a"], data=tmp_path / "kept")
    writers = Writers(server)
    writers.wait_for(10)
    faults.set(point, "crash")
    until("the server to die", lambda: server.process.poll() is not None)
    writers.stop()
    faults.set()
    server.start()
    kept = stored(server)
    assert writers.acknowledged <= kept
    assert len(kept - writers.acknowledged) <= 4, "nobody writes what was not sent"
    for name in random.sample(sorted(kept), min(40, len(kept))):
        assert found(server, name) == {f"{name}-{i}" for i in range(LIST)}


def test_workers_die_under_writes_and_searches(serve, tiny):
    """Each request is admitted once and answered once; what was written before is found by it."""
    server = serve(tiny["a"])
    writers = Writers(server)
    writers.wait_for(4)
    ending = threading.Event()
    failed = []

    def search(seed):
        draw = random.Random(seed)
        searches = 0
        while not ending.is_set():
            with writers.lock:
                name = draw.choice(sorted(writers.acknowledged))
            hits = found(server, name)
            if hits != {f"{name}-{i}" for i in range(LIST)}:
                failed.append((name, hits))
            searches += 1
        return searches

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        searchers = [pool.submit(search, seed) for seed in range(4)]
        try:
            for _ in range(4):
                time.sleep(0.3)
                before = len(writers.acknowledged)
                os.kill(server.worker(), signal.SIGKILL)
                writers.wait_for(before + 5)
        finally:
            ending.set()
            writers.stop()
        assert min(searcher.result() for searcher in searchers) > 0
    assert not failed, failed[:3]
    assert set(writers.statuses) == {200}
    assert stored(server) == writers.acknowledged


def test_the_end_leaves_no_write_unanswered(serve, tiny, tmp_path):
    """SIGTERM: what was admitted is stored and said to be; nothing else is."""
    server = serve(tiny["a"], data=tmp_path / "kept")
    writers = Writers(server, 8)
    writers.wait_for(10)
    assert server.stop() == 0
    writers.stop()
    assert set(writers.statuses) <= {200, 202}
    server.start()
    assert writers.acknowledged <= stored(server)
