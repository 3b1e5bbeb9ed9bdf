"""A moult server of a test: started, asked, watched, stopped and killed."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

from loading import BUILD

TIMEOUT = 60        # Seconds until a test gives up on anything; never a measure of speed.


def until(what, condition, timeout=TIMEOUT):
    """Waits for the condition and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def call(port, method, path, body=None, headers=None, timeout=TIMEOUT, sent=None):
    """`sent` is called between the request and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = dict(headers or {})
        if body is not None:
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        if sent:
            sent()
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def children(pid):
    """Pids of the living children of a process: {pid: command line}."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            fields = stat[stat.rindex(")") + 2:].split()
            if int(fields[1]) == pid and fields[0] not in "ZX":
                line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
                found[int(entry)] = line.decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def freeze(pid):
    """SIGSTOP, and waits until every thread stands: the signal takes its time on a busy machine."""
    def stands():
        states = [path.read_text().rpartition(")")[2].split()[0]
                  for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
        return set(states) == {"T"}
    os.kill(pid, signal.SIGSTOP)
    until(f"{pid} to stand", stands)


def proportional_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss")


class Server:
    """`moult serve MODELS… --data DATA OPTIONS…` on a free port."""

    def __init__(self, data, *models, options=(), binary=None, environment=None, before=None,
                 log=None):
        self.data = pathlib.Path(data)
        self.models = [str(model) for model in models]
        self.options = [str(option) for option in options]
        self.binary = binary or BUILD / "moult"
        # With AddressSanitizer what was freed stays a while; little of it, so that growth shows.
        self.environment = dict(os.environ, **(environment or {}))
        self.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + \
            ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
        self.before = before          # Runs in the child before it becomes the server.
        self.port = free_port()
        self.log_path = log or self.data.parent / (self.data.name + ".log")
        self.process = None

    # ---- Life ----

    def start(self, ready=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", *self.models, "--data", str(self.data),
                 "--port", str(self.port), *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                preexec_fn=self.before)
        if ready:
            until("the server to be ready", self._is_ready)
        return self

    def _is_ready(self):
        assert self.process.poll() is None, f"the server ended:\n{self.log()}"
        try:
            return self.get("/health").status == 200
        except OSError:
            return False

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, kind, *exception):
        if self.process.poll() is None:
            self.stop()
        if kind:
            print(f"---- log of the server ----\n{self.log()[-8000:]}")

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end:\n{self.log()[-8000:]}") from None

    def kill(self):
        """kill -9 of the front, then waits until nothing of the server is left."""
        left = list(children(self.pid))
        self.process.kill()
        self.process.wait()
        until("the children of a killed front to go",
              lambda: not any(alive(pid) for pid in left))

    def log(self):
        return self.log_path.read_text(errors="replace")

    # ---- What it is made of ----

    @property
    def pid(self):
        return self.process.pid

    def processes(self):
        return [self.pid, *children(self.pid)]

    def workers(self):
        """Pids of the worker processes, oldest first."""
        return sorted(pid for pid, line in children(self.pid).items() if line[1:2] == ["worker"])

    def worker(self):
        """The pid of the only worker, once there is one."""
        return until("one worker", lambda: self.workers() if len(self.workers()) == 1 else None)[0]

    def memory(self):
        return sum(proportional_bytes(pid) for pid in self.processes())

    def cpu_seconds(self):
        """What the processes that live have used."""
        ticks = 0
        for pid in self.processes():
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # ---- What it answers ----

    def call(self, method, path, body=None, headers=None, **more):
        return call(self.port, method, path, body, headers, **more)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.call("POST", path, {} if body is None else body, **more)

    def embed(self, text, model=None):
        return self.post("/embed", {"inputs": text},
                         headers={"x-moult-model": model} if model else None)

    def update(self, model=None, wait=True, timeout=TIMEOUT, sent=None, **more):
        body = {"wait": wait, **more}
        if model is not None:
            body["model"] = str(model)
        return self.post("/update_model", body, timeout=timeout, sent=sent)

    def updated(self, model=None, **more):
        """An update that must go live; returns its generation."""
        answer = self.update(model, **more)
        assert answer.status == 200 and answer.json["status"] == "live", answer
        return answer.json["generation"]

    def slot(self):
        return self.get("/update_model").json["slots"][0]

    def generation(self):
        return self.slot()["generation"]

    def fingerprint(self):
        return self.slot()["fingerprint"]

    def wait_for_end(self, update_id):
        """Waits until an update has ended; returns its last word."""
        def ended():
            answer = self.get(f"/update_model/{update_id}").json
            return answer if answer["status"] != "running" else None
        return until(f"update {update_id} to end", ended)


class HealthPoll:
    """Asks /health every 10 ms beside a test; every answer must be 200."""

    def __init__(self, server):
        self.server, self.statuses, self.ending = server, [], threading.Event()
        self.thread = threading.Thread(target=self._poll)

    def _poll(self):
        while not self.ending.wait(0.01):
            try:
                self.statuses.append(self.server.get("/health").status)
            except OSError as error:
                self.statuses.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ending.set()
        self.thread.join()
        assert self.statuses and set(self.statuses) == {200}, set(self.statuses)
