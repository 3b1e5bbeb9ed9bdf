"""Rollback: the previous model again, under a new number, without asking its source."""

import os
import shutil

import models
from serving import until
from watching import Watch

ALLOW = "--allow-model-from"


def rolled_back(server):
    answer = server.post("/rollback", {"wait": True})
    assert answer.status == 200 and answer.json["status"] == "live", (answer, server.log()[-3000:])
    return answer.json["generation"]


def test_back_and_forth_under_load(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    with Watch(server, tiny, rate=None) as watch:
        watch.event()
        for turn in range(6):
            generation = rolled_back(server)
            assert generation == 3 + turn
            watch.live(generation)
            assert server.fingerprint() == tiny.fingerprints["ab"[turn % 2]]


def test_from_installed_files_when_the_worker_and_the_source_are_gone(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source, options=["--keep-warm", 0, ALLOW, tiny.place])
    server.updated(tiny["b"])
    until("the old worker to go", lambda: len(server.workers()) == 1)
    shutil.rmtree(source)
    assert rolled_back(server) == 3
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.embed("london").headers["x-moult-fingerprint"] == tiny.fingerprints["a"][:16]


def test_without_a_previous_model(serve, tiny):
    server = serve(tiny["a"])
    answer = server.post("/rollback", {})
    assert answer.status == 409 and answer.json["error"]["message"]
    assert server.generation() == 1


def test_after_a_restart(serve, tiny, tmp_path):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.updated(tiny["b"])
    assert server.stop() == 0
    server.start()
    assert server.fingerprint() == tiny.fingerprints["b"]
    number = server.generation()
    assert rolled_back(server) > number
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_to_files_with_older_time_stamps_and_the_same_name(serve, tiny, tmp_path):
    place = tmp_path / "place" / "tiny"
    models.copy(tiny["b"], place)
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tmp_path])
    with Watch(server, tiny) as watch:
        watch.event()
        watch.live(server.updated(place))
        shutil.rmtree(place)
        models.copy(tiny["c"], place)
        for path in place.rglob("*"):
            os.utime(path, (1, 1))
        watch.live(server.updated(place))
        assert server.fingerprint() == tiny.fingerprints["c"]
        watch.live(rolled_back(server))
        assert server.fingerprint() == tiny.fingerprints["b"]


def test_a_revision_that_was_rolled_back_can_be_asked_for(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.updated(tiny["b"])
    rolled_back(server)
    server.updated(tiny["b"])
    assert server.fingerprint() == tiny.fingerprints["b"]
