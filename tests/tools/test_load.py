"""The load checker is itself checked: a server that errs in each way, on purpose, is caught."""

import base64
import http.server
import json
import struct
import threading

import pytest

from loading import Load, write_npy

TEXTS = ["one", "two \"quoted\" \\ back", "drei äöü", "four\tfour"]
FINGERPRINTS = ["a" * 16, "b" * 16]


def vector(model, text):
    return [float(model * 10 + TEXTS.index(text)) + 0.25, 1e-7, -0.0]


class Answerer(http.server.BaseHTTPRequestHandler):
    """Answers as moult does; `server.fault` says what goes wrong after `server.after` answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.answers += 1
            due = server.answers > server.after
        fault = server.fault if due else None
        texts = body["inputs"] if "inputs" in body else body["input"]
        texts = texts if isinstance(texts, list) else [texts]
        model = 1 if fault == "new" else 0
        vectors = [vector(1 if fault == "mixed" else model, text) for text in texts]
        generation = 7 + model
        if fault == "bits":
            vectors[-1][0] += 2.0 ** -20
        if fault == "short":
            vectors.pop()
        if fault == "two fingerprints":
            model = 1
            vectors = [vector(1, text) for text in texts]
        if fault == "older" and server.answers % 2:
            generation = 6
        answer = self.format(body, vectors, FINGERPRINTS[model])
        if fault == "not json":
            answer = answer[:-1]
        if fault == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[")
            self.close_connection = True
            return
        self.send_response(503 if fault == "status" else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("x-moult-generation", str(generation))
        self.send_header("x-moult-fingerprint", FINGERPRINTS[model])
        if fault == "close":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = fault in ("close", "unannounced close")

    @staticmethod
    def format(body, vectors, fingerprint):
        if "inputs" in body:
            return json.dumps(vectors).encode()
        if body["encoding_format"] == "base64":
            vectors = [base64.b64encode(struct.pack("<3f", *v)).decode() for v in vectors]
        data = [{"object": "embedding", "embedding": v, "index": i} for i, v in enumerate(vectors)]
        return json.dumps({"object": "list", "data": data, "model": "m@" + fingerprint[:8],
                           "usage": {"prompt_tokens": 1, "total_tokens": 1}}).encode()


@pytest.fixture
def answerer(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answerer)
    server.fault, server.after, server.answers, server.lock = None, 100, 0, threading.Lock()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.expectations = {}
    for model, fingerprint in enumerate(FINGERPRINTS):
        path = tmp_path / f"{model}.npy"
        write_npy(path, [vector(model, text) for text in TEXTS])
        server.expectations[fingerprint] = path
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(server, *options):
    with Load(server.server_address[1], TEXTS, server.expectations, connections=4,
              options=["--requests", "300", *options]) as load:
        return load.result()


def test_right_answers_are_right(answerer):
    result = run(answerer)
    assert result["answered"] == 300
    assert result["first_trouble"] == ""
    assert result["generations"] == {"7": 300}
    assert result["latency_ms"]["all"]["count"] == 300


def test_a_change_of_generation_is_no_trouble(answerer):
    answerer.fault = "new"
    result = run(answerer)
    assert set(result["generations"]) == {"7", "8"}
    assert result["wrong"] == result["mixed"] == result["failed"] == 0


@pytest.mark.parametrize("fault, kind", [
    ("bits", "wrong"), ("short", "wrong"), ("not json", "wrong"), ("mixed", "mixed"),
    ("two fingerprints", "mixed"), ("older", "stale"), ("status", "failed"), ("cut", "failed"),
    ("unannounced close", "failed")])
def test_each_fault_is_counted(answerer, fault, kind):
    answerer.fault = fault
    result = run(answerer)
    assert result[kind] >= 50, result
    assert result["first_trouble"]


def test_an_announced_close_is_no_failure(answerer):
    answerer.fault = "close"
    result = run(answerer)
    assert result["failed"] == 0 and result["closed"] >= 190


def test_an_allowed_status_is_counted_apart(answerer):
    answerer.fault = "status"
    result = run(answerer, "--allow", "503")
    assert result["failed"] == 0 and result["allowed"] == 200 and result["answered"] == 100


def test_a_least_generation_makes_older_answers_stale(answerer):
    answerer.after = 10 ** 9
    with Load(answerer.server_address[1], TEXTS, answerer.expectations, connections=4) as load:
        load.wait_for_answers(50)
        assert load.report()["stale"] == 0
        load.tell("min-generation 8")
        load.wait_for_answers(50)
        result = load.stop()
    assert result["stale"] >= 46
