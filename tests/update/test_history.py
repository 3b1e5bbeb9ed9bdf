"""What an update took, and who asked: in the history, in state.json, in the log, in status."""

import json
import re

from fixtures import moult
from serving import proportional_bytes, until

ALLOW = "--allow-model-from"


def last(server):
    return server.slot()["history"][-1]


def test_what_an_update_took(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(500)
        server.updated(tiny["b"])
        load.stop()
    entry = last(server)
    assert entry["result"] == "live" and entry["asked_by"] == "person" and not entry["rollback"]
    assert entry["seconds"] >= sum(entry["phases"].values()) - 0.01 > 0, entry
    assert "fetching" in entry["phases"] and "loading" in entry["phases"], entry
    assert entry["fetched_bytes"] == sum(
        path.stat().st_size for path in tiny["b"].rglob("*") if path.is_file()), entry
    memory = entry["memory"]
    newest = proportional_bytes(server.workers()[-1])
    assert memory["both_bytes"] > memory["candidate_bytes"] >= newest / 2, (entry, newest)
    assert entry["latency"]["p99_before_ms"] > 0, entry
    assert re.search(r"Update 2 of tiny: live, generation 2, in [\d.]+ s, [\d.]+ MB fetched, "
                     r"worker \d+ MiB", server.log())
    assert "MB fetched" in moult("status", f"--url=http://127.0.0.1:{server.port}").stdout.decode()


def test_it_is_still_there_after_a_restart(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.updated(tiny["b"])
    before = server.slot()["history"]
    server.stop()
    assert json.loads((server.data / "state.json").read_text())["slots"][0]["history"] == before
    server.start()
    assert server.slot()["history"] == before
    assert [entry["asked_by"] for entry in before] == ["start", "person"]


def test_a_rollback_from_a_warm_worker_loads_nothing(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    server.post("/rollback", {"wait": True})
    entry = last(server)
    assert entry["rollback"] and entry["result"] == "live"
    assert not {"fetching", "verifying", "loading", "checking"} & set(entry["phases"]), entry
    assert "fetched_bytes" not in entry


def test_what_was_refused(serve, tiny, tmp_path):
    server = serve(tiny["a"], options=[ALLOW, tmp_path])
    answer = server.update(tmp_path / "nothing")
    assert answer.status == 422
    entry = server.get(f"/update_model/{answer.json['id']}").json
    assert entry["status"] == "refused" and entry["reason"], entry
    assert "revision" not in entry and "memory" not in entry, entry


def test_waiting_for_a_person_is_a_phase(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    update = server.update(tiny["b"], cutover="manual").json["id"]
    until("some time to pass", lambda: server.embed("london").status == 200)
    server.post(f"/update_model/{update}/cutover", {"wait": True})
    assert "ready" in last(server)["phases"], last(server)


def test_a_slot_whose_first_start_failed_is_forgotten(serve, tiny, tmp_path):
    server = serve(tiny["a"])
    server.stop()
    server.models = [str(tiny["a"]), f"other={tmp_path}/nothing"]
    server.start(ready=False)
    assert server.wait() == 1
    names = [slot["name"] for slot in
             json.loads((server.data / "state.json").read_text())["slots"]]
    assert names == ["tiny"]
