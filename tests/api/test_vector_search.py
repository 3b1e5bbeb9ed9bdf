"""Searches by vectors: each answer is what a full scan in numpy gives, over vectors that the same
server makes of the same texts."""

import concurrent.futures
import json
import random
import threading

import numpy
import pytest

import models
import raw
from serving import until
from stored import error_of, put, walk

CLOSE = 2e-6      # f32 sums of unit vectors, in another order.


def embed(server, texts, prompt, model=None):
    """Unit vectors, as documents and queries have them."""
    answer = server.post("/embed", {"inputs": list(texts), "prompt_name": prompt},
                         headers={"x-moult-model": model} if model else None)
    assert answer.status == 200, answer
    vectors = numpy.array(answer.json, dtype=numpy.float64)
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


class Scan:
    """The documents of a collection in numpy, in the order of their writing."""

    def __init__(self, server, documents, model=None):
        self.server, self.documents, self.model = server, documents, model
        self.vectors = embed(server, [document["text"] for document in documents], "document",
                             model)

    def check(self, results, query, k, allowed=lambda document: True, min_score=-2):
        """The results are the best k of those that are allowed; scores that are all but equal may
        change places, and no others."""
        scores = self.vectors @ query
        kept = {document["id"]: score for document, score in zip(self.documents, scores)
                if allowed(document) and score >= min_score}
        best = sorted(kept.values(), reverse=True)[:k]
        assert [hit["score"] for hit in results] == pytest.approx(best, abs=CLOSE)
        for hit in results:
            assert hit["score"] == pytest.approx(kept[hit["id"]], abs=CLOSE), hit
        assert len({hit["id"] for hit in results}) == len(results)


def ask(server, collection, **question):
    answer = server.post(f"/collections/{collection}/search", question)
    assert answer.status == 200, answer
    return answer.json


def ids(results):
    return [hit["id"] for hit in results]


def make_documents(count, seed=1):
    draw = random.Random(seed)
    return [{"id": f"{i}", "text": text, "metadata": {"i": i, "kind": draw.choice("abc")}}
            for i, text in enumerate(models.texts(count, seed))]


@pytest.fixture(scope="module")
def scanned(tiny):
    documents = make_documents(700)
    put(tiny, documents, "scanned")
    return Scan(tiny, documents)


QUERIES = ["1 the", "42 people", *models.texts(12, seed=77)]


# ---- What is found ----

@pytest.mark.parametrize("k", [1, 10, 699, 1000])
def test_a_search_is_a_full_scan(tiny, scanned, k):
    for text, vector in zip(QUERIES, embed(tiny, QUERIES, "query")):
        said = ask(tiny, "scanned", query=text, k=k)
        scanned.check(said["results"], vector, k)
        assert said["model"] == {"name": "tiny", "generation": tiny.generation(),
                                 "fingerprint": tiny.fingerprint()}
        hit = said["results"][0]
        assert hit.keys() == {"id", "text", "metadata", "score"}
        assert {key: hit[key] for key in ("id", "text", "metadata")} == \
            scanned.documents[int(hit["id"])]


@pytest.mark.parametrize("filter_, allowed", [
    ({"kind": "a"}, lambda d: d["metadata"]["kind"] == "a"),
    ({"i": {"$gte": 100, "$lt": 105}}, lambda d: 100 <= d["metadata"]["i"] < 105),
    ({"kind": {"$nin": ["a", "b", "c"]}}, lambda d: False), ({}, lambda d: True)])
def test_a_filter_comes_before_the_search(tiny, scanned, filter_, allowed):
    for text, vector in zip(QUERIES, embed(tiny, QUERIES, "query")):
        results = ask(tiny, "scanned", query=text, filter=filter_)["results"]
        scanned.check(results, vector, 10, allowed)


