"""Documents follow the model: updates and rollbacks in the middle of steady searches, writes and
deletes. Every answer is compared with a full scan in numpy (tests/tools/corpus.py)."""

import contextlib
import json
import os
import signal
import sqlite3

import pytest

import models
from corpus import Client, Traffic, ask, check_all, fill, put
from corpus import corpus, options, patient, texts  # noqa: F401
from fixtures import SOAK
from serving import until

DOCUMENTS = 50000 if SOAK else 1500

def last_event(server):
    return server.slot()["history"][-1]


def phase_of(server, update):
    return server.get(f"/update_model/{update}").json.get("phase")


def test_an_update_under_searches_and_writes(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=options)
    fill(server, corpus, DOCUMENTS)
    with Traffic(server, corpus) as traffic:
        for letter in "bca":
            traffic.wait_for(20)
            server.updated(tiny[letter], timeout=600)
            traffic.wait_for(20)
    check_all(server, corpus, "a")
    assert len(traffic.by_model) == 3, traffic.by_model
    embedded = [event.get("documents_embedded", 0) for event in server.slot()["history"][1:]]
    assert embedded[0] >= DOCUMENTS and embedded[1] >= DOCUMENTS, embedded
    # What the first model made is still there, and while it was warm it has followed.
    assert embedded[2] < DOCUMENTS / 2, embedded
    assert server.slot()["history"][1]["phases"]["embedding documents"] > 0


def test_the_same_fingerprint_embeds_nothing(serve, tiny, corpus, options, tmp_path):
    """Another query prompt is another revision of the same space."""
    other = models.copy(tiny["a"], tmp_path / "other" / "tiny")
    models.write_json(other / "config_sentence_transformers.json",
                      {"prompts": {"query": "what: "}, "default_prompt_name": None})
    server = serve(tiny["a"], options=[*options, "--allow-model-from", tmp_path])
    fill(server, corpus, 300)
    files = sorted(file.name for file in (server.data / "vectors").iterdir())
    server.updated(other)
    assert server.fingerprint() == corpus.texts.letters["a"]
    assert "documents_embedded" not in last_event(server)
    assert sorted(file.name for file in (server.data / "vectors").iterdir()) == files
    server.updated(tiny["a"])
    check_all(server, corpus, "a")


def test_a_restart_embeds_nothing_again(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 400)
    rows = next((server.data / "vectors").glob("*.rows"))
    size = rows.stat().st_size
    for end in (server.stop, server.kill):
        end()
        server.start()
        check_all(server, corpus, "a")
        assert rows.stat().st_size == size


@pytest.mark.parametrize("keep_warm", ["10m", "0"])
def test_rollback_after_new_documents(serve, tiny, corpus, options, keep_warm):
    """They are found in the old generation, too, warm or asleep."""
    server = serve(tiny["a"], options=[*options, "--keep-warm", keep_warm])
    fill(server, corpus, 300)
    server.updated(tiny["b"])
    fill(server, corpus, 200, seed=9, prefix="new")
    put(Client(server.port), corpus, {f"d{i}": i for i in range(50)})
    with Traffic(server, corpus) as traffic:
        answer = server.post("/rollback", {"wait": True})
        assert answer.status == 200 and answer.json["status"] == "live", answer
        traffic.wait_for(20)
    check_all(server, corpus, "a")
    embedded = last_event(server).get("documents_embedded", 0)
    assert embedded < 300 + len(corpus.versions), embedded


def test_writes_wait_for_one_that_a_person_is_to_let_serve(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=[*options, "--cutover", "manual"])
    fill(server, corpus, 300)
    with Traffic(server, corpus) as traffic:
        update = server.update(tiny["b"], wait=False).json["id"]
        until("it to be ready", lambda: phase_of(server, update) == "ready")
        followers = {one["generation"]: one for one in server.slot()["followers"]}
        assert followers[2]["synced"] and followers[2]["complete"], followers
        traffic.wait_for(30)
        assert set(traffic.by_model) == {corpus.texts.letters["a"]}
        answer = server.post(f"/update_model/{update}/cutover", {"wait": True})
        assert answer.json["status"] == "live", answer
        traffic.wait_for(30)
    check_all(server, corpus, "b")


