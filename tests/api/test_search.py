"""Searches: what is found, in which order, and what is said of it."""

import pytest

from serving import until
from stored import error_of, put

DOCUMENTS = [
    {"id": "london", "text": "London has 8.9 million inhabitants.",
     "metadata": {"year": 2022, "lang": "en"}},
    {"id": "paris", "text": "Paris has 2.1 million inhabitants.",
     "metadata": {"year": 2020, "lang": "en"}},
    {"id": "köln", "text": "Köln hat 1,1 Millionen Einwohner.",
     "metadata": {"year": 2020, "lang": "de"}},
    {"id": "thames", "text": "The Thames flows through London. London lies on the Thames.",
     "metadata": {"lang": "en"}},
]


def ask(server, collection, **question):
    answer = server.post(f"/collections/{collection}/search", question)
    assert answer.status == 200, answer
    return answer.json


def ids(results):
    return [hit["id"] for hit in results]


@pytest.fixture
def words(tiny, name):
    """Asks by words in a collection with the documents above."""
    put(tiny, DOCUMENTS, name)
    return lambda query, **more: ask(tiny, name, query=query, mode="text", **more)


# ---- By words ----

def test_words_are_found(words):
    said = words("London")
    assert said.keys() == {"results", "model", "timing"} and said["model"] is None
    assert ids(said["results"]) == ["thames", "london"]
    assert said["results"][1].keys() == {"id", "text", "metadata", "score"}
    assert {key: said["results"][1][key] for key in DOCUMENTS[0]} == DOCUMENTS[0]
    scores = [hit["score"] for hit in said["results"]]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0


@pytest.mark.parametrize("query, found", [
    ("KÖLN", ["köln"]), ("koln", ["köln"]), ("nothing", []), ("million OR NOT", None),
    ("\"London", None), ("-london", None), ("id:london", None), ("*", []), ("(", []), ("a\0b", []),
    ("😀", []), ("nach Köln, bitte!", ["köln"])])
def test_nothing_in_a_query_is_an_operator(words, query, found):
    results = ids(words(query)["results"])
    if found is not None:
        assert results == found
    elif "ondon" in query:
        assert set(results) == {"london", "thames"}
    else:
        assert set(results) == {"london", "paris"}


def test_filters_and_limits(words):
    assert ids(words("inhabitants London", k=1)["results"]) == ["london"]
    found = words("million inhabitants", filter={"year": {"$lt": 2021}})["results"]
    assert ids(found) == ["paris"]
    assert words("London", filter={"lang": "de"})["results"] == []
    best, other = words("London")["results"]
    between = (best["score"] + other["score"]) / 2
    assert ids(words("London", min_score=between)["results"]) == [best["id"]]
    bare = words("London", with_text=False, with_metadata=False)["results"]
    assert [hit.keys() for hit in bare] == [{"id", "score"}] * 2


def test_many_queries_have_a_list_each(tiny, name, words):
    queries = ["London", "nothing", "Köln"] + ["Paris"] * 500
    results = ask(tiny, name, queries=queries, mode="text")["results"]
    assert [ids(one) for one in results[:3]] == [["thames", "london"], [], ["köln"]]
    assert [ids(one) for one in results[3:]] == [["paris"]] * 500


def test_what_is_written_is_found_and_what_is_deleted_is_not(tiny, name, words):
    assert words("zebra")["results"] == []
    put(tiny, {"id": "london", "text": "A zebra."}, name)
    assert ids(words("zebra")["results"]) == ["london"]
    assert ids(words("London")["results"]) == ["thames"]
    tiny.call("DELETE", f"/collections/{name}/documents/thames", {})
    assert words("London")["results"] == []


def test_equal_scores_come_in_the_order_of_writing(tiny, name):
    put(tiny, [{"id": f"{i}", "text": "the same words"} for i in (3, 1, 2)], name)
    put(tiny, {"id": "0", "text": "the same words"}, name)
    assert ids(ask(tiny, name, query="words", mode="text")["results"]) == ["3", "1", "2", "0"]


