"""The program as a person sees it."""

import os
import pty

from loading import BUILD


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
