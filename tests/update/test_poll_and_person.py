"""A poll beside the orders of people: it supersedes none of them, and gives way to each."""

import shutil

import models
from serving import until

ALLOW = "--allow-model-from"


def replace_weights(source, model):
    partial = source / "partial"
    shutil.copy(model / "model.safetensors", partial)
    partial.rename(source / "model.safetensors")


def polled(server):
    update = server.slot()["update"]
    return update if update and update["asked_by"] == "poll" else None


def test_a_person_joins_a_poll(serve_with_faults, faults, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve_with_faults(source, options=["--update-every", "1s"])
    faults.set("copy", "sleep:2000")
    replace_weights(source, tiny["b"])
    update = until("a poll that found something", lambda: polled(server))
    answer = server.update()
    assert answer.json["status"] == "live" and answer.json["id"] == update["id"], answer
    assert server.slot()["history"][-1]["asked_by"] == "person"


def test_a_person_supersedes_a_poll(serve_with_faults, faults, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve_with_faults(source, options=["--update-every", "1s", ALLOW, tiny.place])
    faults.set("loading", "sleep:2000")
    replace_weights(source, tiny["b"])
    until("a poll that loads", lambda: (polled(server) or {}).get("phase") == "loading")
    faults.set()
    assert server.updated(tiny["c"]) > 1
    assert server.fingerprint() == tiny.fingerprints["c"]


def test_a_poll_leaves_what_a_person_has_waiting(serve, tiny, tmp_path):
    """The source moves meanwhile; the model that waits came from somewhere else."""
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source, options=["--update-every", "1s", ALLOW, tiny.place])
    answer = server.update(tiny["c"], cutover="manual")
    assert answer.json["status"] == "ready", answer
    update = answer.json["id"]
    before = server.slot()["poll"]["last_at"]
    replace_weights(source, tiny["b"])
    until("polls since", lambda: server.slot()["poll"]["last_at"] > before + 3)
    assert server.get(f"/update_model/{update}").json["status"] == "ready"
    assert server.generation() == 1
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).status == 200
    assert server.fingerprint() == tiny.fingerprints["c"]
