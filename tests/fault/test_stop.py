"""SIGTERM: every admitted request is answered, clients are told to leave, the exit code is 0."""

import http.client
import json
import os
import signal
import socket
import threading
import time

import pytest

from fixtures import HELD
from serving import alive, until


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_under_load(serve, tiny, signal_number):
    server = serve(tiny["a"])
    with tiny.load(server, connections=16,
                   options=["--until-refused", "--allow", "503", "--seconds", "60"]) as load:
        load.wait_for_answers(200)
        server.process.send_signal(signal_number)
        assert server.wait() == 0
        result = load.result()
    print(result)
    assert result["failed"] == result["wrong"] == result["mixed"] == 0, result["first_trouble"]
    assert result["closed"] > 0


def test_requests_in_flight_are_answered_whole(serve_with_faults, faults, tiny):
    faults.hold()
    server = serve_with_faults(tiny["a"])
    sent, answers = [], []

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/embed", json.dumps({"inputs": HELD}),
                           {"Content-Type": "application/json"})
        sent.append(connection)
        answer = connection.getresponse()
        answers.append((answer.status, len(answer.read()), answer.headers.get("Connection")))
        connection.close()
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    until("all to be sent", lambda: len(sent) == len(threads))
    faults.wait_for("text")
    assert server.get("/health").status == 200      # What came before it has been read.
    server.process.send_signal(signal.SIGTERM)
    until("the end to begin", lambda: "Asked to stop" in server.log())
    faults.release()
    for thread in threads:
        thread.join()
    assert server.wait() == 0
    assert [answer[0] for answer in answers] == [200] * 6, answers
    assert all(answer[2] == "close" for answer in answers), answers


def test_idle_keep_alive_clients_do_not_hold_it(serve, tiny):
    server = serve(tiny["a"])
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for connection in connections[:10]:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in connection.recv(4096)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 30
    for connection in connections:
        connection.close()


def test_a_slow_body_does_not_hold_it_for_ever(serve, tiny):
    server = serve(tiny["a"])
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.2)
        assert server.stop() == 0


def test_during_an_update(serve_with_faults, faults, tiny):
    server = serve_with_faults(tiny["a"], options=["--allow-model-from", tiny.place])
    faults.set("loading", "sleep:20000")
    server.update(tiny["b"], wait=False)
    until("the candidate", lambda: len(server.workers()) == 2)
    workers = server.workers()
    assert server.stop() == 0
    until("the workers to go", lambda: not any(alive(pid) for pid in workers))
    faults.set()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_a_terminal_s_interrupt_reaches_the_whole_group_and_loses_nothing(
        serve_with_faults, faults, tiny):
    """^C goes to every process of the group: the workers must leave the end to the front."""
    faults.hold()
    server = serve_with_faults(tiny["a"], before=os.setsid)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(server.embed(HELD)))
    thread.start()
    faults.wait_for("text")
    os.killpg(server.pid, signal.SIGINT)
    until("the end to begin", lambda: "Asked to stop" in server.log())
    faults.release()
    thread.join()
    assert answers[0].status == 200, answers
    assert server.wait() == 0