def test_the_least_score(tiny, scanned):
    for text, vector in zip(QUERIES, embed(tiny, QUERIES, "query")):
        least = float(numpy.quantile(scanned.vectors @ vector, 0.99)) + 1e-4
        results = ask(tiny, "scanned", query=text, k=100, min_score=least)["results"]
        scanned.check(results, vector, 100, min_score=least)
        assert ask(tiny, "scanned", query=text, min_score=1e300)["results"] == []
        assert len(ask(tiny, "scanned", query=text, min_score=-1e300)["results"]) == 10


def test_many_queries_are_like_each_alone(tiny, scanned):
    alone = [ask(tiny, "scanned", query=text)["results"] for text in QUERIES]
    assert ask(tiny, "scanned", queries=QUERIES)["results"] == alone
    many = ask(tiny, "scanned", queries=QUERIES * 40, with_text=False)["results"]
    assert [ids(one) for one in many] == [ids(one) for one in alone] * 40


def test_the_question(tiny, scanned):
    put(tiny, scanned.documents[:200])
    tiny.post("/documents/delete", {"filter": {"i": {"$gte": 200}}})
    said = tiny.get("/?q=42+people&k=3").json
    assert said["status"] == "ok" and said["query"] == "42 people"
    assert said["results"] == ask(tiny, "default", query="42 people", k=3)["results"]
    assert len(tiny.get("/?q=42+people").json["results"]) == 5
    assert said["timing"].keys() == {"queue_ms", "model_ms", "search_ms", "total_ms"}
    assert said["timing"]["model_ms"] > 0 and said["timing"]["search_ms"] > 0


def test_equal_scores_come_in_the_order_of_writing(tiny, name):
    put(tiny, [{"id": f"{i}", "text": "the same"} for i in (5, 3, 9)], name)
    put(tiny, [{"id": f"{i}", "text": "the same"} for i in (7, 1)], name)
    for k in range(1, 6):
        results = ask(tiny, name, query="people", k=k)["results"]
        assert ids(results) == ["5", "3", "9", "7", "1"][:k]


def test_long_texts_are_found_by_a_passage(tiny, name):
    words = models.texts(400, seed=3, words_most=9)
    long = ". ".join(words[:300])
    put(tiny, [{"id": "long", "text": long},
               *({"id": text, "text": text} for text in words[300:])], name)
    for needle in (words[0], words[150], words[299]):
        results = ask(tiny, name, query=needle, k=1000)["results"]
        assert len(results) == 101, "each document once"
        hit = next(hit for hit in results if hit["id"] == "long")
        chunk = hit["chunk"]
        assert long.encode()[chunk["begin"]:chunk["end"]].decode() == chunk["text"]
        assert hit["text"] == long and 0 < len(chunk["text"]) < len(long)
        query = embed(tiny, [needle], "query")[0]
        passage = embed(tiny, [chunk["text"]], "document")[0]
        assert hit["score"] == pytest.approx(query @ passage, abs=CLOSE)
        for other in results:
            assert ("chunk" in other) == (other["id"] == "long")
    bare = ask(tiny, name, query=words[0], k=1000, with_text=False)["results"]
    assert all(hit["chunk"].keys() == {"index", "begin", "end"} for hit in bare)


# ---- Vectors in place of texts ----

def test_a_vector_finds_what_its_text_finds(tiny, scanned):
    for text in QUERIES:
        said = ask(tiny, "scanned", query=text, with_vector=True)
        assert said["vector"] == pytest.approx(list(embed(tiny, [text], "query")[0]), abs=CLOSE)
        for scale in (1, 1000, 1e-3):
            vector = [scale * number for number in said["vector"]]
            again = ask(tiny, "scanned", vector=vector, fingerprint=tiny.fingerprint()[:16])
            assert ids(again["results"]) == ids(said["results"])
            assert [hit["score"] for hit in again["results"]] == pytest.approx(
                [hit["score"] for hit in said["results"]], abs=CLOSE)
    many = ask(tiny, "scanned", queries=QUERIES, with_vector=True)
    assert numpy.array(many["vectors"]) == pytest.approx(embed(tiny, QUERIES, "query"), abs=CLOSE)


