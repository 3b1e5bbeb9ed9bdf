"""Several orders at once: one for the same target joins, a newer one supersedes, all are told."""

import json
import shutil
import socket
import threading
import time

import pytest

import models
from fixtures import HELD
from loading import assert_clean
from serving import until

ALLOW = "--allow-model-from"


class Caller(threading.Thread):
    """Asks for an update and keeps the answer; begun, the server has read the order."""

    def __init__(self, server, *arguments, **more):
        super().__init__()
        self.server, self.arguments, self.more, self.answer = server, arguments, more, None
        sent = threading.Event()
        self.more["sent"] = sent.set
        self.start()
        assert sent.wait(60)
        assert server.get("/v2/health/live").status == 200     # What was sent before it is read.

    def run(self):
        self.answer = self.server.update(*self.arguments, **self.more)

    def result(self):
        self.join()
        return self.answer


@pytest.fixture
def server(serve_with_faults, faults, tiny):
    """A server whose workers take half a second to load, so that an update lasts; under load."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    with tiny.load(server, connections=4, options=["--rate", "200"]) as load:
        load.wait_for_answers(20)
        faults.set("loading", "sleep:500")
        yield server
        load.wait_for_answers(20)
        assert_clean(load.stop())


def test_two_slots_take_the_same_folder_at_once(serve_with_faults, faults, tiny):
    faults.set("rename", "sleep:300")
    server = serve_with_faults(f"one={tiny['a']}", f"two={tiny['a']}")
    slots = server.get("/update_model").json["slots"]
    assert [slot["generation"] for slot in slots] == [1, 1]
    assert {slot["fingerprint"] for slot in slots} == {tiny.fingerprints["a"]}


def test_room_is_made_as_soon_as_a_straggler_is_answered(serve_with_faults, faults, tiny):
    faults.environment.update(MOULT_FAULTS_WATCHDOG_S="600", MOULT_FAULTS_STRAGGLER_S="600")
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    faults.hold()
    stragglers = []
    for letter in "bc":
        straggler = threading.Thread(target=server.embed, args=(HELD,))
        straggler.start()
        stragglers.append(straggler)
        faults.wait_for("text", times=len(stragglers))
        server.updated(tiny[letter])
    third = Caller(server, tiny["a"], timeout=300)
    update = running(server)["id"]
    faults.release()
    assert third.result().json["status"] == "live" and third.answer.json["id"] == update
    for straggler in stragglers:
        straggler.join()


def test_an_order_while_the_first_model_loads(serve_with_faults, faults, tiny):
    faults.hold("loading", once=True)
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place], ready=False)
    faults.wait_for("loading")
    order = Caller(server, tiny["b"])
    faults.release()
    assert order.result().json["status"] == "live", order.answer
    assert server.fingerprint() == tiny.fingerprints["b"]


def running(server):
    return until("the update to run", lambda: server.slot()["update"])


def test_there_and_back_within_100_ms(server, tiny):
    there = Caller(server, tiny["b"])
    back = Caller(server, tiny["a"])
    answers = there.result(), back.result()
    assert answers[0].status == 409 and answers[0].json["status"] == "superseded", answers
    assert answers[1].json["status"] in ("live", "unchanged"), answers
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.generation() <= 3


def test_the_same_target_joins(server, tiny, faults):
    faults.hold("copy")
    callers = [Caller(server, tiny["b"]) for _ in range(4)]
    faults.release()
    answers = [caller.result() for caller in callers]
    assert {answer.status for answer in answers} == {200}, answers
    assert len({answer.json["id"] for answer in answers}) == 1, answers
    assert {answer.json["generation"] for answer in answers} == {2}
    assert server.generation() == 2


def test_the_same_target_once_its_place_was_read(server, tiny, tmp_path):
    """The files may have changed since: what is there now must be live when it is answered."""
    source = models.copy(tiny["b"], tiny.place / tmp_path.name / "tiny")
    first = Caller(server, source)
    until("it to load", lambda: "load" in (running(server)["phase"]))
    shutil.copy(tiny["c"] / "model.safetensors", source / "model.safetensors")
    second = server.update(source)
    assert second.status == 200 and second.json["status"] == "live", second
    assert first.result().status in (200, 409)
    assert server.fingerprint() == tiny.fingerprints["c"]


def test_a_newer_target_supersedes(server, tiny):
    old = Caller(server, tiny["b"])
    running(server)
    new = Caller(server, tiny["c"])
    assert old.result().status == 409 and old.answer.json["status"] == "superseded"
    assert new.result().json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["c"]
    assert server.get(f"/update_model/{old.answer.json['id']}").json["status"] == "superseded"


def test_a_busy_slot_can_reject(server, tiny):
    first = Caller(server, tiny["b"])
    running(server)
    answer = server.update(tiny["c"], if_busy="reject")
    assert answer.status == 409, answer
    assert first.result().json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_cancel(server, tiny):
    answer = server.update(tiny["b"], wait=False)
    assert answer.status == 202 and answer.json["status"] == "running"
    update = answer.json["id"]
    assert server.get(f"/update_model/{update}").json["status"] == "running"
    assert server.call("DELETE", f"/update_model/{update}").status == 200
    assert server.wait_for_end(update)["status"] == "cancelled"
    until("the candidate to go", lambda: len(server.workers()) == 1)
    assert server.generation() == 1
    assert server.call("DELETE", f"/update_model/{update}").status in (404, 409)
    assert server.updated(tiny["b"]) > 1


def test_the_waiting_caller_of_a_cancelled_update_is_told(server, tiny):
    caller = Caller(server, tiny["b"])
    update = running(server)["id"]
    server.call("DELETE", f"/update_model/{update}")
    assert caller.result().json["status"] == "cancelled"


def test_rollback_while_an_update_loads(server, tiny):
    server.updated(tiny["b"])
    caller = Caller(server, tiny["c"])
    running(server)
    answer = server.post("/rollback", {"wait": True})
    assert answer.json["status"] == "live", answer
    assert caller.result().json["status"] == "superseded"
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_update_while_a_rollback_loads(server, tiny):
    server.updated(tiny["b"])
    assert server.post("/rollback", {"wait": False}).status in (200, 202)
    answer = server.update(tiny["c"])
    assert answer.json["status"] == "live", answer
    assert server.fingerprint() == tiny.fingerprints["c"]


def test_the_phases_are_told(server, tiny):
    update = server.update(tiny["b"], wait=False).json["id"]
    phases, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = server.get(f"/update_model/{update}").json
        if answer["status"] != "running":
            break
        if answer["phase"] not in phases:
            phases.append(answer["phase"])
    assert answer["status"] == "live"
    assert any("load" in phase for phase in phases), phases


def test_a_client_that_waits_and_goes_does_not_stop_the_update(server, tiny):
    body = json.dumps({"model": str(tiny["b"]), "wait": True}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /update_model HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        running(server)
    until("the update to go live", lambda: server.generation() == 2)
    assert server.embed("london").status == 200


def test_places_that_are_not_allowed(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "allowed" / "tiny")
    models.copy(tiny["b"], tmp_path / "allowed-not" / "tiny")
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "allowed-not" / "tiny")
    server = serve(source, options=[ALLOW, tmp_path / "allowed"])
    for place in (tmp_path / "allowed-not" / "tiny", tmp_path / "allowed" / "link",
                  f"{tmp_path}/allowed/../allowed-not/tiny", "/etc", "relative/tiny"):
        answer = server.update(place)
        assert answer.status == 403, (place, answer)
        assert answer.json["error"]["message"]
    assert server.generation() == 1
    assert server.update().json["status"] == "unchanged"


def test_the_source_is_read_anew(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source)
    assert server.update().json["status"] == "unchanged"
    shutil.copy(tiny["b"] / "model.safetensors", source / "model.safetensors")
    assert server.update().json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["b"]
    assert server.update().json["status"] == "unchanged"


@pytest.mark.parametrize("body, status", [
    (b"{", 400), (b"[]", 400), (b"null", 400), (b'{"model": 7}', 400), (b'{"wait": "yes"}', 400),
    (b'{"slot": "other"}', 404), (b'{"if_busy": "maybe"}', 400), (b'{"model": ""}', 400),
    (b'{"model": "/etc\\u0000/tiny"}', 400)])
def test_bad_orders(serve, tiny, body, status):
    server = serve(tiny["a"])
    answer = server.post("/update_model", body)
    assert answer.status in (status, 403 if b"\\u0000" in body else status), answer
    assert answer.json["error"]["code"] and answer.json["error"]["message"]
    assert server.generation() == 1


def test_only_post_with_json_changes_anything(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    body = '{"model": "%s", "wait": true}' % tiny["b"]
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = server.post("/update_model", body, headers={"Content-Type": kind})
        assert answer.status in (400, 415), answer
    assert server.get(f"/update_model?model={tiny['b']}&wait=true").status == 200
    assert server.generation() == 1
