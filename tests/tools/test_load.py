"""The load checkers are themselves checked: a server that errs in each way, on purpose, is caught,
and the open loop counts a stall against every request that it delays."""

import base64
import http.server
import json
import struct
import subprocess
import threading
import time

import pytest

from loading import BUILD, Load, write_npy
from serving import until

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
        with server.standing:
            pass
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


class AnsweringServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A load that ends hangs up."""


@pytest.fixture
def answerer(tmp_path):
    server = AnsweringServer(("127.0.0.1", 0), Answerer)
    server.fault, server.after, server.answers, server.lock = None, 100, 0, threading.Lock()
    server.standing = threading.Lock()      # Whoever holds it makes everybody wait.
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


class OpenLoop:
    """bench/load.c beside a test."""

    def __init__(self, server, place, *options):
        (place / "texts").write_text("".join(text + "\n" for text in TEXTS))
        self.samples_file = place / "samples"
        command = [BUILD / "bench/load", "--port", server.server_address[1], "--texts",
                   place / "texts", "--samples", self.samples_file, "--connections", 16, *options]
        for fingerprint, path in server.expectations.items():
            command += ["--expect", f"{fingerprint}={path}"]
        self.process = subprocess.Popen([str(word) for word in command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def report(self, line="report"):
        return json.loads(self.say(line))

    def wait_for(self, kind, count):
        until(f"{count} {kind}", lambda: self.report()[kind] >= count)

    def samples(self):
        self.process.wait()
        return [line.split() for line in self.samples_file.read_text().splitlines()]


@pytest.mark.parametrize("options", [["--closed"], ["--rate", 500], ["--rate", 500, "--constant"],
                                     ["--rate", 500, "--texts-per-request", 3]])
def test_open_loop_of_right_answers(answerer, tmp_path, options):
    with OpenLoop(answerer, tmp_path, *options) as load:
        load.wait_for("answered", 200)
        result = load.report("stop")
        assert load.process.wait() == 0
    assert not any(result[kind] for kind in ("failed", "wrong", "mixed", "stale")), result
    assert result["windows"]["unmarked"]["count"] == result["answered"] == len(load.samples())
    assert result["due"] in (0, result["answered"])


@pytest.mark.parametrize("fault, kind", [
    ("bits", "wrong"), ("short", "wrong"), ("not json", "wrong"), ("mixed", "mixed"),
    ("two fingerprints", "mixed"), ("older", "stale"), ("status", "failed"), ("cut", "failed")])
@pytest.mark.parametrize("dialect", ["base64", "embed"])
def test_open_loop_counts_each_fault(answerer, tmp_path, fault, kind, dialect):
    answerer.fault = fault
    with OpenLoop(answerer, tmp_path, "--rate", 500, "--dialect", dialect) as load:
        load.wait_for(kind, 20)
        result = load.report("stop")
        assert load.process.wait() == 1
    assert result["first_trouble"] and result["answered"] >= 50, result


def test_a_stall_counts_against_every_request_that_it_delays(answerer, tmp_path):
    with OpenLoop(answerer, tmp_path, "--rate", 200, "--constant") as load:
        load.wait_for("answered", 50)
        with answerer.standing:
            time.sleep(1)
        load.wait_for("answered", 300)
        result = load.report("stop")
        late = sum(float(sample[1]) > 250 for sample in load.samples())
    # Requests were due for a second, and those of its first three quarters waited so long; a
    # closed loop of 16 connections would have found 16.
    assert late >= 140, result
    assert result["backlog_most"] >= 150, result


def test_windows_are_told_apart_by_when_requests_were_due(answerer, tmp_path):
    with OpenLoop(answerer, tmp_path, "--rate", 200) as load:
        load.wait_for("answered", 50)
        assert load.say("window one") == "ok\n"
        began = time.monotonic_ns()
        with answerer.standing:
            time.sleep(0.3)
        load.wait_for("answered", 200)
        ended = time.monotonic_ns()
        for name, at in ("three", ended), ("two", began + 150_000_000), ("one", ended + 1):
            assert load.say(f"window {name} {at}") == "ok\n"
        result = load.report("stop")
    windows = result["windows"]
    assert set(windows) == {"unmarked", "one", "two", "three"}
    assert windows["one"]["windows"] == 2 and windows["three"]["count"] == 0
    # The stall delayed what was due in it, whenever the marks came.
    assert windows["one"]["max"] > 250 and windows["two"]["max"] > 50
    assert sum(window["count"] for window in windows.values()) == result["answered"]