def test_cancelled_it_goes_on_where_it_was(serve_with_faults, faults, patient, tiny, corpus,
                                           options):
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, 3000)
    with Traffic(server, corpus, ids=20):
        faults.set("store-commit", "sleep:300")
        update = server.update(tiny["b"], wait=False).json["id"]
        until("a part to be embedded", lambda: (server.get(f"/update_model/{update}").json
                                                .get("documents") or {}).get("embedded", 0) > 200)
        assert server.call("DELETE", f"/update_model/{update}").status == 200
        faults.set()
        assert server.wait_for_end(update)["status"] == "cancelled"
        assert server.fingerprint() == corpus.texts.letters["a"]
        server.updated(tiny["b"])
    embedded = last_event(server)["documents_embedded"]
    assert 0 < embedded < 2800, embedded
    check_all(server, corpus, "b")


def test_vectors_that_nobody_needs_are_dropped(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=[*options, "--keep", 0, "--retire-after", 0,
                                       "--keep-warm", 0])
    fill(server, corpus, 200)
    for letter in "bcab":
        server.updated(tiny[letter])
        check_all(server, corpus, letter)

    def fingerprints():
        return {space["fingerprint"] for space in
                server.get("/collections/default").json["spaces"]}

    wanted = {corpus.texts.letters[letter] for letter in "ab"}
    until("the third model's to go", lambda: fingerprints() == wanted)
    until("its file to go", lambda: len(list((server.data / "vectors").iterdir())) == 2)


def test_the_first_model_embeds_what_is_there(serve, tiny, corpus, options):
    """Of a server whose only model is another one: --data with documents, and a new slot."""
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 300)
    server.stop()
    state = json.loads((server.data / "state.json").read_text())
    state["slots"] = []
    (server.data / "state.json").write_text(json.dumps(state))
    server.models = [str(tiny["b"])]
    server.start()
    check_all(server, corpus, "b")
    assert server.generation() == 1


def test_swapped_models_serve_before_their_documents(serve_with_faults, faults, patient, tiny,
                                                     corpus, options):
    """--swap wait: vectors of texts at once, searches once the documents are embedded."""
    server = serve_with_faults(tiny["a"], options=[*options, "--swap", "wait"])
    fill(server, corpus, 600)
    faults.set("store-commit", "sleep:500")
    server.updated(tiny["b"])
    assert server.embed("london").status == 200
    words = server.post("/search", {"query": "london", "mode": "text"})
    assert words.status == 200, words
    assert server.slot()["followers"][0]["complete"] is False
    with Traffic(server, corpus, writers=1) as traffic:
        faults.set()
        traffic.wait_for(10)
    assert set(traffic.by_model) == {corpus.texts.letters["b"]}
    check_all(server, corpus, "b")


def test_without_a_store_a_person_says_when(serve, tiny, options):
    server = serve(tiny["a"], options=[*options, "--store", "none"])
    update = server.update(tiny["b"], wait=False).json["id"]
    until("it to be ready", lambda: phase_of(server, update) == "ready")
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).json["status"] == "live"
    assert not (server.data / "vectors").exists()
    assert not (server.data / "documents.db").exists()
    server.stop()
    server.options += ["--cutover", "auto"]
    server.start()
    server.updated(tiny["a"])


def test_asleep_it_is_woken_by_searches_and_writes(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=[*options, "--idle-unload", 1])
    fill(server, corpus, 200)
    for action in (lambda: check_all(server, corpus, "a"),
                   lambda: put(Client(server.port), corpus, {"one": 1, "two": 2})):
        until("it to be unloaded", lambda: not server.slot()["loaded"])
        action()
    check_all(server, corpus, "a")


def test_other_chunks_are_cut_at_the_start(serve, tiny, corpus, options):
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 300)
    server.stop()
    server.options += ["--chunk-tokens", "60"]
    server.start()
    check_all(server, corpus, "a")
    assert ask(Client(server.port), corpus, 0) == corpus.texts.letters["a"]


