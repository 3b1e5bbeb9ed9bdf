"""Connections: kept, pipelined, slow, many, and framed in two ways at once."""

import json
import os
import resource
import threading
import time

import httpx
import pytest

import raw

SOAK = os.environ.get("MOULT_TEST_SOAK") == "1"
EMBED = '{"inputs": "how big is london"}'


def test_keep_alive_and_pipelining(tiny):
    with raw.dial(tiny) as connection:
        for _ in range(3):
            connection.sendall(raw.post("/embed", EMBED))
            assert raw.hear(connection).status == 200
        connection.sendall(raw.get("/?q=first") + raw.post("/embed", EMBED) + raw.get("/health") +
                           raw.get("/nowhere") + raw.get("/?q=last"))
        answers = [raw.hear(connection) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
    assert json.loads(answers[0].body)["query"] == "first"
    assert json.loads(answers[4].body)["query"] == "last"


def test_head_has_no_body(tiny):
    with raw.dial(tiny) as connection:
        for path in ("/info", "/", "/health", "/update_model", "/v1/models"):
            connection.sendall(raw.get(path).replace(b"GET", b"HEAD", 1))
            answer = raw.hear(connection, without_body=True)
            assert answer.status == 200
        connection.sendall(raw.get("/health"))
        assert raw.hear(connection).status == 200


def test_http_1_0(tiny):
    with raw.dial(tiny) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert raw.hear(connection).status == 200
        assert raw.is_closed(connection)


@pytest.mark.parametrize("headers", [
    b"Content-Length: 31\r\nContent-Length: 31\r\n",
    b"Content-Length: 31\r\nContent-Length: 5\r\n",
    b"Content-Length: 31\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 31\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Content-Length:\r\n 31\r\n", b"Transfer-Encoding:\r\n chunked\r\n",
    b"Content-Length: 31\r\n 0\r\n",
    b"Content-Length : 31\r\n", b"Content-Length\t: 31\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Content-Length: +31\r\n", b"Content-Length: 0x1f\r\n", b"Content-Length: 31, 31\r\n",
    b"Content-Length: 99999999999999999999999\r\n"])
def test_two_readings_of_where_a_request_ends(tiny, headers):
    """It is refused, and what follows is never taken for a request."""
    with raw.dial(tiny) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n" +
                           EMBED.encode() + raw.get("/?q=smuggled"))
        said = b""
        try:
            while more := connection.recv(65536):
                said += more
        except ConnectionResetError:
            pass
    assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert b"smuggled" not in said and b" 200 " not in said


def test_headers_of_clients(tiny):
    """What SDKs, proxies and browsers send along changes nothing."""
    plain = tiny.post("/embed", {"inputs": "a"})
    answer = tiny.post("/embed", {"inputs": "a"}, headers={
        "Accept-Encoding": "gzip, deflate, br, zstd", "Accept": "application/json, */*;q=0.5",
        "User-Agent": "OpenAI/Python 3.57.0", "X-Stainless-Lang": "python",
        "X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "Cookie": "a=b",
        "Connection": "keep-alive", "Cache-Control": "no-cache", "X-Request-Id": "1",
        "Content-Type": "application/json; charset=utf-8", "Expect": ""})
    assert answer.status == 200 and answer.body == plain.body
    assert "content-encoding" not in answer.headers
    odd = {"Content-Type": "text/plain"}
    assert tiny.post("/embed", {"inputs": "a"}, headers=odd).status == 200


