"""Fault 29: the program itself is replaced under load. Connections wait, and none is refused."""

import json
import shutil
import signal
import socket
import time

import pytest

from fixtures import FAULTS, SOAK
from loading import assert_clean
from serving import alive, free_port, until
from succession import Activated, Line, Manager, ask_health, idle_connection

ALLOW = "--allow-model-from"
UPGRADES = 50 if SOAK else 10


@pytest.fixture
def line(tmp_path, request):
    """line(MODEL…, kind=Line, …) → a server whose whole line ends with the test."""
    lines = []

    def start(*folders, kind=Line, options=(), **more):
        lines.append(kind(tmp_path / f"data{len(lines)}", *folders, options=options, **more))
        return lines[-1].start()
    yield start
    for server in lines:
        codes = server.wait_for_the_old()
        if server.process.poll() is None:
            codes.append(server.stop())
        print(f"---- log of {server.data.name} ----\n{server.log()[-6000:]}")
        assert not any(codes), codes


@pytest.fixture
def line_with_faults(line, faults):
    def start(*folders, **more):
        # A worker that sleeps as long as a test wants is not one that hangs.
        environment = dict(faults.environment, MOULT_FAULTS_WATCHDOG_S="30")
        return line(*folders, binary=FAULTS, environment=environment, **more)
    return start


def follow(server):
    server.follow()


def follow_by_signal(server):
    server.follow_by_signal()


def restart(server):
    server.restart()


@pytest.mark.parametrize("renew", [0, 1], ids=["keep-alive", "new-connections"])
@pytest.mark.parametrize("kind, upgrade", [
    (Line, follow), (Line, follow_by_signal), (Activated, follow_by_signal), (Activated, restart)],
    ids=["take-over", "signal", "signal-in-a-socket-unit", "restart-in-a-socket-unit"])
def test_upgrades_under_load(line, tiny, kind, upgrade, renew):
    server = line(tiny["a"], kind=kind)
    with tiny.load(server, connections=16, options=["--renew", str(renew)]) as load:
        for _ in range(UPGRADES):
            load.wait_for_answers(50)
            upgrade(server)
            load.wait_for_answers(50)
        result = load.stop()
    print(result)
    assert_clean(result, least=100 * UPGRADES)
    assert renew or kind is Activated or result["closed"] >= UPGRADES, result
    assert not any(server.wait_for_the_old())


def test_the_real_model_under_load(line, real):
    server = line(real["a"])
    with real.load(server, connections=8, options=["--renew", "3"]) as load:
        for _ in range(UPGRADES if SOAK else 2):
            load.wait_for_answers(20)
            server.follow()
        load.wait_for_answers(20)
        result = load.stop()
    print(result)
    assert_clean(result)


def test_an_idle_client_is_told_and_not_cut(line, tiny):
    server = line(tiny["a"])
    connection = idle_connection(server.port)
    server.follow()
    old = server.old[0]
    until("the new one to answer", lambda: server.embed("london").status == 200)
    assert old.poll() is None, "it must wait for its idle client"
    head = ask_health(connection)
    assert b" 200 " in head and b"Connection: close" in head, head
    assert old.wait(60) == 0
    assert connection.recv(1) == b""
    connection.close()


def test_the_old_one_is_told_to_hurry(line, tiny):
    server = line(tiny["a"])
    with idle_connection(server.port):
        server.follow()
        server.old[0].send_signal(signal.SIGTERM)
        assert server.old[0].wait(30) == 0
    assert server.embed("london").status == 200


def what_is_written(server):
    slot = server.slot()
    history = [[event[key] for key in ("id", "generation", "result", "reason", "at")]
               for event in slot["history"]]
    return slot["generation"], slot["fingerprint"], slot["source"], history


def test_what_was_written_last_is_read(line, tiny):
    server = line(tiny["a"], options=[ALLOW, tiny.place])
    for upgrade in (server.follow, server.follow_by_signal, server.follow):
        server.updated(tiny["b"])
        server.updated(tiny["a"])
        before = what_is_written(server)
        upgrade()
        assert what_is_written(server) == before
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_nobody_to_take_over_from(line, tiny):
    server = line(tiny["a"])
    server.kill()
    server.start()
    assert server.embed("london").status == 200
    assert not server.successions()


def test_without_the_flag_the_folder_is_taken(line, tiny):
    server = line(tiny["a"])
    server.options.remove("--take-over")
    code, said = server.try_to_follow()
    assert code == 1 and "--take-over" in said
    assert server.embed("london").status == 200


def test_another_port(line, tiny):
    server = line(tiny["a"])
    before, server.port = server.port, free_port()
    server.follow()
    assert server.embed("london").status == 200
    until("the old port to close",
          lambda: socket.socket().connect_ex(("127.0.0.1", before)) != 0)


