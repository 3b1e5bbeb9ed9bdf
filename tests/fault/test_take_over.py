"""A model that cannot go on, or a rollback that cannot be saved, while an update is under way."""

import json
import os
import signal
import threading

from loading import assert_clean
from serving import alive, children, until

ALLOW = "--allow-model-from"
STRIKES = 5


def workers_of(server, generation):
    return [pid for pid, line in children(server.pid).items()
            if line[1:2] == ["worker"] and any(f" {generation}" in part for part in line
                                               if part.startswith("--label="))]


def kill_again_and_again(server, generation, times=STRIKES):
    """The worker of that generation, and each that is started in its place."""
    for _ in range(times):
        pid = until("a worker to kill", lambda: workers_of(server, generation))[0]
        os.kill(pid, signal.SIGKILL)
        until("it to be gone", lambda: not alive(pid))


def states(server):
    return {entry["id"]: entry for entry in server.slot()["history"]}


def test_while_an_update_reads_its_source(serve_with_faults, faults, tiny):
    """The previous model serves at once, and the update goes on after it."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(50)
        faults.hold("copy")
        answers = []
        caller = threading.Thread(target=lambda: answers.append(server.update(tiny["c"])))
        caller.start()
        faults.wait_for("copy")
        kill_again_and_again(server, 2)
        until("the rollback", lambda: server.fingerprint() == tiny.fingerprints["a"])
        assert not answers, "the update was given up"
        faults.release()
        caller.join()
        load.wait_for_answers(50)
        assert_clean(load.stop())
    assert answers[0].json["status"] == "live", answers
    assert server.fingerprint() == tiny.fingerprints["c"]
    assert [entry["asked_by"] for entry in server.slot()["history"]][-2:] == ["take-over", "person"]


def test_while_an_update_loads_that_fails(serve_with_faults, faults, tiny):
    """What is about to replace the dying model anyway is waited for; then comes the rollback."""
    faults.environment.update(MOULT_FAULTS_WATCHDOG_S="30")
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    faults.set("loading", "hang")
    update = server.update(tiny["c"], wait=False).json["id"]
    until("it to load", lambda: workers_of(server, 3) and faults.reached("loading"))
    kill_again_and_again(server, 2)
    assert server.get(f"/update_model/{update}").json["status"] == "running"
    faults.set()
    os.kill(workers_of(server, 3)[0], signal.SIGKILL)
    until("the rollback", lambda: server.fingerprint() == tiny.fingerprints["a"])
    assert states(server)[update]["result"] == "refused"
    assert server.embed("london").status == 200


def test_while_an_update_loads_that_goes_live(serve_with_faults, faults, tiny):
    faults.environment.update(MOULT_FAULTS_WATCHDOG_S="30")
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    faults.hold("checking")
    update = server.update(tiny["c"], wait=False).json["id"]
    until("it to load", lambda: workers_of(server, 3) and faults.reached("checking"))
    kill_again_and_again(server, 2)
    faults.release()
    assert server.wait_for_end(update)["status"] == "live"
    until("it to settle", lambda: server.slot()["update"] is None)
    assert server.fingerprint() == tiny.fingerprints["c"]
    assert all(entry["result"] != "live" for entry in server.slot()["history"]
               if entry["asked_by"] == "take-over")


def test_a_rollback_that_cannot_be_saved(serve_with_faults, faults, tiny):
    """Nothing has changed then, and what serves is not among the refused."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    faults.set("state-before", "sleep:1500")
    answers = []
    caller = threading.Thread(
        target=lambda: answers.append(server.post("/rollback", {"wait": True})))
    caller.start()
    until("it to be saved", lambda: (server.slot()["update"] or {}).get("phase") == "persisting")
    update = server.slot()["update"]["id"]
    assert server.call("DELETE", f"/update_model/{update}").status == 409
    (server.data / "state.json.new").mkdir()
    caller.join()
    faults.set()
    assert answers[0].status == 422 and "state.json" in answers[0].json["reason"], answers
    assert server.fingerprint() == tiny.fingerprints["b"] and server.embed("x").status == 200
    (server.data / "state.json.new").rmdir()
    server.updated(tiny["c"])
    slot = json.loads((server.data / "state.json").read_text())["slots"][0]
    assert slot["refused"] == []
    assert slot["previous"]["fingerprint"] == tiny.fingerprints["b"]
