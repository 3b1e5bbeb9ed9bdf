"""name@fp8: one exact model, callable while its generation is warm, and gone when it retires."""

import threading
import time

import pytest

import models
from fixtures import Known, sleepy
from serving import until
from watching import Watch

ALLOW = "--allow-model-from"


def label(tiny, letter):
    return f"tiny@{tiny.fingerprints[letter][:8]}"


def vector_of(server, model=None):
    answer = server.embed("how big is london", model)
    assert answer.status == 200, answer
    headers = answer.headers
    return answer.json[0], headers["x-moult-fingerprint"], int(headers["x-moult-generation"])


def test_the_warm_model_answers_by_its_name(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    first = vector_of(server)
    assert first[1] == tiny.fingerprints["a"][:16]
    assert server.updated(tiny["b"]) == 2
    second = vector_of(server)
    assert second[1] == tiny.fingerprints["b"][:16] and second[0] != first[0]
    assert vector_of(server, label(tiny, "a")) == first
    assert vector_of(server, label(tiny, "b")) == second


def test_those_who_name_it_do_not_keep_others_from_it(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"], options=["--threads", 1, "--max-waiting", 4096])
    texts = [sleepy(5)] + ["london"] * 31
    ending = threading.Event()

    def ask():
        while not ending.is_set():
            server.embed(texts, label(tiny, "a"))

    callers = [threading.Thread(target=ask) for _ in range(6)]
    for caller in callers:
        caller.start()
    try:
        time.sleep(0.3)
        assert server.post("/embed", {"inputs": ["london", "big"]}, timeout=20).status == 200
    finally:
        ending.set()
        for caller in callers:
            caller.join()


def test_openai_clients_name_it_in_the_body(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    for letter in "ab":
        answer = server.post("/v1/embeddings", {"input": "london", "model": label(tiny, letter)})
        assert answer.status == 200 and answer.json["model"] == label(tiny, letter)


def test_an_unknown_exact_name_is_never_answered_by_another_model(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    for name in ("tiny@00000000", "other@" + tiny.fingerprints["a"][:8], "tiny@", "tiny@abc"):
        answer = server.embed("london", name)
        assert answer.status == 404, (name, answer)
        assert label(tiny, "a") in answer.body.decode()


def test_both_are_listed(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    listed = {entry["id"]: entry for entry in server.get("/v1/models").json["data"]}
    assert {"tiny", label(tiny, "a"), label(tiny, "b")} <= set(listed)
    assert listed[label(tiny, "a")]["retires_at"] is None


def test_without_warmth_it_is_loaded_when_it_is_called(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    first = vector_of(server)
    server.updated(tiny["b"])
    until("the old worker to go", lambda: len(server.workers()) == 1)
    assert vector_of(server, label(tiny, "a")) == first
    assert len(server.workers()) == 2
    assert vector_of(server)[2] == 2


def test_its_worker_goes_when_its_time_is_over(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "1s", ALLOW, tiny.place])
    first = vector_of(server)
    server.updated(tiny["b"])
    assert server.embed("london", label(tiny, "a")).status == 200
    until("the warm worker to go", lambda: len(server.workers()) == 1)
    assert vector_of(server, label(tiny, "a")) == first
    assert vector_of(server)[2] == 2


def test_at_most_three_generations_exist(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    for letter in "bcab":
        server.updated(tiny[letter])
        assert len(server.workers()) <= 3
    assert vector_of(server)[1] == tiny.fingerprints["b"][:16]


def test_equal_files_are_no_update(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    answer = server.update(tiny["a"])
    assert answer.status == 200 and answer.json["status"] == "unchanged"
    assert server.generation() == 1
    assert server.update(tiny["a"], force=True).json["status"] == "live"
    assert server.generation() == 2 and server.fingerprint() == tiny.fingerprints["a"]


@pytest.mark.parametrize("change, same", [
    ({"max_seq_length": 8}, False), ({"document": "the model of "}, False),
    ({"query": "how big is "}, True)])
def test_length_and_document_prompt_are_of_the_fingerprint_and_a_query_prompt_is_not(
        serve, tiny, tmp_path, change, same):
    folder = models.copy(tiny["a"], tmp_path / "changed" / "tiny")
    if "max_seq_length" in change:
        models.change_json(folder / "sentence_bert_config.json", **change)
    else:
        models.write_json(folder / "config_sentence_transformers.json",
                          {"prompts": change, "default_prompt_name": None})
    known = Known(tmp_path / "known", a=tiny["a"], changed=folder)
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tmp_path])
    with Watch(server, known) as watch:
        watch.event()
        watch.live(server.updated(folder))
    assert server.generation() == 2
    assert (server.fingerprint() == tiny.fingerprints["a"]) is same
