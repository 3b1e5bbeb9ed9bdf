"""Clients that go away, say half, or say nothing: what they held is given back exactly once."""

import json
import socket
import struct
import time

import pytest

from fixtures import DEADLY, sleepy
from loading import assert_clean
from serving import until

ALLOW = "--allow-model-from"
TEXT = "how big is london and what model is this "


def send(server, bytes_, reset=False, wait=0.0):
    connection = socket.create_connection(("127.0.0.1", server.port))
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(bytes_)
    time.sleep(wait)
    connection.close()


def request(body, path="/embed", length=None):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n{body}").encode()


def test_gone_in_mid_request_during_updates(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    big = '{"inputs":[' + ",".join(f'"{TEXT * 4}{i}"' for i in range(200)) + "]}"
    descriptors = server.descriptors()
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(50)
        for turn in range(6):
            for n in range(10):
                send(server, request('{"inputs":"' + TEXT + '"}'), reset=n % 2)
                send(server, request(big), reset=n % 2, wait=0.002 * n)
                send(server, request(big)[:len(big) // 2], reset=n % 2)
            load.tell(f"min-generation {server.updated(tiny['ba'[turn % 2]])}")
        result = load.stop()
    assert_clean(result)
    until("the old workers to go", lambda: len(server.workers()) == 1)
    # Nothing is held for those who left: the queue is empty, and a large request fits.
    answer = server.post("/embed", {"inputs": [TEXT] * 512})
    assert answer.status == 200 and len(answer.json) == 512
    until("their connections to be closed", lambda: server.descriptors() <= descriptors + 1, 15)


def test_gone_while_a_large_body_is_read(serve, tiny):
    server = serve(tiny["a"])
    body = '{"inputs":[' + ",".join(['"' + TEXT * 170 + '"'] * 2000) + "]}"
    for n in range(8):
        send(server, request(body), wait=0.01 * n)
    assert server.embed(TEXT).status == 200
    assert len(server.workers()) == 1 and server.process.poll() is None


def test_large_bodies_that_stand_do_not_hold_others_for_long(serve, tiny):
    server = serve(tiny["a"])
    head = request('{"inputs":"' + "a" * 20000, length=16 << 20)
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(17)]
    for connection in slow:
        connection.sendall(head)
    time.sleep(0.3)
    answer = server.post("/embed", {"inputs": [TEXT] * 1000}, timeout=20)
    assert answer.status == 200
    for connection in slow:
        connection.close()


def test_gone_while_their_work_waits(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"], options=["--max-waiting", 64])
    descriptors = server.descriptors()
    for n in range(40):
        send(server, request(json.dumps({"inputs": sleepy(20)})), reset=n % 2, wait=0.005)
    assert server.embed(TEXT).status == 200
    until("the connections to be gone", lambda: server.descriptors() <= descriptors + 1)


def test_gone_before_a_deadly_request_is_answered(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"])
    for n in range(4):
        send(server, request(json.dumps({"inputs": DEADLY})), reset=n % 2)
    until("the server to answer again", lambda: server.embed(TEXT).status == 200)


@pytest.mark.parametrize("count", [1, 500])
def test_idle_connections_cost_little_and_hinder_nobody(serve, tiny, count):
    server = serve(tiny["a"])
    server.embed(TEXT)
    memory = server.memory()
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(200)
        assert_clean(load.stop())
    assert server.memory() < memory + (16 << 20) + count * 40_000
    for connection in connections:
        connection.close()


def test_a_slow_reader_holds_only_itself(serve, tiny):
    server = serve(tiny["a"])
    body = '{"inputs":[' + ",".join(f'"{TEXT}{i}"' for i in range(2000)) + "]}"
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    slow.sendall(request(body))
    slow.recv(100, socket.MSG_PEEK)   # While it waits itself, nobody else is admitted.
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(300)
        assert_clean(load.stop())
    # It still gets its whole answer, when it wants it.
    received = b""
    while b"]]" not in received[-64:]:
        piece = slow.recv(1 << 16)
        assert piece, received[-200:]
        received += piece
    assert received.startswith(b"HTTP/1.1 200")
    slow.close()


def test_a_slow_reader_across_the_end_of_its_generation(serve, tiny):
    """The answer lies in the shared memory of a worker that has already gone."""
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    count = 2000
    body = '{"inputs":[' + ",".join('"london"' for _ in range(count)) + "]}"
    expected = server.embed("london").body[1:-1]
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    slow.sendall(request(body))
    slow.recv(100, socket.MSG_PEEK)
    for letter in "bca":
        server.updated(tiny[letter])
    received = b""
    while b"\r\n\r\n" not in received:
        received += slow.recv(4096)
    head, received = received.split(b"\r\n\r\n", 1)
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length"))
    while len(received) < size:
        piece = slow.recv(1 << 16)
        assert piece, (len(received), size)
        received += piece
    slow.close()
    assert received == b"[" + b",".join([expected] * count) + b"]"
    until("the old workers to go", lambda: len(server.workers()) == 1)
