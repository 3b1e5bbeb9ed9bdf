"""Servers that follow one another in a data folder: for the tests of upgrades."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

from loading import ROOT
from serving import TIMEOUT, Server, alive, until


class Foreign:
    """A process that somebody else has started, with as much of Popen as Server needs."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        return None if alive(self.pid) else 0

    def wait(self, timeout=TIMEOUT):
        until(f"process {self.pid} to end", lambda: not alive(self.pid), timeout)
        return 0

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Line(Server):
    """A server that newer processes follow. `old` are those that were followed."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.options.append("--take-over")
        self.old = []

    def successions(self):
        return [int(pid) for pid in re.findall(r"Process (\d+) serves now", self.log())]

    def follow(self):
        """Starts one more; returns when it serves."""
        self.old.append(self.process)
        self.start(ready=False)
        until("the new program to serve", lambda: self.pid in self.successions(), TIMEOUT)
        return self

    def follow_by_signal(self):
        """Has the program start its own successor."""
        count = len(self.successions())
        self.process.send_signal(signal.SIGUSR2)
        until("the new program to serve", lambda: len(self.successions()) > count, TIMEOUT)
        self.old.append(self.process)
        self.process = Foreign(self.successions()[-1])
        return self

    def try_to_follow(self):
        """Starts one that must not come to serve; returns its exit code and what it said."""
        process, before = self.process, len(self.log())
        self.start(ready=False)
        newer, self.process = self.process, process
        code = newer.wait(TIMEOUT)
        return code, self.log()[before:]

    def wait_for_the_old(self):
        codes = [process.wait(TIMEOUT) for process in self.old]
        self.old = []
        return codes


class Activated(Line):
    """Started in a socket that this test keeps open, as systemd would."""

    def __init__(self, *arguments, sockets=None, **more):
        super().__init__(*arguments, **more)
        if sockets is None:
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            listening.listen(1024)
            sockets = [listening]
        self.sockets = sockets

    def start(self, ready=True):
        numbers = [listening.fileno() for listening in self.sockets]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "tests/tools/activate.py", ",".join(map(str, numbers)),
                 self.binary, "serve", *self.models, "--data", self.data, "--port", str(self.port),
                 *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                pass_fds=numbers)
        if ready:
            until("the server to be ready", self._is_ready)
        return self

    def restart(self):
        """As `systemctl restart` does: one after the other, in the same socket."""
        assert self.stop() == 0
        return self.start()


class Manager:
    """What listens at NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path, self.said = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self, line):
        """Whether a notification with such a line has come."""
        try:
            while True:
                self.said.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            pass
        return any(line in notification.split("\n") for notification in self.said)

    def wait_for(self, line):
        until(f"{line} from the server", lambda: self.heard(line))

    def close(self):
        self.socket.close()


def idle_connection(port):
    """A connection on which one request has been answered; a second must be answered too."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    assert b" 200 " in ask_health(connection)
    return connection


def ask_health(connection):
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = b""
    deadline = time.monotonic() + TIMEOUT
    while b"\r\n\r\n" not in head:
        assert time.monotonic() < deadline
        part = connection.recv(4096)
        assert part, f"the connection was cut after {head!r}"
        head += part
    return head