def test_a_port_that_is_taken(line, tiny):
    server = line(tiny["a"], options=[ALLOW, tiny.place])
    before = server.port
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.port = other.getsockname()[1]
        code, said = server.try_to_follow()
        server.port = before
    assert code == 1 and "is taken by another program" in said, said
    until("orders to be taken", lambda: server.update(tiny["b"]).status == 200)


def test_a_newer_state(line, tiny):
    """The newer program's state is not for the older one: it says so, and what serves goes on."""
    server = line(tiny["a"], options=[ALLOW, tiny.place])
    path = server.data / "state.json"
    state = json.loads(path.read_text())
    newer = json.dumps(dict(state, version=state["version"] + 1))

    def stays():
        path.write_text(newer)
        time.sleep(0.2)
        return path.read_text() == newer
    until("the old one to have written its last", stays)
    code, said = server.try_to_follow()
    assert code == 1 and "newer" in said, said
    server.updated(tiny["b"])
    assert json.loads(path.read_text())["version"] == state["version"]


def test_an_installed_model_that_is_damaged(line, tiny):
    """What cannot be loaded any more does not replace the one that has it in memory."""
    server = line(tiny["a"], options=[ALLOW, tiny.place])
    weights, = (server.data / "models").glob("*/model.safetensors")
    saved = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
    code, said = server.try_to_follow()
    assert code == 1 and "cannot be served" in said, said
    assert server.embed("london").status == 200
    server.updated(tiny["b"])


def test_a_model_that_is_gone(line, tiny):
    server = line(tiny["a"], options=[ALLOW, tiny.place])
    installed, = (path for path in (server.data / "models").iterdir() if len(path.name) == 64)
    shutil.move(installed, installed.with_suffix(".away"))
    code, said = server.try_to_follow()
    assert code == 1, said
    assert server.embed("london").status == 200
    server.updated(tiny["b"])


def test_only_one_at_a_time(line_with_faults, faults, tiny):
    server = line_with_faults(tiny["a"])
    serving = server.process
    faults.hold("loading")
    server.start(ready=False)
    newer = server.process
    until("a successor", lambda: f"Process {newer.pid}, " in server.log())
    code, said = server.try_to_follow()
    assert code == 1 and "about to take over already" in said, said
    faults.release()
    until("the first to serve", lambda: newer.pid in server.successions())
    server.old.append(serving)


def test_orders_wait_for_the_new_one(line_with_faults, faults, tiny):
    """An update that runs is cancelled, and says why; one that comes is told to come again."""
    server = line_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    faults.hold("loading")
    running = server.update(tiny["b"], wait=False).json["id"]
    until("the candidate", lambda: len(server.workers()) == 2)
    serving = server.process
    server.start(ready=False)
    newer, server.process = server.process, serving
    ended = server.wait_for_end(running)
    assert ended["status"] == "cancelled" and "newer program" in ended["reason"], ended
    answer = server.update(tiny["b"])
    assert answer.status == 503 and answer.headers["Retry-After"], answer
    assert server.embed("london").status == 200
    server.process = newer
    faults.release()
    until("the new one to serve", lambda: newer.pid in server.successions())
    server.old.append(serving)
    assert server.slot()["history"][-1]["result"] == "cancelled"
    until("the order to be taken", lambda: server.update(tiny["b"]).status == 200)


@pytest.mark.parametrize("by_signal", [False, True], ids=["by-hand", "by-signal"])
@pytest.mark.parametrize("point", ["start", "loading", "takeover-ready", "takeover-yours",
                                   "takeover-mine"])
def test_the_new_one_dies(line_with_faults, faults, tiny, point, by_signal):
    server = line_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    before = what_is_written(server)
    with tiny.load(server, connections=8, options=["--renew", "2"]) as load:
        load.wait_for_answers(20)
        faults.set(point, "crash")
        if by_signal:
            server.process.send_signal(signal.SIGUSR2)
        else:
            server.try_to_follow()
        until("the fault", lambda: faults.reached(point))
        until("the old one to go on", lambda: "goes on serving" in server.log())
        faults.set()
        load.wait_for_answers(50)
        result = load.stop()
    # Who dies as it begins to accept takes the connections with it that it had accepted.
    trouble = result["failed"] if point != "takeover-mine" else 0
    assert trouble == result["wrong"] == result["mixed"] == 0, result
    assert what_is_written(server) == before
    until("orders to be taken", lambda: server.update(tiny["b"]).status == 200)
    server.follow()
    assert server.fingerprint() == tiny.fingerprints["b"]