def test_an_update_waits_for_no_sleeper(serve, tiny, corpus, options):
    """Writes do not wait for warm generations, and these are found by their names all the same."""
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 200)
    server.updated(tiny["b"])
    client = Client(server.port)
    for i in range(10):
        put(client, corpus, {f"late{i}": i})
    name = f"tiny@{corpus.texts.letters['a'][:8]}"

    def found():
        answer = server.post("/search", {"query": corpus.texts.queries[0], "k": 300,
                                         "model": name}).json
        assert answer["model"]["fingerprint"] == corpus.texts.letters["a"]
        return {f"late{i}" for i in range(10)} <= {hit["id"] for hit in answer["results"]}

    until("the warm one to have them", found)


def test_a_kept_model_is_searched_by_its_name(serve, tiny, corpus, options):
    """It sleeps, is loaded for the search, and embeds what came since before it answers."""
    server = serve(tiny["a"], options=[*options, "--keep-warm", 0])
    fill(server, corpus, 200)
    for letter in "bc":
        server.updated(tiny[letter])
    put(Client(server.port), corpus, {f"late{i}": i for i in range(100)})
    name = f"tiny@{corpus.texts.letters['a'][:8]}"
    for query in range(5):
        answer = server.post("/search", {"query": corpus.texts.queries[query], "k": 1000,
                                         "model": name}).json
        assert answer["model"]["fingerprint"] == corpus.texts.letters["a"]
        assert {hit["id"] for hit in answer["results"]} == set(corpus.certain())
    check_all(server, corpus, "c")


def test_removals_are_forgotten_when_all_have_passed_them(serve_with_faults, faults, patient, tiny,
                                                          corpus, options):
    """Nothing comes back by that, whatever is behind."""
    faults.environment["MOULT_FAULTS_TIDY_S"] = "1"
    server = serve_with_faults(tiny["a"], options=options)
    fill(server, corpus, 1000)
    with Traffic(server, corpus, ids=20) as traffic:
        server.updated(tiny["b"])
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
            traffic.wait_for(20)
        server.updated(tiny["c"])
        traffic.wait_for(50)

    def removals():
        database = sqlite3.connect(f"file:{server.data}/documents.db?mode=ro", uri=True)
        with contextlib.closing(database):
            return database.execute("SELECT count(*) FROM removals").fetchone()[0]

    until("them to be forgotten", lambda: removals() == 0)
    check_all(server, corpus, "c")


@pytest.mark.parametrize("comes_back", [False, True])
def test_no_place_for_the_vectors_of_a_new_model(serve, tiny, corpus, options, comes_back):
    """Its worker has no file then, and gets one when there is a place; else it is refused."""
    server = serve(tiny["a"], options=options)
    fill(server, corpus, 300)
    vectors, aside = server.data / "vectors", server.data / "aside"
    vectors.rename(aside)
    vectors.write_text("in the way")
    with Traffic(server, corpus, writers=0):
        update = server.update(tiny["b"], wait=False).json["id"]
        until("it to be in trouble", lambda: "trouble" in (
            server.get(f"/update_model/{update}").json.get("documents") or {})
            or server.get(f"/update_model/{update}").json["status"] != "running")
        if comes_back:
            vectors.unlink()
            aside.rename(vectors)
        end = server.wait_for_end(update)
        assert end["status"] == ("live" if comes_back else "refused"), end
        if not comes_back:
            assert "vectors" in end["reason"], end
            vectors.unlink()
            aside.rename(vectors)
            server.updated(tiny["b"])
    check_all(server, corpus, "b")


def test_the_space_of_rows_that_nobody_needs(serve_with_faults, faults, patient, tiny, corpus,
                                             options):
    """It is given back while rows are read."""
    faults.environment["MOULT_FAULTS_TIDY_S"] = "1"
    server = serve_with_faults(tiny["a"], options=options)
    rows = next((server.data / "vectors").glob("*.rows"))
    with Traffic(server, corpus, ids=20, writers=1):
        for seed in range(5):
            fill(server, corpus, 3000, seed=seed)
        until("space to be given back",
              lambda: rows.stat().st_blocks * 512 < rows.stat().st_size / 2)
    check_all(server, corpus, "a")
    server.kill()
    server.start()
    check_all(server, corpus, "a")
