"""What the machine gives, it keeps to: CPUs and memory of a cgroup, open files."""

import os
import pathlib
import resource
import socket

import pytest

import models
from loading import assert_clean
from serving import HealthPoll, until

MIB = 1 << 20
ALLOW = "--allow-model-from"


class Group:
    """A control group of version 1 or 2, whichever can be made here."""

    def __init__(self, name):
        root = pathlib.Path("/sys/fs/cgroup")
        if (root / "cgroup.controllers").exists():
            own = pathlib.Path("/proc/self/cgroup").read_text().strip().split("::")[-1].lstrip("/")
            self.folders = {"": root / own / name}
        else:
            own = {}
            for line in pathlib.Path("/proc/self/cgroup").read_text().split():
                _, kinds, path = line.split(":")
                own.update((kind, path.lstrip("/")) for kind in kinds.split(","))
            self.folders = {kind: root / kind / own.get(kind, "") / name
                            for kind in ("cpu", "memory")}
        try:
            for folder in self.folders.values():
                folder.mkdir()
        except OSError as error:
            self.remove()
            pytest.skip(f"a control group cannot be made here: {error}")

    def limit(self, cpus=None, memory=None):
        def write(kind, name, value):
            folder = self.folders.get("", self.folders.get(kind))
            try:
                (folder / name).write_text(str(value))
            except OSError as error:
                pytest.skip(f"{folder / name} cannot be set here: {error}")
        if "" in self.folders:
            if cpus:
                write("cpu", "cpu.max", f"{int(cpus * 100000)} 100000")
            if memory:
                write("memory", "memory.max", memory)
        else:
            if cpus:
                write("cpu", "cpu.cfs_period_us", 100000)
                write("cpu", "cpu.cfs_quota_us", int(cpus * 100000))
            if memory:
                write("memory", "memory.limit_in_bytes", memory)

    def enter(self):
        for folder in self.folders.values():
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for folder in self.folders.values():
            if folder.exists():
                until(f"{folder} to be empty", lambda: not (folder / "cgroup.procs").read_text())
                folder.rmdir()


@pytest.fixture
def group():
    group = Group(f"moult-test-{os.getpid()}")
    yield group
    group.remove()


@pytest.fixture
def serve_in(group, serve):
    """Like serve; the group is left before it is removed."""
    servers = []

    def start(*arguments, **more):
        servers.append(serve(*arguments, before=group.enter, **more))
        return servers[-1]
    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


def threads_of(server):
    return server.get("/info").json["tokenization_workers"]


@pytest.mark.parametrize("cpus, threads", [(0.5, 1), (1, 1), (1.5, 2)])
def test_threads_fit_the_quota(group, serve_in, tiny, cpus, threads):
    group.limit(cpus=cpus)
    server = serve_in(tiny["a"])
    assert server.embed("london").status == 200
    threads = min(threads, len(os.sched_getaffinity(0)))
    assert f"{threads} thread" in server.log() or threads_of(server) == threads, server.log()


def test_one_cpu_of_the_mask(serve, tiny):
    cpu = min(os.sched_getaffinity(0))
    server = serve(tiny["a"], before=lambda: os.sched_setaffinity(0, {cpu}))
    assert server.embed("london").status == 200
    assert threads_of(server) == 1


def test_a_candidate_that_does_not_fit_is_refused_before_anybody_is_killed(
        group, serve_in, tiny, tmp_path):
    """96 MiB for all; the candidate wants more than that for its weights alone."""
    folder = models.make_large(tmp_path / "large" / "tiny")
    group.limit(memory=96 * MIB)
    server = serve_in(tiny["a"], options=[ALLOW, tmp_path, ALLOW, tiny.place])
    worker = server.worker()
    with HealthPoll(server), tiny.load(server, connections=2) as load:
        load.wait_for_answers(50)
        answer = server.update(folder)
        assert answer.status == 422 and "memory" in answer.json["reason"], answer
        load.wait_for_answers(50)
        assert_clean(load.stop())
    assert server.worker() == worker
    assert server.updated(tiny["b"]) > 1


def test_few_open_files(serve, tiny):
    """Connections beyond the limit wait or are closed; the server goes on, also with updates."""
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place],
                   before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    held = []
    try:
        for _ in range(200):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=1))
    except OSError:
        pass
    for connection in held:
        connection.close()
    until("it to answer again", lambda: server.embed("london").status == 200)
    for letter in "ba":
        server.updated(tiny[letter])
    assert server.embed("london").status == 200


def test_many_open_files_are_asked_for(serve, tiny):
    server = serve(tiny["a"], before=lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    limits = pathlib.Path(f"/proc/{server.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(line.split()[3]) >= min(10240, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