@pytest.mark.parametrize("point", ["handover-offer", "handover-yours", "handover-gone"])
def test_the_old_one_dies(line_with_faults, faults, tiny, point):
    server = line_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    serving = server.process
    workers = server.workers()
    faults.set(point, "crash")
    server.start(ready=False)
    assert serving.wait(60) < 0
    until("its worker to die with it", lambda: not any(alive(pid) for pid in workers))
    faults.set()
    if point == "handover-offer":
        # It had nothing to give yet: this is a server that was killed.
        assert server.process.wait(60) == 1
        server.start()
    until("the new one to be ready", server._is_ready)
    server.updated(tiny["b"])
    server.follow()
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_the_old_one_dies_and_connections_only_wait(line_with_faults, faults, tiny):
    """The new one has the socket from the offer on."""
    server = line_with_faults(tiny["a"])
    serving = server.process
    faults.hold("loading")
    server.start(ready=False)
    until("a successor", lambda: f"Process {server.pid}, " in server.log())
    faults.wait_for("loading")
    serving.kill()
    serving.wait()
    waiting = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    faults.release()
    assert b" 200 " in ask_health(waiting)
    waiting.close()
    assert server.embed("london").status == 200


def test_the_old_one_is_stopped_meanwhile(line_with_faults, faults, tiny):
    server = line_with_faults(tiny["a"])
    serving = server.process
    faults.hold("loading")
    server.start(ready=False)
    until("a successor", lambda: f"Process {server.pid}, " in server.log())
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(60) == 0
    assert server.process.wait(60) == 1
    assert "asked to stop" in server.log()
    faults.release()
    server.start()


def last_word(stranger):
    try:
        return stranger.recv(4096)
    except ConnectionResetError:    # It was not even listened to; what it was told comes now.
        return stranger.recv(4096)


def test_strangers_on_the_control_socket(line, tiny):
    server = line(tiny["a"])
    path = str(server.data / "control")
    assert server.data.joinpath("control").stat().st_mode & 0o777 == 0o600
    for bytes_sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"moult h1" + b"\xff" * 776, b"x" * 5000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(path)
            if bytes_sent:
                stranger.sendall(bytes_sent)
                stranger.settimeout(60)
                assert b"moult h1" in last_word(stranger)
    server.follow()
    assert server.embed("london").status == 200


# ---- What a service manager gives and hears ----

def test_a_socket_that_connections_wait_in(line_with_faults, faults, tiny):
    server = line_with_faults(tiny["a"], kind=Activated)
    assert server.stop() == 0
    faults.hold("loading")
    waiting = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    server.start(ready=False)
    faults.wait_for("loading")
    faults.release()
    assert b" 200 " in ask_health(waiting)
    waiting.close()


def test_a_unix_socket(line, tiny, tmp_path):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "http"))
    listening.listen(16)
    server = Activated(tmp_path / "data", tiny["a"], sockets=[listening])
    server.start(ready=False)
    until("the model", lambda: "Try it" in server.log())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(tmp_path / "http"))
        assert b" 200 " in ask_health(client)
    assert f"--unix-socket {tmp_path}/http" in server.log()
    assert server.stop() == 0


def test_sockets_that_cannot_be_used(tmp_path, tiny):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cases = [(sockets, "FileDescriptorName=http"), ([datagrams], "not a listening stream socket")]
    for given, sentence in cases:
        server = Activated(tmp_path / "data", tiny["a"], sockets=given)
        server.start(ready=False)
        assert server.wait() == 1
        assert sentence in server.log(), server.log()
    server = Activated(tmp_path / "data", tiny["a"], sockets=sockets,
                       environment={"LISTEN_FDNAMES": "metrics:http"})
    server.port = sockets[1].getsockname()[1]
    server.start()
    assert server.stop() == 0


def test_what_is_told_to_systemd(line, tiny, tmp_path):
    manager = Manager(tmp_path / "notify")
    server = line(tiny["a"], environment={"NOTIFY_SOCKET": str(manager.path),
                                          "WATCHDOG_USEC": "200000"})
    manager.wait_for("READY=1")
    manager.wait_for("WATCHDOG=1")
    manager.said.clear()
    server.follow_by_signal()
    manager.wait_for("RELOADING=1")
    manager.wait_for(f"MAINPID={server.pid}")
    assert not manager.heard("STOPPING=1")
    manager.said.clear()
    manager.wait_for("WATCHDOG=1")
    server.process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    manager.close()


def test_the_watchdog_is_another_process_s(line, tiny, tmp_path):
    manager = Manager(tmp_path / "notify")
    line(tiny["a"], environment={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "100000",
                                 "WATCHDOG_PID": "1"})
    manager.wait_for("READY=1")
    assert not manager.heard("WATCHDOG=1")
    manager.close()


def test_an_upgrade_that_cannot_be_started(line, tiny, tmp_path):
    """The new file is no program: said, and the old one goes on."""
    manager = Manager(tmp_path / "notify")
    binary = tmp_path / "moult"
    shutil.copy(Line(tmp_path).binary, binary)
    server = line(tiny["a"], binary=binary, environment={"NOTIFY_SOCKET": str(manager.path)})
    manager.wait_for("READY=1")
    manager.said.clear()
    binary.unlink()
    binary.write_text("no program")
    server.process.send_signal(signal.SIGUSR2)
    until("the old one to go on", lambda: "goes on serving" in server.log())
    manager.wait_for("READY=1")
    assert server.embed("london").status == 200
    manager.close()