def test_a_vector_of_another_model_is_refused(tiny, scanned):
    fingerprint = tiny.fingerprint()
    vector = list(scanned.vectors[0])
    question = {"vector": vector, "fingerprint": "0" * 8}
    message = error_of(tiny.post("/collections/scanned/search", question), 409)["message"]
    assert "00000000" in message and f"tiny@{fingerprint[:8]}" in message
    assert "model" in message and "again" in message
    wrong = dict(question, fingerprint=fingerprint[:8] + "0" * 56)
    error_of(tiny.post("/collections/scanned/search", wrong), 409)
    short = {"vector": vector[1:], "fingerprint": fingerprint}
    assert "32" in error_of(tiny.post("/collections/scanned/search", short), 400)["message"]


# ---- Words and vectors together ----

@pytest.mark.parametrize("k", [1, 10, 100])
def test_hybrid_is_the_fusion_of_both_ranks(tiny, scanned, k):
    depth = max(50, 4 * k)
    for text in QUERIES:
        lists = [ids(ask(tiny, "scanned", query=text, mode=mode, k=depth)["results"])
                 for mode in ("vector", "text")]
        fused = {}
        for one in lists:
            for rank, document in enumerate(one, 1):
                fused[document] = fused.get(document, 0) + 1 / (60 + rank)
        best = sorted(fused, key=lambda document: (-fused[document], int(document)))[:k]
        results = ask(tiny, "scanned", query=text, mode="hybrid", k=k)["results"]
        assert ids(results) == best
        assert [hit["score"] for hit in results] == pytest.approx([fused[one] for one in best])
    filtered = ask(tiny, "scanned", query=QUERIES[0], mode="hybrid", filter={"kind": "b"})
    assert {hit["metadata"]["kind"] for hit in filtered["results"]} == {"b"}


# ---- Changes ----

def test_what_is_acknowledged_is_found(tiny, name):
    draw = random.Random(5)
    kept = {}
    for i in range(150):
        document = {"id": f"{draw.randrange(30)}", "text": f"{i} people", "metadata": {"i": i}}
        if draw.random() < 0.2 and kept:
            gone = draw.choice(sorted(kept))
            assert tiny.call("DELETE", f"/collections/{name}/documents/{gone}", {}).status == 200
            del kept[gone]
            found = ask(tiny, name, query=f"{i} people", k=1000)["results"]
            assert set(ids(found)) == set(kept)
            continue
        put(tiny, document, name)
        kept[document["id"]] = document["text"]
        found = ask(tiny, name, query=f"{i} people", k=1000)["results"]
        assert {hit["id"]: hit["text"] for hit in found} == kept
        assert ids(ask(tiny, name, query="x", filter={"i": i})["results"]) == [document["id"]]
    assert len(walk(tiny, name)) == len(kept)


def test_metadata_alone_may_change(tiny, name):
    documents = make_documents(50)
    put(tiny, documents, name)
    before = ask(tiny, name, query="42 people", k=50, with_metadata=False)["results"]
    put(tiny, [dict(document, metadata={"new": True}) for document in documents], name)
    after = ask(tiny, name, query="42 people", k=50, filter={"new": True})["results"]
    assert ids(after) == ids(before)
    assert ask(tiny, name, query="42 people", filter={"kind": "a"})["results"] == []


def test_a_dropped_collection_is_gone_at_once(tiny, name):
    for text in ("first", "second"):
        put(tiny, {"id": "a", "text": text}, name)
        assert [hit["text"] for hit in ask(tiny, name, query="x")["results"]] == [text]
        assert tiny.call("DELETE", f"/collections/{name}", {}).json == {"deleted": 1}
        error_of(tiny.post(f"/collections/{name}/search", {"query": "x"}), 404)