# ---- What is refused ----

@pytest.mark.parametrize("body, said", [
    ({}, "one of"), ({"query": "a", "queries": ["b"]}, "one of"), ({"query": ""}, "empty"),
    ({"query": 5}, "number"), ({"queries": "a"}, "list"), ({"queries": []}, "empty"),
    ({"queries": ["a", ""]}, "[1]"), ({"queries": ["a", None]}, "[1]"),
    ({"queries": ["a"] * 2049}, "2048"), ({"query": "a", "k": 0}, "1000"),
    ({"query": "a", "k": 1001}, "1000"), ({"query": "a", "k": "5"}, '"k"'),
    ({"queries": ["a"] * 101, "k": 1000}, "100000"),
    ({"query": "a", "mode": "vectors"}, "vectors"), ({"query": "a", "mode": 1}, '"mode"'),
    ({"query": "a", "filter": []}, "object"), ({"query": "a", "filter": {"a": {"$x": 1}}}, "$x"),
    ({"query": "a", "filters": {}}, "filters"), ({"query": "a", "min_score": "0"}, "min_score"),
    ({"query": "a", "mode": "hybrid", "min_score": 0}, "ranks"),
    ({"query": "a", "with_text": 1}, "with_text"), ({"query": "a", "fingerprint": "0" * 8}, "none"),
    ({"vector": [1.0]}, "fingerprint"), ({"vector": [], "fingerprint": "0" * 8}, "vector"),
    ({"vector": [1, "a"], "fingerprint": "0" * 8}, "[1]"),
    ({"vector": [0, 0], "fingerprint": "0" * 8}, "direction"),
    ({"vector": [1e300], "fingerprint": "0" * 8}, "direction"),
    ({"vector": [1.0], "fingerprint": "0" * 7}, "hex"),
    ({"vector": [1.0], "fingerprint": "x" * 8}, "hex"),
    ({"vector": [1.0], "fingerprint": "0" * 8, "mode": "text"}, "words"),
    ({"query": "a", "mode": "text", "with_vector": True}, "no vector")])
def test_bad_questions(tiny, body, said):
    message = error_of(tiny.post("/search", body), 400)["message"]
    assert said in message, message


def test_bad_bodies_and_places(tiny, name):
    for body in (b"", b"[]", b'"a"', b"{", b'{"query": "\xff"}'):
        error_of(tiny.post("/search", body), 400)
    question = {"query": "a", "mode": "text"}
    error_of(tiny.post(f"/collections/{name}/search", question), 404)
    error_of(tiny.get("/search"), 405)
    assert tiny.post("/collections/default/search", question).status == 200


def test_without_a_store_nothing_is_searched(serve, tiny_model):
    server = serve(tiny_model, options=["--store", "none"])
    assert "--store none" in error_of(server.post("/search", {"query": "a"}), 404)["message"]
    answer = server.get("/?q=a")
    assert answer.status == 200 and answer.json["results"] == []
    assert "document" not in server.get("/").body.decode()


# ---- What is counted ----

def test_documents_and_queries_are_counted(serve, tiny_model):
    server = serve(tiny_model)
    put(server, DOCUMENTS)
    put(server, DOCUMENTS[:1], "other")
    ask(server, "default", queries=["a", "b", "c"], mode="text")

    def counted():
        lines = server.get("/metrics").body.decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert counted()['moult_documents{slot="tiny"}'] == "5"
    assert counted()['moult_queries_total{mode="text"}'] == "3"
    assert "5 documents in 2 collections" in server.get("/").body.decode()
    server.call("DELETE", "/collections/default", {})
    put(server, {"text": "one more"}, "other")
    until("the catalogue to be read", lambda: counted()['moult_documents{slot="tiny"}'] == "2")
    assert "2 documents in 1 collection\n" in server.get("/").body.decode()
