"""Every worker of a real server is confined, whatever brought it into being, and answers."""

import os
import pathlib
import signal

import pytest

from loading import assert_clean
from serving import until


def confinement(pid):
    """(Seccomp, NoNewPrivs) of each thread of a process: 2 is a filter."""
    found = set()
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        found.add((int(fields["Seccomp"]), int(fields["NoNewPrivs"])))
    return found


def assert_confined(server):
    if "There is no sandbox here" in server.log():
        pytest.skip("this machine grants no filter of system calls")
    workers = server.workers()
    assert workers
    for pid in workers:
        assert confinement(pid) == {(2, 1)}, server.log()


def test_workers_are_confined_at_the_start_after_an_update_and_after_a_death(serve, tiny):
    server = serve(tiny["a"], options=["--allow-model-from", tiny.place, "--keep-warm", "10m"])
    assert_confined(server)
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(50)
        generation = server.updated(tiny["b"])
        assert len(server.workers()) == 2
        assert_confined(server)
        load.tell(f"min-generation {generation}")
        before = server.workers()
        os.kill(before[-1], signal.SIGKILL)
        until("another worker", lambda: set(server.workers()) - set(before))
        load.wait_for_answers(100)
        assert_clean(load.stop())
    assert_confined(server)
    assert "Bad system call" not in server.log()