def test_no_text_meets_the_score_of_another_version(tiny, name):
    """Documents change back and forth while they are searched."""
    versions = [["one more people", "the first of all"], ["now and then", "people are here"]]
    texts = sum(versions, [])
    vectors = dict(zip(texts, embed(tiny, texts, "document")))
    query = "people"
    vector = embed(tiny, [query], "query")[0]
    ending, turns = threading.Event(), [0, 0]

    def write(i):
        try:
            while not ending.is_set():
                text = versions[i][turns[i] % 2]
                put(tiny, {"id": f"{i}", "text": text, "metadata": {"i": i}}, name)
                turns[i] += 1
        finally:
            ending.set()

    def search(n):
        more = [{}, {"filter": {"i": {"$lt": 5}}}, {"mode": "hybrid"}][n % 3]
        searches = 0
        while searches < 60 or (min(turns) <= 10 and not ending.is_set()):
            searches += 1
            for hit in ask(tiny, name, query=query, **more)["results"]:
                if "mode" not in more:
                    assert hit["score"] == pytest.approx(vectors[hit["text"]] @ vector, abs=CLOSE)
                assert hit["text"] in versions[int(hit["id"])]
    put(tiny, [{"id": f"{i}", "text": versions[i][0]} for i in range(2)], name)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, i) for i in range(2)]
        searchers = [pool.submit(search, n) for n in range(4)]
        try:
            for searcher in searchers:
                searcher.result()
        finally:
            ending.set()
        for writer in writers:
            writer.result()


def test_a_document_that_is_replaced_is_always_there(tiny, name):
    """While a write is not acknowledged a search finds the old version or the new one."""
    texts = [f"{i} people" for i in range(40)]
    put(tiny, [{"id": f"{i}", "text": texts[i], "metadata": {"turn": 0, "kept": True}}
               for i in range(len(texts))], name)
    ending = threading.Event()
    begun, done = [0], [0]

    def write():
        for turn in range(1, 25):
            begun[0] = turn
            put(tiny, [{"id": f"{i}", "text": f"{text} {turn % 5}",
                        "metadata": {"turn": turn, "kept": True}}
                       for i, text in enumerate(texts)], name)
            done[0] = turn
        ending.set()

    def search(n):
        question = [{}, {"filter": {"kept": True}}, {"queries": ["people", "now"]},
                    {"mode": "hybrid"}][n]
        if "queries" not in question:
            question["query"] = "people"
        searches = 0
        while not ending.is_set():
            least = done[0]
            results = ask(tiny, name, k=100, **question)["results"]
            most = begun[0]
            for hits in results if "queries" in question else [results]:
                assert sorted(ids(hits), key=int) == [f"{i}" for i in range(len(texts))]
                for hit in hits:
                    turn = hit["metadata"]["turn"]
                    assert least <= turn <= most, (least, turn, most)
                    end = f" {turn % 5}" if turn else ""
                    assert hit["text"] == texts[int(hit["id"])] + end
            searches += 1
        return searches

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        searchers = [pool.submit(search, n) for n in range(4)]
        try:
            write()
        finally:
            ending.set()
        assert min(searcher.result() for searcher in searchers) > 0


# ---- Models ----

def test_the_model_may_be_named(serve, tiny_model):
    server = serve(f"one={tiny_model}", f"two={tiny_model}")
    put(server, {"id": "a", "text": "a"}, "first")
    put(server, {"id": "b", "text": "b"}, "second", headers={"x-moult-model": "two"})
    exact = f"two@{server.fingerprint()[:8]}"
    assert ask(server, "first", query="a")["model"]["name"] == "one"
    for model in ("two", exact):
        said = ask(server, "second", query="a", model=model, filter={})
        assert said["model"]["name"] == "two" and ids(said["results"]) == ["b"]
    header = {"x-moult-model": "one"}
    question = {"query": "a"}
    message = error_of(server.post("/collections/second/search", question, headers=header), 409)
    assert "two" in message["message"] and "one" in message["message"]
    assert server.post("/collections/first/search", question, headers=header).status == 200
    for model in ("three", "two@00000000"):
        error_of(server.post("/collections/second/search", {"query": "a", "model": model}), 404)


