"""Faults while documents are written, embedded and followed: workers and fronts that die, documents
that kill, disks that are full, programs that are upgraded. What was acknowledged is found, by the
model that serves, with its own scores; nothing that was deleted comes back."""

import os
import signal
import subprocess
import threading
import time

import pytest

from corpus import Client, Traffic, ask, check_all, fill, put
from corpus import corpus, options, patient, texts  # noqa: F401
from fixtures import DEADLY, SOAK, sleepy
from serving import children, until
from succession import Line

DOCUMENTS = 3000

pytestmark = pytest.mark.usefixtures("patient")


def embedded(server, update):
    """By an update that embeds documents just now."""
    return (server.get(f"/update_model/{update}").json.get("documents") or {}).get("embedded", 0)


def workers_of(server, generation):
    return [pid for pid, line in children(server.pid).items()
            if line[1:2] == ["worker"] and any(f" {generation}" in part for part in line
                                               if part.startswith("--label="))]


def begin_update(server, faults, folder, least=500):
    """An update that has embedded so many, and goes slowly on."""
    faults.set("store-commit", "sleep:200")
    update = server.update(folder, wait=False).json["id"]
    until("a part to be embedded", lambda: embedded(server, update) >= least)
    return update


@pytest.mark.parametrize("dying", [[2], [1], [1, 2]])
def test_workers_killed_in_the_middle_of_embedding(serve_with_faults, faults, tiny, corpus,
                                                   options, dying):
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, DOCUMENTS)
    with Traffic(server, corpus, ids=50) as traffic:
        update = begin_update(server, faults, tiny["b"])
        for generation in dying:
            for pid in workers_of(server, generation):
                os.kill(pid, signal.SIGKILL)
        faults.set()
        assert server.wait_for_end(update)["status"] == "live"
        traffic.wait_for(20)
    check_all(server, corpus, "b")
    assert server.slot()["history"][-1]["documents_embedded"] < 2 * DOCUMENTS


def test_a_candidate_that_keeps_dying_is_refused(serve_with_faults, faults, tiny, corpus, options):
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, DOCUMENTS)
    with Traffic(server, corpus, ids=50) as traffic:
        faults.set("store-commit", "sleep:1000")
        update = server.update(tiny["b"], wait=False).json["id"]
        until("it to embed", lambda: "documents" in server.get(f"/update_model/{update}").json)
        while server.get(f"/update_model/{update}").json["status"] == "running":
            for pid in workers_of(server, 2):
                os.kill(pid, signal.SIGKILL)
        faults.set()
        assert server.wait_for_end(update)["status"] == "refused"
        traffic.wait_for(20)
    check_all(server, corpus, "a")


def test_the_front_killed_in_the_middle_of_embedding(serve_with_faults, faults, tiny, corpus,
                                                     options):
    """It serves the old model again; the next update goes on where this one was."""
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, DOCUMENTS)
    with Traffic(server, corpus, ids=50, lossy=True, allowed=[503]) as traffic:
        begin_update(server, faults, tiny["b"], least=1000)
        server.kill()
        faults.set()
        server.start()
        traffic.wait_for(20)
        assert server.fingerprint() == corpus.texts.letters["a"]
        server.updated(tiny["b"])
        traffic.wait_for(20)
    assert server.slot()["history"][-1]["documents_embedded"] < DOCUMENTS - 500
    check_all(server, corpus, "b")


POINTS = ["reembed", "portion-embedded", "portion-written", "store-commit", "store-committed",
          "state-before", "state-after", "cutover-after"]


@pytest.mark.parametrize("point", POINTS)
def test_the_front_killed_at_a_point(serve_with_faults, faults, tiny, corpus, options, point):
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, 500)
    with Traffic(server, corpus, ids=50, lossy=True, allowed=[503], searchers=1,
                 writers=1) as traffic:
        traffic.ending.wait(0.2)
        server.update(tiny["b"], wait=False)
        faults.set(point, "crash")
        server.process.wait(60)
        faults.set()
        server.start()
        traffic.wait_for(20)
        server.updated(tiny["b"], force=True)
        traffic.wait_for(20)
    check_all(server, corpus, "b")
    assert not list((server.data / "vectors").glob("*.blank"))


@pytest.mark.parametrize("times", [40 if SOAK else 4])
def test_the_front_killed_at_any_moment(serve, tiny, corpus, options, times):
    """Updates there and back, and kill -9 whenever it may be."""
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 1000)
    with Traffic(server, corpus, ids=50, lossy=True, allowed=[503]) as traffic:
        for i in range(times):
            server.update(tiny["ba"[i % 2]], wait=False, force=True)
            time.sleep(0.05 + 0.37 * (i * 0.618 % 1))
            server.kill()
            server.start()
            traffic.wait_for(10)
    check_all(server, corpus)


def test_stopped_in_the_middle_of_embedding(serve_with_faults, faults, tiny, corpus, options):
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, DOCUMENTS)
    begin_update(server, faults, tiny["b"])
    faults.set()
    assert server.stop() == 0
    server.start()
    check_all(server, corpus, "a")
    server.updated(tiny["b"])
    check_all(server, corpus, "b")


