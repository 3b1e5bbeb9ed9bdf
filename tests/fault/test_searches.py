"""Searches while the store or a model is not as fast as they would like."""

import re
import threading

import pytest

from corpus import patient  # noqa: F401
from serving import until

DOCUMENTS = [{"id": f"d{i}", "text": f"document {i} about cats", "metadata": {"n": i}}
             for i in range(20)]
CATS = {"query": "cats", "k": 3}
SOME = {"filter": {"n": {"$gte": 17}}}

pytestmark = pytest.mark.usefixtures("patient")


def waiting_for_words(server):
    said = server.get("/metrics").body.decode()
    return int(re.search(r'^moult_store_waiting{queue="words"} (\d+)', said, re.MULTILINE)[1])


def test_words_hold_up_nobody_else(serve_with_faults, faults, tiny):
    """Documents and other searches do not wait for those by words; of these, so many may wait."""
    server = serve_with_faults(tiny["a"])
    assert server.post("/documents", DOCUMENTS).status == 200
    faults.set("search-words", "sleep:300")
    answers = []

    def ask_by_words():
        answers.append(server.post("/search", {**CATS, "mode": "text"}))
    threads = [threading.Thread(target=ask_by_words) for _ in range(160)]
    for thread in threads:
        thread.start()
    until("one that is refused", lambda: any(a.status == 429 for a in list(answers)))
    refused = next(a for a in answers if a.status == 429)
    assert "128 searches by words wait" in refused.json["error"]["message"]
    assert int(refused.headers["Retry-After"]) > 0
    for _ in range(5):
        assert server.get("/documents/d3").status == 200
        assert len(server.post("/search", {**CATS, **SOME}).json["results"]) == 3
        assert len(server.post("/search", CATS).json["results"]) == 3
    assert waiting_for_words(server) > 64, "all of that was done before they were"
    faults.set()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 429}
    assert sum(answer.status == 200 for answer in answers) >= 128
    assert waiting_for_words(server) == 0
    assert len(server.post("/search", {**CATS, "mode": "hybrid", **SOME}).json["results"]) == 3


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_a_filter_waits_for_its_rows(serve_with_faults, faults, tiny, mode):
    """A model that has just been started has no space yet, as at a first start, or with chunks of
    another size: a search with a filter waits for it, as one without does for its vectors."""
    first = serve_with_faults(tiny["a"])
    assert first.post("/documents", DOCUMENTS).status == 200
    first.stop()
    faults.set("store-commit", "sleep:700")
    server = serve_with_faults(tiny["a"], data=first.data, options=["--chunk-tokens", "9"])
    assert not server.slot()["followers"][0]["complete"]
    found = server.post("/search", {**CATS, "mode": mode, **SOME})
    assert found.status == 200, found
    assert {hit["id"] for hit in found.json["results"]} == {"d17", "d18", "d19"}
    assert faults.reached("store-commit"), "the space was there before"


def test_a_filter_does_not_wait_for_ever(serve_with_faults, faults, tiny):
    first = serve_with_faults(tiny["a"])
    assert first.post("/documents", DOCUMENTS).status == 200
    first.stop()
    faults.environment["MOULT_FAULTS_SEARCH_S"] = "1"
    faults.set("store-commit", "sleep:4000")
    server = serve_with_faults(tiny["a"], data=first.data, options=["--chunk-tokens", "9"])
    found = server.post("/search", {**CATS, **SOME})
    assert found.status == 503 and int(found.headers["Retry-After"]) > 0
    assert "searches by words" in found.json["error"]["message"]
    assert len(server.post("/search", {**CATS, **SOME, "mode": "text"}).json["results"]) == 3
    faults.set()
    until("the vectors", lambda: server.post("/search", {**CATS, **SOME}).status == 200)