def test_an_empty_store_finds_nothing(serve, tiny_model):
    server = serve(tiny_model)
    for question in ({"query": "a"}, {"query": "a", "filter": {"b": 1}}, {"queries": ["a", "b"]},
                     {"query": "a", "mode": "hybrid"}):
        answer = server.post("/search", question)
        assert answer.status == 200, answer
        assert answer.json["results"] == ([[], []] if "queries" in question else [])
        assert answer.json["model"]["fingerprint"] == server.fingerprint()
    assert server.get("/?q=a").json["results"] == []
    error_of(server.post("/collections/none/search", {"query": "a"}), 404)


def test_answers_say_who_has_given_them(tiny, scanned):
    answer = tiny.post("/collections/scanned/search", {"query": "a"})
    assert answer.headers["x-moult-fingerprint"] == tiny.fingerprint()[:16]
    assert answer.headers["x-moult-generation"] == str(tiny.generation())
    assert answer.headers["x-moult-truncated"] == "0"
    long = tiny.post("/collections/scanned/search", {"query": "people " * 500})
    assert long.headers["x-moult-truncated"] == "1"
    assert "x-moult-generation" not in tiny.post("/collections/scanned/search",
                                                 {"query": "a", "mode": "text"}).headers


def test_a_restart_finds_the_same(serve, tiny_model, tmp_path):
    server = serve(tiny_model, data=tmp_path / "kept")
    put(server, make_documents(300))
    put(server, {"id": "7", "text": "changed"})
    server.post("/documents/delete", {"filter": {"i": {"$lt": 5}}})
    before = [ask(server, "default", query=text, k=50)["results"] for text in QUERIES]
    server.kill()
    server.start()
    assert [ask(server, "default", query=text, k=50)["results"] for text in QUERIES] == before


def test_another_model_has_other_vectors(serve, tiny_model, tmp_path):
    """After an update the new one answers, and the old one by its name."""
    newer = models.make_tiny(tmp_path / "newer" / "tiny", 7)
    models.write_json(newer / "config_sentence_transformers.json",
                      {"prompts": {"query": "asked: ", "document": "told: "},
                       "default_prompt_name": None})
    server = serve(tiny_model, options=["--allow-model-from", tmp_path])
    documents = make_documents(200)
    put(server, documents)
    old = f"tiny@{server.fingerprint()[:8]}"
    server.updated(newer)
    new = f"tiny@{server.fingerprint()[:8]}"
    late = {"id": "late", "text": "people came late"}
    put(server, late)
    scans = {model: Scan(server, [*documents, late], model) for model in (old, new)}
    assert old != new
    for text in QUERIES:
        for model, named in ((new, {}), (new, {"model": new}), (old, {"model": old}),
                             (old, {"model": old, "filter": {}})):
            said = ask(server, "default", query=text, **named)
            vector = embed(server, [text], "query", model)[0]
            scans[model].check(said["results"], vector, 10)
            assert f"tiny@{said['model']['fingerprint'][:8]}" == model
    vector = list(embed(server, ["people"], "query", old)[0])
    question = {"vector": vector, "fingerprint": old[5:]}
    assert old in error_of(server.post("/search", question), 409)["message"]
    scans[old].check(ask(server, "default", model=old, **question)["results"], vector, 10)


def test_clients_that_go_leave_nothing_behind(serve, tiny_model):
    server = serve(tiny_model)
    put(server, make_documents(300))
    before = server.descriptors()
    questions = [{"query": "people"}, {"query": "people", "filter": {"kind": "a"}},
                 {"queries": models.texts(400), "k": 100}, {"query": "a", "mode": "hybrid"}]
    for question in questions * 10:
        with raw.dial(server) as connection:
            connection.sendall(raw.post("/search", json.dumps(question)))
    until("all connections to go", lambda: server.descriptors() <= before)
    assert len(ask(server, "default", query="people")["results"]) == 10
