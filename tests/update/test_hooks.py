"""Web hooks: what they tell, that it is signed, and that a receiver can do as it likes."""

import socket
import subprocess
import time

import pytest

import models
from receiver import SECRET, Receiver
from loading import BUILD
from serving import alive, free_port, until

ALLOW = "--allow-model-from"


@pytest.fixture
def told(serve, tiny, tmp_path):
    """told(receiver…) → a server that tells them, of model a."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")

    def start(*receivers, options=(), model=tiny["a"], start=serve, **more):
        hooks = [option for receiver in receivers
                 for option in ("--hook-url", getattr(receiver, "url", receiver))]
        return start(model, options=["--hook-secret-file", secret, ALLOW, tiny.place, *hooks,
                                     *options], **more)
    return start


def answer(handler, status, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def state_of(server, index=0):
    return server.get("/update_model").json["hooks"][index]


def test_a_first_start_and_an_update_are_told(told, tiny):
    with Receiver() as receiver:
        server = told(receiver)
        first = receiver.wait_for("update.live")
        server.updated(tiny["b"])
        live = receiver.wait_for("update.live", 2)
        assert receiver.types() == ["update.started", "update.fetched", "update.loaded",
                                    "update.live"] * 2
        assert all(attempt.verified for attempt in receiver.attempts)
        ids = [attempt.id for attempt in receiver.attempts]
        assert len(set(ids)) == len(ids) and all(id.startswith("msg_") for id in ids)
        for attempt in receiver.attempts:
            assert abs(attempt.timestamp - time.time()) < 60
    a, b = tiny.fingerprints["a"], tiny.fingerprints["b"]
    assert first.data["previous"] is None and first.data["asked_by"] == "start"
    assert "same_vectors" not in first.data
    data = live.data
    assert data["slot"] == "tiny" and data["asked_by"] == "person" and data["rollback"] is False
    assert data["model"] == {"generation": 2, "fingerprint": b, "model": f"tiny@{b[:8]}"}
    assert data["previous"] == {"generation": 1, "fingerprint": a, "model": f"tiny@{a[:8]}"}
    assert data["same_vectors"] is False and data["source"] == str(tiny["b"])
    state = until("all to be counted", lambda: state_of(server)
                  if state_of(server)["delivered"] == 8 else None)
    assert state["receiver"] == f"http://127.0.0.1:{receiver.port}"
    assert (state["pending"], state["dropped"], state["error"]) == (0, 0, "")
    assert "hunter2" not in server.get("/update_model").body.decode() + server.log()


def test_ends_that_are_none_of_joy(told, tiny, tmp_path):
    broken = models.copy(tiny["b"], tiny.place / "broken" / "tiny")
    (broken / "config.json").write_text("{")
    with Receiver() as receiver:
        server = told(receiver)
        server.update(broken)
        refused = receiver.wait_for("update.refused")
        assert refused.data["reason"] and refused.data["model"] is None
        assert refused.data["previous"]["generation"] == 1
        server.update(tiny["a"])
        assert receiver.wait_for("update.unchanged").data["update"] > refused.data["update"]
        server.updated(tiny["b"])
        server.post("/rollback", {"wait": True})
        back = receiver.wait_for("update.rolled_back")
        assert back.data["rollback"] is True and "source" not in back.data
        assert back.data["model"]["fingerprint"] == tiny.fingerprints["a"]


def test_a_person_is_told_that_it_waits(told, tiny):
    with Receiver() as receiver:
        server = told(receiver)
        server.update(tiny["b"], cutover="manual")
        ready = receiver.wait_for("update.ready")
        assert ready.data["model"]["fingerprint"] == tiny.fingerprints["b"]
        assert receiver.types()[-2:] == ["update.loaded", "update.ready"]
        server.call("DELETE", f"/update_model/{ready.data['update']}")
        receiver.wait_for("update.cancelled")


def test_failures_are_tried_again_in_order(told, tiny):
    """The first attempts of every message fail, each in another way."""
    def misbehave(attempt, handler):
        if sum(other.id == attempt.id for other in receiver.attempts) > 1:
            return 200
        failure = [500, None, 302, 404][len(receiver.messages()) - 1]
        return answer(handler, 302, Location=receiver.url) if failure == 302 else failure

    with Receiver(misbehave=misbehave) as receiver:
        server = told(receiver)
        receiver.wait_for("update.live")
        until("the last to be delivered", lambda: state_of(server)["delivered"] == 4)
        assert receiver.types() == ["update.started", "update.fetched", "update.loaded",
                                    "update.live"]
        firsts, seconds = receiver.attempts[::2], receiver.attempts[1::2]
        assert [a.id for a in firsts] == [a.id for a in seconds], "one after the other"
        assert [a.body for a in firsts] == [a.body for a in seconds]
        assert all(b.at - a.at > 0.4 for a, b in zip(firsts, seconds)), "not at once"
        state = state_of(server)
        assert state["failed_attempts"] == 4 and state["error"] == "" and not state["gone"]


def test_a_receiver_that_is_away_for_a_while(told, tiny):
    port = free_port()
    server = told(f"http://127.0.0.1:{port}/")
    server.updated(tiny["b"])
    state = until("an attempt to fail", lambda: state_of(server)
                  if state_of(server)["failed_attempts"] else None)
    assert state["pending"] == 8 and state["error"].endswith(".")
    with Receiver(port=port) as receiver:
        receiver.wait_for("update.live", 2)
        assert receiver.types() == ["update.started", "update.fetched", "update.loaded",
                                    "update.live"] * 2
        until("all to be counted", lambda: state_of(server)["delivered"] == 8)


def test_one_that_is_gone_is_left_alone(told, tiny):
    with Receiver(misbehave=lambda attempt, handler: 410) as gone, Receiver() as other:
        server = told(gone, other)
        other.wait_for("update.live")
        until("it to be gone", lambda: state_of(server)["gone"])
        server.updated(tiny["b"])
        other.wait_for("update.live", 2)
        assert len(gone.attempts) == 1
        assert (state_of(server)["pending"], state_of(server)["delivered"]) == (0, 0)
        assert state_of(server, 1)["delivered"] >= 7


def test_a_receiver_that_hangs_holds_nothing_up(told, tiny):
    """It accepts and never answers: updates go on, another is told, and SIGTERM ends it all."""
    with socket.create_server(("127.0.0.1", 0)) as silent, Receiver() as other:
        server = told(f"http://127.0.0.1:{silent.getsockname()[1]}/", other)
        for letter in "bc":
            server.updated(tiny[letter])
        other.wait_for("update.live", 3)
        assert state_of(server)["pending"] == 12
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20
        assert "was not told of 12 events" in server.log()


def test_what_waits_is_bounded_and_ends_outlive_steps(told, tiny):
    port = free_port()
    server = told(f"http://127.0.0.1:{port}/", options=["--keep-warm", "0"])
    for i in range(100):
        server.updated(tiny["ba"[i % 2]])
    state = state_of(server)
    assert state["pending"] == 256 and state["dropped"] == 4 * 101 - 256
    with Receiver(port=port) as receiver:
        until("all to be told", lambda: state_of(server)["pending"] == 0)
        lives = [a for a in receiver.messages() if a.type == "update.live"]
        assert [a.data["model"]["generation"] for a in lives] == list(range(1, 102))


def test_what_is_too_old_is_given_up(told, tiny, serve_with_faults, faults):
    faults.environment.update(MOULT_FAULTS_HOOK_PATIENCE_S="0")
    with Receiver(misbehave=lambda attempt, handler: 503) as receiver:
        server = told(receiver, start=serve_with_faults)
        until("all to be given up", lambda: state_of(server)["given_up"] == 4)
        assert len(receiver.attempts) == 4
        assert "was never told of update.live: It answers 503." in server.log()


def test_an_attempt_has_an_end(told, serve_with_faults, faults):
    faults.environment.update(MOULT_FAULTS_HOOK_ATTEMPT_S="1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = told(f"http://127.0.0.1:{silent.getsockname()[1]}/", start=serve_with_faults)
        state = until("an attempt to fail", lambda: state_of(server)
                      if state_of(server)["failed_attempts"] else None)
        assert "timed out" in state["error"].lower() or "timeout" in state["error"].lower(), state


def test_a_stop_still_tells_what_it_can(told, tiny, faults, serve_with_faults):
    """The receiver fails at first, so that all waits; SIGTERM gives each one more attempt."""
    broken = [True]
    with Receiver(misbehave=lambda attempt, handler: 500 if broken[0] else 204) as receiver:
        server = told(receiver)
        until("an attempt to fail", lambda: state_of(server)["failed_attempts"])
        broken[0] = False
        assert server.stop() == 0
        assert receiver.types() == ["update.started", "update.fetched", "update.loaded",
                                    "update.live"]


def test_without_a_secret_nothing_is_signed(serve, tiny):
    with Receiver(secret=None) as receiver:
        serve(tiny["a"], options=["--hook-url", receiver.url])
        attempt = receiver.wait_for("update.live")
        assert "webhook-signature" not in attempt.headers


def test_a_polite_receiver_is_obeyed(told, tiny):
    def misbehave(attempt, handler):
        if len(receiver.attempts) > 1:
            return 204
        return answer(handler, 429, Retry_After="4")

    with Receiver(misbehave=misbehave) as receiver:
        told(receiver)
        receiver.wait_for("update.live")
        assert receiver.attempts[1].at - receiver.attempts[0].at > 3.5


@pytest.mark.parametrize("options, complaint", [
    (["--hook-url", "ftp://127.0.0.1/"], "http://"), (["--hook-url", "127.0.0.1:80"], "http://"),
    (["--hook-url", "http://"], "http://"), (["--hook-url", "http://127.0.0.1/"] * 9, "8"),
    (["--hook-secret-file", "/nowhere"], "/nowhere"), (["--hook-secret-file", "SHORT"], "openssl")])
def test_bad_options(tiny, tmp_path, options, complaint):
    short = tmp_path / "short"
    short.write_text("hunter2\n")
    done = subprocess.run([BUILD / "moult", "serve", tiny["a"], "--data", tmp_path / "data",
                           "--port", str(free_port()),
                           *[short if option == "SHORT" else option for option in options]],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and complaint in done.stderr, done
    assert "hunter2" not in done.stderr


def test_no_descriptor_reaches_a_worker(told, tiny):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = told(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        server.updated(tiny["b"])
        assert all(alive(pid) for pid in server.workers())
        links = [subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True)
                 .stdout for pid in server.workers()]
        assert links and not any("socket:" in link for link in links), links


def test_metrics_count_updates_and_messages(told, tiny):
    with Receiver() as receiver:
        server = told(receiver)
        server.updated(tiny["b"])
        server.post("/rollback", {"wait": True})
        server.update(tiny["b"], cutover="manual")
        receiver.wait_for("update.ready")
        until("all to be counted", lambda: state_of(server)["pending"] == 0)
        metrics = server.get("/metrics").body.decode().splitlines()
        delivered = state_of(server)["delivered"]
    label = f'{{hook="0",receiver="http://127.0.0.1:{receiver.port}"'
    for line in ('moult_updates_total{slot="tiny",result="live"} 3',
                 'moult_updates_total{slot="tiny",result="refused"} 0',
                 'moult_rollbacks_total{slot="tiny"} 1',
                 'moult_update_phase{slot="tiny",phase="ready"} 1',
                 f'moult_hook_messages_total{label},result="delivered"}} {delivered}',
                 f'moult_hook_pending{label}}} 0'):
        assert line in metrics, (line, metrics)
