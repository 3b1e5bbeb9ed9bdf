"""An update that waits for a person: what it is told, what ends it, what survives it."""

import json
import os
import shutil
import signal

import pytest

import models
from fixtures import moult
from loading import assert_clean
from serving import until

ALLOW = "--allow-model-from"


@pytest.fixture
def server(serve, tiny):
    return serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])


def made_ready(server, model, **more):
    """An update that waits for its cut-over; returns its number."""
    answer = server.update(model, **{"cutover": "manual", **more})
    assert answer.status == 200 and answer.json["status"] == "ready", answer
    return answer.json["id"]


def cut_over(server, update, **body):
    return server.post(f"/update_model/{update}/cutover", {"wait": True, **body})


def is_ready(server, update):
    return server.get(f"/update_model/{update}").json["status"] == "ready"


def test_it_waits_and_then_serves(server, tiny):
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(50)
        update = made_ready(server, tiny["b"])
        shown = server.slot()["update"]
        assert (shown["id"], shown["status"], shown["phase"]) == (update, "ready", "ready"), shown
        assert shown["generation"] == 2
        assert server.get(f"/update_model/{update}").json["status"] == "ready"
        assert server.generation() == 1
        load.wait_for_answers(200)
        answer = cut_over(server, update)
        assert answer.status == 200 and answer.json["status"] == "live", answer
        assert answer.json["generation"] == server.generation() == 2
        load.tell("min-generation 2")
        load.wait_for_answers(50)
        assert_clean(load.stop())
    assert server.fingerprint() == tiny.fingerprints["b"]
    assert cut_over(server, update).status == 409
    assert server.call("DELETE", f"/update_model/{update}").status == 409


def test_a_server_can_ask_each_time(serve, tiny):
    server = serve(tiny["a"], options=["--cutover", "manual", ALLOW, tiny.place])
    assert server.generation() == 1      # Nobody is asked where nothing serves yet.
    answer = server.update(tiny["b"])
    assert answer.json["status"] == "ready", answer
    assert cut_over(server, answer.json["id"]).json["status"] == "live"
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.updated(tiny["c"], cutover="auto") > 1


def test_without_waiting_for_the_answer(server, tiny):
    update = made_ready(server, tiny["b"])
    answer = server.post(f"/update_model/{update}/cutover")
    assert answer.status == 202 and answer.json["status"] == "running", answer
    assert server.wait_for_end(update)["status"] == "live"


def test_the_word_may_come_before_it_is_ready(serve_with_faults, faults, tiny):
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    faults.set("loading", "sleep:500")
    update = server.update(tiny["b"], wait=False, cutover="manual").json["id"]
    answer = cut_over(server, update)
    assert answer.json["status"] == "live", answer
    assert server.generation() == answer.json["generation"]


def test_something_newer_supersedes(server, tiny):
    old = made_ready(server, tiny["b"])
    new = made_ready(server, tiny["c"])
    assert server.get(f"/update_model/{old}").json["status"] == "superseded"
    assert is_ready(server, new)
    until("the old candidate to go", lambda: len(server.workers()) == 2)
    assert cut_over(server, new).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["c"]


def test_the_same_revision_joins(server, tiny):
    first = made_ready(server, tiny["b"])
    workers = server.workers()
    assert made_ready(server, tiny["b"]) == first
    assert server.workers() == workers
    answer = server.update(tiny["b"])        # And who says nothing of waiting does not want to.
    assert answer.json["status"] == "live" and answer.json["id"] == first, answer
    assert server.generation() == answer.json["generation"] == 2


def test_what_cannot_be_read_changes_nothing(server, tiny):
    update = made_ready(server, tiny["b"])
    answer = server.update(tiny.place / "nothing-here", cutover="manual")
    assert answer.status == 422, answer
    assert is_ready(server, update)
    assert cut_over(server, update).json["status"] == "live"


def test_the_source_goes_back_to_what_serves(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source)
    shutil.copy(tiny["b"] / "model.safetensors", source / "model.safetensors")
    update = made_ready(server, None)
    shutil.copy(tiny["a"] / "model.safetensors", source / "model.safetensors")
    assert server.update().json["status"] == "unchanged"
    assert server.get(f"/update_model/{update}").json["status"] == "superseded"
    assert server.generation() == 1


