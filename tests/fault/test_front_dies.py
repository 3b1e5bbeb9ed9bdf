"""kill -9 of the front at any moment, then a start without the source: the last good generation."""

import json
import shutil
import time

import pytest

import models
from fixtures import FAULTS
from loading import BUILD
from serving import Server, until
from watching import Watch

ALLOW = "--allow-model-from"


def restart_offline(server):
    """Starts again from the data folder alone."""
    server.models, server.options = [], []
    return server.start()


def check_serves(server, tiny, letters):
    answer = server.embed("how big is london")
    assert answer.status == 200, answer
    fingerprint = server.fingerprint()
    assert fingerprint in [tiny.fingerprints[letter] for letter in letters], fingerprint
    assert answer.headers["x-moult-fingerprint"] == fingerprint[:16]
    assert not list((server.data / "models").glob(".incoming*"))


def test_restart_with_the_source_gone(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source, options=[ALLOW, tiny.place])
    first = server.embed("london").json
    shutil.rmtree(source)
    server.kill()
    restart_offline(server)
    check_serves(server, tiny, "a")
    assert server.embed("london").json == first
    assert server.slot()["name"] == "tiny"
    assert server.update().json["status"] == "refused"
    check_serves(server, tiny, "a")


def test_numbers_only_grow(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    seen = [server.generation()]
    for letter in "bab":
        seen.append(server.updated(tiny[letter]))
        server.kill()
        server.start()
        assert server.fingerprint() == tiny.fingerprints[letter]
        seen.append(server.generation())
    assert seen == sorted(seen), seen


POINTS = ["copy", "rename", "start", "loading", "checking", "ready",
          "state-before", "state-after", "cutover-after"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(serve_with_faults, faults, tiny, tmp_path, point):
    source = models.copy(tiny["b"], tmp_path / "source" / "tiny")
    server = serve_with_faults(tiny["a"], options=[ALLOW, tmp_path])
    with Watch(server, tiny, lossy=True) as watch:
        watch.event()
        faults.set(point, "sleep:20000")
        try:
            server.update(source, wait=False, timeout=1)
        except OSError:
            pass
        until(f"{point} to be reached", lambda: faults.reached(point))
        faults.set()
        server.kill()
        shutil.rmtree(source)
        restart_offline(server)
        check_serves(server, tiny, "b" if point in ("state-after", "cutover-after") else "a")
    # Nothing that was begun is in the way of the next update.
    models.copy(tiny["c"], tmp_path / "source" / "tiny")
    server.stop()
    server.options = [ALLOW, tmp_path]
    server.start()
    assert server.updated(tmp_path / "source" / "tiny") > 1
    assert server.fingerprint() == tiny.fingerprints["c"]


@pytest.mark.parametrize("moment_ms", [1, 3, 6, 10, 20, 40, 80])
def test_killed_at_any_moment(serve, tiny, moment_ms):
    """Without fault points: whatever is under way so many milliseconds after the order."""
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.update(tiny["b"], wait=False)
    time.sleep(moment_ms / 1000)
    server.kill()
    restart_offline(server)
    check_serves(server, tiny, "ab")


def test_what_was_said_to_be_live_is_live_after_kill(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    for letter in "bcabc":
        number = server.updated(tiny[letter])
        server.kill()
        server.start()
        assert server.fingerprint() == tiny.fingerprints[letter]
        assert server.generation() >= number


DAMAGES = {
    "empty": lambda good: b"",
    "half": lambda good: good[:len(good) // 2],
    "garbage": lambda good: b"\xff\xfe{]",
    "nul": lambda good: good.replace(b"tiny", b"ti\0y"),
    "wrong types": lambda good: b'{"version":1,"slots":{"tiny":7}}',
    "other version": lambda good: json.dumps(dict(json.loads(good), version=999)).encode(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state(serve, tiny, damage):
    """It says which file is damaged and how to go on, and never guesses."""
    server = serve(tiny["a"])
    assert server.stop() == 0
    state = server.data / "state.json"
    good = state.read_bytes()
    state.write_bytes(DAMAGES[damage](good))
    server.models = []
    server.start(ready=False)
    code = server.wait()
    assert code == 1
    last = server.log().splitlines()[-1]
    assert "state.json" in last and len(last) < 1000, last
    assert state.read_bytes() != good
    state.write_bytes(good)
    server.start()
    check_serves(server, tiny, "a")


def test_a_half_written_new_state_is_ignored(serve, tiny):
    server = serve(tiny["a"])
    server.kill()
    for name in ("state.json.new", "state.json.tmp", ".state.json"):
        (server.data / name).write_bytes(b"{")
    incoming = server.data / "models" / ".incoming-1-1"
    incoming.mkdir()
    (incoming / "config.json").write_text("{")
    restart_offline(server)
    check_serves(server, tiny, "a")


def test_two_servers_on_one_data_folder(serve, tiny):
    server = serve(tiny["a"])
    second = Server(server.data, tiny["a"])
    second.log_path = server.data.parent / "second.log"
    second.start(ready=False)
    assert second.wait() == 1
    assert str(server.data) in second.log(), second.log()
    assert server.embed("london").status == 200
    server.kill()
    # The lock goes with the process that held it.
    server.start()
    check_serves(server, tiny, "a")


def test_an_empty_data_folder_without_a_model(tmp_path):
    server = Server(tmp_path / "data")
    server.start(ready=False)
    assert server.wait() == 1
    assert "make run" in server.log()


def test_a_taken_port(serve, tiny, tmp_path):
    server = serve(tiny["a"])
    second = Server(tmp_path / "other", tiny["a"])
    second.port = server.port
    second.start(ready=False)
    assert second.wait() == 1
    assert str(server.port) in second.log() and "--port" in second.log(), second.log()


def test_the_state_wins_over_the_model_on_the_command_line(serve, tiny, tmp_path):
    """MODEL names the source; the current generation stays until the source has something newer."""
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.updated(tiny["b"])
    server.stop()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_the_fault_points_are_not_in_the_program_people_use(tmp_path):
    if not FAULTS.exists():
        pytest.skip(f"{FAULTS} is not built")
    assert b"moult-fault:" in FAULTS.read_bytes()
    assert b"moult-fault:" not in (BUILD / "moult").read_bytes()
    assert b"MOULT_FAULTS" not in (BUILD / "moult").read_bytes()
