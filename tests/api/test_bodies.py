"""Bodies that hurt other servers: deep, long, broken, strange."""

import itertools
import json
import time

import pytest

import models
import raw

PATHS = {"/embed": "inputs", "/v1/embeddings": "input"}
BOTH = pytest.mark.parametrize("path", PATHS)


def post(server, path, body):
    body = body if isinstance(body, bytes) else body.encode()
    return server.call("POST", path, body, {"Content-Type": "application/json"})


def with_text(path, text):
    """A body around what is written as JSON already."""
    return '{"%s": %s}' % (PATHS[path], text)


def vectors_of(answer):
    assert answer.status == 200, answer
    said = answer.json
    return said if isinstance(said, list) else [item["embedding"] for item in said["data"]]


@BOTH
@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"null", b"[]", b'"a"', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"{}{}",
    b'{"inputs": "a", "input": "a",}', b"{'inputs': 'a'}", b"inputs=a", b"\0" * 100,
    b'{"inputs": NaN, "input": NaN}', b'{"input": "", "input": "b", "inputs": "", "inputs": "b"}'])
def test_what_is_not_json(tiny, path, body):
    answer = post(tiny, path, body)
    assert answer.status == 400, answer
    assert "error" in answer.json


@BOTH
@pytest.mark.parametrize("text", [
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83dx"', '["a", "\\ud800"]'])
def test_lone_surrogates(tiny, path, text):
    assert post(tiny, path, with_text(path, text)).status == 400


@BOTH
@pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
                                  b"\xe4\xb8"])
def test_invalid_utf8(tiny, path, text):
    body = b'{"%s": "%s"}' % (PATHS[path].encode(), text)
    answer = post(tiny, path, body)
    assert answer.status == 400 and "UTF-8" in answer.body.decode()


@BOTH
def test_nul_is_a_character_that_the_tokenizer_drops(tiny, path):
    with_nul, without = (vectors_of(post(tiny, path, with_text(path, text)))
                         for text in ('"lon\\u0000don"', '"london"'))
    assert with_nul == without


@BOTH
def test_escapes_and_bytes_are_the_same_text(tiny, path):
    escaped = vectors_of(post(tiny, path, with_text(path, '"\\u4e2d \\ud83d\\ude00 \\/"')))
    assert escaped == vectors_of(post(tiny, path, with_text(path, '"中 😀 /"')))


@BOTH
@pytest.mark.parametrize("part", ["[", '{"a":', "[[["])
def test_deep_json(tiny, path, part):
    answer = post(tiny, path, with_text(path, part * 100000))
    assert answer.status == 400 and "64" in answer.body.decode()


@BOTH
def test_100000_texts(tiny, path):
    began = time.monotonic()
    answer = post(tiny, path, with_text(path, json.dumps(["a"] * 100000)))
    assert answer.status in (400, 422) and "2048" in answer.body.decode()
    assert time.monotonic() - began < 20


@BOTH
def test_a_body_of_nothing_but_values(tiny, path):
    """5 million empty lists in 15 MB would be 700 MB of jansson's memory."""
    before = tiny.memory()
    assert post(tiny, path, with_text(path, "[" + "[]," * 5000000 + "[]]")).status == 400
    assert tiny.memory() - before < 200e6


def test_a_word_of_10_mb(tiny):
    answer = post(tiny, "/embed", with_text("/embed", '"%s"' % ("a" * 10_000_000)))
    assert vectors_of(answer) and answer.headers["x-compute-tokens"] == "3"
    assert tiny.get("/health").status == 200


def test_combining_marks_out_of_order(tiny):
    """Quadratic in libraries that sort by exchanging."""
    marks = "".join(itertools.islice(itertools.cycle("\u0301\u0316\u0334\u0345"), 62500))
    began = time.monotonic()
    assert vectors_of(post(tiny, "/embed", json.dumps({"inputs": "a" + marks})))
    assert time.monotonic() - began < 20


def test_the_loop_goes_on_while_a_large_body_is_read(tiny):
    """Health is answered in between, and large requests end all the same."""
    large = raw.post("/embed", json.dumps({"inputs": ["a " * 7000] * 1000}))
    assert 13e6 < len(large) < 16e6
    with raw.dial(tiny) as connection:
        connection.sendall(large)
        for _ in range(20):
            assert tiny.get("/health").status == 200
        assert raw.hear(connection).status == 200


@pytest.fixture
def small_bodies(serve, tiny_model):
    return serve(tiny_model, options=["--max-body", "100000"])


@BOTH
def test_a_body_over_the_limit(small_bodies, path):
    body = with_text(path, '"%s"' % ("a " * 60000))
    with raw.dial(small_bodies) as connection:
        connection.sendall(raw.post(path, body))
        answer = raw.hear(connection)
        assert answer.status == 413 and "--max-body" in answer.body.decode()
        connection.sendall(raw.get("/health"))
        assert raw.hear(connection).status == 200, "the connection goes on"
    fits = with_text(path, '"%s"' % ("a " * 49900))
    assert post(small_bodies, path, fits).status == 200


def test_a_body_far_over_the_limit_is_not_read(small_bodies):
    with raw.dial(small_bodies) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Length: 99999999999\r\n\r\n{")
        assert raw.hear(connection).status == 413
        assert raw.is_closed(connection)


def test_a_chunked_body_over_the_limit(small_bodies):
    with raw.dial(small_bodies) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            connection.sendall(b"2710\r\n" + b" " * 10000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert raw.hear(connection).status == 413


def test_chunked_bodies(tiny):
    body = json.dumps({"inputs": ["how big is london"] * 400}).encode()
    with raw.dial(tiny) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 1000):
            part = body[at:at + 1000]
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        answer = raw.hear(connection)
    assert answer.status == 200 and len(json.loads(answer.body)) == 400


def test_a_text_without_tokens_is_refused_alone(serve, tiny_model, tmp_path):
    folder = models.copy(tiny_model, tmp_path / "bare")
    models.change_json(folder / "tokenizer.json", post_processor=None)
    server = serve(folder)
    worker = server.worker()
    for text in (" ", "\u200b", "\0"):
        answer = server.post("/embed", {"inputs": ["london", text]})
        assert answer.status == 422 and "tokenizer" in answer.json["error"]
    assert server.embed("london").status == 200 and server.worker() == worker