def test_a_rollback_supersedes(server, tiny):
    server.updated(tiny["b"])
    update = made_ready(server, tiny["c"])
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    assert server.get(f"/update_model/{update}").json["status"] == "superseded"
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_cancel(server, tiny):
    update = made_ready(server, tiny["b"])
    assert server.call("DELETE", f"/update_model/{update}").status == 200
    assert server.get(f"/update_model/{update}").json["status"] == "cancelled"
    until("the candidate to go", lambda: len(server.workers()) == 1)
    assert server.slot()["update"] is None
    assert cut_over(server, update).status == 409


def test_busy(server, tiny):
    made_ready(server, tiny["b"])
    assert server.update(tiny["c"], if_busy="reject").status == 409


def test_the_server_is_killed_while_it_waits(server, tiny):
    made_ready(server, tiny["b"])
    server.kill()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.slot()["update"] is None
    assert server.updated(tiny["b"]) > 1


def test_the_server_is_stopped_while_it_waits(server, tiny):
    update = made_ready(server, tiny["b"])
    assert server.stop() == 0
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.get(f"/update_model/{update}").json["status"] == "cancelled"


def test_its_worker_dies_while_it_waits(server, tiny):
    update = made_ready(server, tiny["b"])
    candidate = server.workers()[-1]
    os.kill(candidate, signal.SIGKILL)
    until("it to load again",
          lambda: is_ready(server, update) and candidate not in server.workers())
    assert cut_over(server, update).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_its_worker_dies_again_and_again(server, tiny):
    update = made_ready(server, tiny["b"])
    def ended():
        for pid in server.workers()[1:]:
            os.kill(pid, signal.SIGKILL)
        answer = server.get(f"/update_model/{update}").json
        return answer if answer["status"] not in ("running", "ready") else None
    answer = until("it to be refused", ended)
    assert answer["status"] == "refused" and answer["reason"], answer
    assert server.generation() == 1 and server.get("/health").status == 200


def test_a_warm_one_that_waits_dies(server, tiny):
    server.updated(tiny["b"])
    update = made_ready(server, tiny["a"])
    warm = server.workers()[0]
    assert len(server.workers()) == 2        # It is the one that served before.
    os.kill(warm, signal.SIGKILL)
    until("it to load anew", lambda: is_ready(server, update) and warm not in server.workers()
          and len(server.workers()) == 2)
    assert cut_over(server, update).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["a"]


@pytest.mark.parametrize("path, status", [
    ("/update_model/9999/cutover", 404), ("/update_model/0/cutover", 404),
    ("/update_model/1/cut", 404), ("/update_model/x/cutover", 404), ("/update_model/1", 404)])
def test_there_is_no_such_update(server, path, status):
    assert server.post(path).status == status


def test_bad_orders(server, tiny):
    assert server.update(tiny["b"], cutover="later").status == 400
    assert server.update(tiny["b"], cutover=1).status == 400
    update = made_ready(server, tiny["b"])
    assert cut_over(server, update, when="now").status == 400
    assert cut_over(server, update, wait="yes").status == 400
    assert is_ready(server, update)


def test_the_commands(server, tiny):
    url = f"--url=http://127.0.0.1:{server.port}"
    nothing = moult("cutover", url)
    assert nothing.returncode == 1 and b"No update waits" in nothing.stderr
    done = moult("update", url, "--cutover", "manual", tiny["b"])
    assert done.returncode == 0 and b"moult cutover" in done.stdout, done
    assert b"is ready as generation 2" in moult("status", url).stdout
    assert moult("cutover", url, "--slot", "other").returncode == 1
    assert moult("cutover", url, "first").returncode == 2
    done = moult("cutover", url, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "live", done
    assert server.generation() == 2
    done = moult("update", url, "--cutover", "maybe", tiny["b"])
    assert done.returncode == 1 and b"manual" in done.stderr, done