def test_a_query_is_searched_by_the_model_that_embeds_it(serve_with_faults, faults, tiny, corpus,
                                                          options):
    """Embedded by the old one, then the cut-over: its hits are still the old one's."""
    server = serve_with_faults(tiny["a"], options=[*options, "--cutover", "manual"])
    fill(server, corpus, 300)
    update = server.update(tiny["b"], wait=False).json["id"]
    until("it to be ready",
          lambda: server.get(f"/update_model/{update}").json.get("phase") == "ready")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        Client(server.port).call("POST", "/search", {"query": sleepy(1500), "k": 5})))
    thread.start()
    time.sleep(0.5)
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).json["status"] == "live"
    assert ask(Client(server.port), corpus, 0) == corpus.texts.letters["b"]
    thread.join()
    status, answer = answers[0]
    assert status == 200 and answer["model"]["fingerprint"] == corpus.texts.letters["a"], answers
    again = server.post("/search", {"query": sleepy(1500), "k": 5,
                                    "model": f"tiny@{corpus.texts.letters['a'][:8]}"}).json
    assert again["results"] == answer["results"]


def test_a_document_that_kills_its_worker(serve_with_faults, tiny, corpus, options):
    """Its writer is told; its neighbours are found; neither a restart nor another model stumbles
    over it again and again."""
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, 200)
    with Traffic(server, corpus, ids=50, writers=1) as traffic:
        begun = corpus.begin({"before": 1, "behind": 2})
        answer = server.post("/documents", [{"id": "before", "text": corpus.texts.texts[1]},
                                            {"id": "deadly", "text": DEADLY},
                                            {"id": "behind", "text": corpus.texts.texts[2]}])
        corpus.acknowledge(begun)
        assert answer.status == 500, answer
        assert "documents[1]" in answer.json["error"]["message"], answer
        traffic.wait_for(10)
        assert server.get("/documents/deadly").json["text"] == DEADLY
        words = server.post("/search", {"query": "crash", "mode": "text"}).json["results"]
        assert [hit["id"] for hit in words] == ["deadly"]
        server.updated(tiny["b"])
        traffic.wait_for(20)
        assert server.call("DELETE", "/documents/deadly").status == 200
    check_all(server, corpus, "b")


def test_a_deadly_document_for_a_model_that_is_to_serve(serve_with_faults, tiny, corpus, options):
    """Written while one waits for a person: it is loaded again, finds out, and is ready again."""
    server = serve_with_faults(tiny["a"], options=[*options, "--cutover", "manual"])
    fill(server, corpus, 200)
    update = server.update(tiny["b"], wait=False).json["id"]

    def ready():
        return server.get(f"/update_model/{update}").json.get("phase") == "ready"

    until("it to be ready", ready)
    assert server.post("/documents", {"id": "deadly", "text": DEADLY}).status == 500
    put(Client(server.port), corpus, {"later": 3})
    until("it to be ready", ready)
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).json["status"] == "live"
    assert server.call("DELETE", "/documents/deadly").status == 200
    check_all(server, corpus, "b")


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(bytes) mounts a file system of that size."""
    place = tmp_path / "small"

    def mount(size):
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
                              capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        return place
    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(place, leave):
    """Takes the space of the disk but for so many bytes; returns the file."""
    state = os.statvfs(place)
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            for _ in range((state.f_bavail * state.f_frsize - leave) // 4096):
                file.write(b"\0" * 4096)
        except OSError:
            pass   # Somebody else has written, too.
    return filler


def test_an_update_for_which_there_is_no_disk(serve, tiny, corpus, options, small_disk, tmp_path):
    disk = small_disk("24m")
    server = serve(tiny["a"], options=options, data=disk / "data", log=tmp_path / "log")
    fill(server, corpus, 1000)
    filler = fill_up(disk, 3_000_000)
    with Traffic(server, corpus, writers=0):
        answer = server.update(tiny["b"])
        assert answer.status == 422, answer
        assert "1000 documents need about" in answer.json["reason"], answer
        filler.unlink()
        server.updated(tiny["b"])
    check_all(server, corpus, "b")


def test_a_disk_that_fills_while_documents_are_embedded(serve_with_faults, faults, tiny, corpus,
                                                         options, small_disk, tmp_path):
    """The update is refused, the old model goes on; writes fail until there is space again."""
    disk = small_disk("24m")
    server = serve_with_faults(tiny["a"], options=options, data=disk / "data",
                               log=tmp_path / "log")
    fill(server, corpus, DOCUMENTS)
    with Traffic(server, corpus, writers=0) as traffic:
        update = begin_update(server, faults, tiny["b"])
        filler = fill_up(disk, 0)
        faults.set()
        end = server.wait_for_end(update)
        assert end["status"] == "refused" and "could not be embedded" in end["reason"], end
        answer = server.post("/documents", [{"id": f"full{i}", "text": "london " * 2000}
                                            for i in range(50)])
        assert answer.status == 507, answer
        traffic.wait_for(10)
        filler.unlink()
        put(Client(server.port), corpus, {"space": 1})
        server.updated(tiny["b"])
    check_all(server, corpus, "b")


def test_upgrades_under_searches_and_writes(tiny, corpus, options, tmp_path):
    """What is being written when another program takes over is written, or is said not to be."""
    server = Line(tmp_path / "data", tiny["a"], options=options)
    with server:
        fill(server, corpus, 500)
        with Traffic(server, corpus, lossy=True, allowed=[503], ids=50) as traffic:
            for _ in range(3):
                server.follow()
                traffic.wait_for(20)
            server.updated(tiny["b"])
        assert traffic.counts["lost"] == 0, traffic.counts
        check_all(server, corpus, "b")
