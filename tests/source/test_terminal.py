"""`moult pull` as a person sees it: a bar on a terminal, broken off by Ctrl-C, and resumed."""

import os
import pty
import signal

from fixtures import BUILD
from hub import behaves, hangs_after
from serving import until
from test_hub import NAME, is_what


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, arguments, environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(BUILD / "moult", ["moult", *map(str, arguments)], environment)
        self.said = ""

    def read(self):
        try:
            self.said += os.read(self.fd, 4096).decode(errors="replace")
        except OSError:   # The other end is closed.
            return False
        return True

    def wait_for(self, text):
        while text not in self.said:
            assert self.read(), self.said

    def end(self):
        while self.read():
            pass
        os.close(self.fd)
        return os.waitpid(self.pid, 0)[1]


def test_a_bar_that_is_broken_off_and_goes_on(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    arguments = ["pull", "--data", puller.data, NAME]
    first = Terminal(arguments, puller.environment)
    first.wait_for(" MB")
    until("some bytes to arrive",
          lambda: [path.stat().st_size for path in puller.partials()] == [5000])
    assert "org/tiny [" in first.said
    os.kill(first.pid, signal.SIGINT)
    assert os.WTERMSIG(first.end()) == signal.SIGINT
    assert "the same command goes on from here." in first.said
    hub.forget()
    hub.misbehave("model.safetensors", behaves)
    second = Terminal(arguments, puller.environment)
    assert second.end() == 0
    installed = second.said.rpartition("\x1b[K")[2].strip()
    is_what(tiny["a"], puller.data / "models" / os.path.basename(installed))
    assert [headers.get("Range") for headers in hub.asked("model.safetensors")] \
        == ["bytes=5000-"]
    assert puller.revisions() == [os.path.basename(installed)]   # Nothing is left of the first.
