"""What the machine gives, it keeps to: CPUs and memory of a cgroup, open files."""

import os
import pathlib
import re
import resource
import socket

import pytest

import models
from fixtures import FAULTS, Known
from loading import BUILD, assert_clean
from serving import HealthPoll, until

MIB = 1 << 20
ALLOW = "--allow-model-from"
SANITIZED = BUILD.name.startswith("san")


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

    def kills(self):
        """How often the kernel has killed somebody in it for want of memory."""
        folder = self.folders.get("", self.folders.get("memory"))
        events = folder / ("memory.events" if "" in self.folders else "memory.oom_control")
        return int(re.search(r"oom_kill (\d+)", events.read_text())[1])

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


def refused_for_memory(server, known, folder, *words):
    """Under load and a poll of /health: refused, with these words; who serves has not changed."""
    worker = server.worker()
    with HealthPoll(server), known.load(server, connections=2) as load:
        load.wait_for_answers(50)
        answer = server.update(folder)
        assert answer.status == 422 and "memory" in answer.json["reason"], answer
        assert all(word in answer.json["reason"] for word in words), answer
        load.wait_for_answers(50)
        assert_clean(load.stop())
    assert server.worker() == worker


def test_a_candidate_that_does_not_fit_is_refused_before_anybody_is_killed(
        group, serve_in, tiny, tmp_path):
    """96 MiB for all; the candidate wants more than that for its files alone."""
    folder = models.make_large(tmp_path / "large" / "tiny")
    group.limit(memory=96 * MIB)
    server = serve_in(tiny["a"], options=[ALLOW, tmp_path, ALLOW, tiny.place])
    refused_for_memory(server, tiny, folder)
    assert group.kills() == 0
    assert server.updated(tiny["b"]) > 1


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
def test_a_candidate_says_what_it_would_need(group, serve_in, tiny, tmp_path):
    """113 MB of weights fit into 170 MiB; what loading needs beside them does not."""
    folder = models.make_large(tmp_path / "large" / "tiny")
    group.limit(memory=170 * MIB)
    server = serve_in(tiny["a"], options=[ALLOW, tmp_path, ALLOW, tiny.place])
    refused_for_memory(server, tiny, folder, "while it loads", "weights", "threads")
    assert group.kills() == 0
    group.limit(memory=512 * MIB)
    assert server.updated(folder, force=True) > 1


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
def test_a_container_of_half_a_gigabyte(group, serve_in, real, tmp_path):
    """1.5 CPUs and 512 MB: MiniLM beside MiniLM fits, a model of 436 MB beside it does not."""
    folder = models.make_base(tmp_path / "base")
    group.limit(cpus=1.5, memory=512 * 1000 * 1000)
    server = serve_in(real["a"], options=[ALLOW, "/", "--keep-warm", 0])
    assert threads_of(server) == min(2, len(os.sched_getaffinity(0)))
    refused_for_memory(server, real, folder)
    assert server.updated(real["b"]) > 1
    assert group.kills() == 0


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
def test_what_does_not_fit_beside_fits_in_the_place_of_the_old_one(group, serve_in, tmp_path):
    """Two models of 160 MiB, in f32, in a group of 256."""
    known = Known(tmp_path, precision="f32",
                  **{letter: models.make_large(tmp_path / letter / "large", seed)
                     for seed, letter in enumerate("ab", 1)})
    group.limit(memory=256 * MIB)
    server = serve_in(known["a"], options=[ALLOW, tmp_path, "--precision", "f32"])
    refused_for_memory(server, known, known["b"], "--swap wait")
    with HealthPoll(server), known.load(server, connections=2) as load:
        load.wait_for_answers(50)
        for letter in "ba":
            generation = server.updated(known[letter], swap="wait", force=True)
            load.wait_for_answers(50, generation=generation)
        assert_clean(load.stop())
    assert group.kills() == 0


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
@pytest.mark.parametrize("kind", ["grow", "grow-unlimited"])
def test_a_candidate_that_grows_fails_alone(group, serve_in, tiny, faults, kind):
    """By its own limit, or, where that does not hold, because the front watches it."""
    group.limit(memory=256 * MIB)
    server = serve_in(tiny["a"], options=[ALLOW, tiny.place], binary=FAULTS,
                      environment=faults.environment)
    faults.set("loading", f"{kind}:1000")
    refused_for_memory(server, tiny, tiny["b"])
    assert group.kills() == 0
    faults.set()
    assert server.updated(tiny["b"], force=True) > 1


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
def test_what_is_needed_is_computed_beforehand(serve, tiny, tmp_path):
    """Within 10 %, and 4 MiB for what differs between machines, of what the worker then took."""
    large = models.make_large(tmp_path / "large" / "tiny")
    base = models.make_base(tmp_path / "base" / "tiny")
    for folder, threads, precision in ((tiny["a"], 1, "auto"), (large, 1, "f32"),
                                       (large, 8, "int16"), (large, 1, "int8"), (base, 2, "f32"),
                                       (base, 2, "int16"), (base, 1, "int8")):
        # What its threads for documents need, they take when there are some.
        server = serve(folder, options=["--threads", threads, "--precision", precision,
                                        "--store", "none"])
        status = pathlib.Path(f"/proc/{server.worker()}/status").read_text()
        taken = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
        said = int(re.search(r"up to (\d+) MiB meanwhile", server.log())[1])
        assert abs(said - taken) <= 0.1 * taken + 4, (folder, threads, precision, said, taken)
        server.stop()


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
