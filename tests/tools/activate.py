"""activate.py FD[,FD…] COMMAND…: starts a program as systemd does, with sockets that it keeps.

They become descriptors 3, 4, …; LISTEN_FDS and LISTEN_PID say so, as sd_listen_fds(3) has it."""

import os
import sys

FIRST = 3


def main():
    passed = [int(number) for number in sys.argv[1].split(",")]
    # Out of the way first: one may have the number that another is to get.
    away = [os.dup(os.dup(fd)) for fd in passed]
    away = [fd if fd >= FIRST + len(away) else os.dup2(fd, 100 + at) for at, fd in enumerate(away)]
    for at, fd in enumerate(away):
        os.dup2(fd, FIRST + at, inheritable=True)
    os.environ.update(LISTEN_FDS=str(len(away)), LISTEN_PID=str(os.getpid()))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