def test_expect_100(tiny):
    with raw.dial(tiny) as connection:
        head, body = raw.post("/embed", EMBED, "Expect: 100-continue").split(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert raw.hear(connection).status == 100
        connection.sendall(body)
        assert raw.hear(connection).status == 200


def test_long_headers(tiny):
    assert raw.ask(tiny, raw.get("/health", "X-Long: " + "a" * 8000)).status == 200
    for size in (40_000, 1_000_000):
        try:
            answer = raw.ask(tiny, raw.get("/health", "X-Long: " + "a" * size))
        except (ConnectionResetError, BrokenPipeError):
            continue
        assert answer is None or answer.status in (400, 413, 414, 431)
    assert tiny.get("/health").status == 200


def test_slow_headers_and_bodies_hinder_nobody(tiny):
    request = raw.post("/embed", EMBED)
    with raw.dial(tiny) as slow:
        for at in range(len(request)):
            slow.sendall(request[at:at + 1])
            if at % 16 == 0:
                assert tiny.get("/health").status == 200
        assert raw.hear(slow).status == 200


def test_slow_reader(tiny):
    """Its answer waits for it, and nobody else does."""
    texts = ["how big is london"] * 2048
    with raw.dial(tiny) as slow:
        slow.sendall(raw.post("/embed", json.dumps({"inputs": texts})))
        time.sleep(1)
        assert tiny.post("/embed", {"inputs": texts[:8]}).status == 200
        answer = raw.hear(slow)
    vectors = json.loads(answer.body)
    assert len(vectors) == 2048 and all(vector == vectors[0] for vector in vectors)


def test_requests_after_many_went_away(tiny):
    for _ in range(50):
        connection = raw.dial(tiny)
        connection.sendall(raw.post("/embed", EMBED))
        connection.close()
        connection = raw.dial(tiny)
        connection.sendall(raw.post("/embed", EMBED)[:-5])
        connection.close()
    assert tiny.post("/embed", {"inputs": "a"}).status == 200


def test_idle_connections(serve, tiny_model):
    count = 10_000 if SOAK else 500
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(count, most - 100)
    server = serve(tiny_model)
    before = server.memory()
    idle = [raw.dial(server) for _ in range(count)]
    try:
        for connection in idle[::10]:
            connection.sendall(raw.get("/health"))
        for connection in idle[::10]:
            assert raw.hear(connection).status == 200
        assert server.post("/embed", {"inputs": "a"}).status == 200
        assert server.memory() - before < 20e6 + count * 30e3
    finally:
        for connection in idle:
            connection.close()


def test_more_connections_than_descriptors(serve, tiny_model):
    """Those that find no room wait, at no cost, and are served when others have gone."""
    def few_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    server = serve(tiny_model, before=few_descriptors)
    crowd = [raw.dial(server) for _ in range(100)]
    crowd[0].sendall(raw.get("/health"))
    assert raw.hear(crowd[0]).status == 200
    for connection in crowd[:80]:
        connection.close()
    for connection in crowd[80:]:
        connection.sendall(raw.post("/embed", EMBED))
        assert raw.hear(connection).status == 200
        connection.close()
    assert server.get("/health").status == 200


def test_a_burst_is_refused_in_part_and_told_when_to_come_again(serve, real_model):
    server = serve(f"minilm={real_model}", options=["--max-waiting", "8"])
    outcomes = []

    def ask(number):
        with httpx.Client(timeout=120) as client:
            body = {"inputs": [f"{number} " + "how big is london " * 20] * 4}
            outcomes.append(client.post(f"http://127.0.0.1:{server.port}/embed", json=body))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in outcomes} == {200, 429}
    for answer in outcomes:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error_type"] == "Overloaded"
        else:
            assert len(answer.json()) == 4
    assert server.post("/embed", {"inputs": "a"}).status == 200


def test_sigterm_answers_what_is_in_flight(serve, real_model):
    server = serve(f"minilm={real_model}")
    waiting, idle = raw.dial(server), raw.dial(server)
    idle.sendall(raw.get("/health"))
    assert "connection" not in raw.hear(idle).headers
    texts = [f"{i} " + "how big is london " * 30 for i in range(24)]
    waiting.sendall(raw.post("/embed", json.dumps({"inputs": texts})))
    server.process.terminate()
    answer = raw.hear(waiting)
    assert answer.status == 200 and len(json.loads(answer.body)) == 24
    assert answer.headers["connection"].lower() == "close"
    assert raw.is_closed(waiting) and raw.is_closed(idle)
    assert server.wait() == 0
