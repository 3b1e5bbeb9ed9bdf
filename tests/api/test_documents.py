"""Documents and collections: what is written is there, as it was written, or not at all."""

import concurrent.futures
import json
import random
import re
import resource
import urllib.parse

import pytest

import raw
from serving import until
from stored import error_of, path_of, put, walk

ULID = "[0-9A-HJKMNP-TV-Z]{26}"


# ---- Writing and reading ----

def test_what_is_written_is_read(tiny, name):
    document = {"id": "a", "text": "Größe von London 😀 \0 \x01\u2028", "metadata": {
        "year": 1990, "ratio": 0.1, "large": 9007199254740993, "tags": ["x", None, True],
        "deep": {"ä": "\"\\\n\0"}}}
    assert put(tiny, document, name) == ["a"]
    assert tiny.get(path_of("a", name)).json == document
    assert put(tiny, {"id": "a", "text": "Another."}, name) == ["a"]
    assert tiny.get(path_of("a", name)).json == {"id": "a", "text": "Another.", "metadata": {}}
    assert len(walk(tiny, name)) == 1


def test_without_a_collection_it_is_the_default_one(serve, tiny_model):
    server = serve(tiny_model)
    assert server.get("/documents").json == {"documents": [], "cursor": None}
    assert server.post("/documents/delete", {"ids": ["a"]}).json == {"deleted": 0}
    error_of(server.get("/documents/a"), 404)
    put(server, {"id": "a", "text": "One."})
    assert server.get("/collections/default/documents/a").json["text"] == "One."
    assert [c["name"] for c in server.get("/collections").json["collections"]] == ["default"]


@pytest.mark.parametrize("document_id", [
    "a/b", "../../etc/passwd", "a?b&c=d#e", "100%", "%2F", "ä 中 😀", " ", "+", "delete", "a\\b\"",
    "x" * 512])
def test_ids_of_every_kind(tiny, name, document_id):
    assert put(tiny, [{"id": document_id, "text": "One."}], name) == [document_id]
    assert tiny.get(path_of(document_id, name)).json["id"] == document_id
    assert [document["id"] for document in walk(tiny, name)] == [document_id]
    assert tiny.call("DELETE", path_of(document_id, name), {}).json == {"deleted": 1}
    error_of(tiny.get(path_of(document_id, name)), 404)


def test_ids_that_are_made_sort_by_time(tiny, name):
    made = put(tiny, [{"text": f"{i}"} for i in range(100)], name) + put(
        tiny, {"text": "later", "id": None}, name)
    assert all(re.fullmatch(ULID, one) for one in made)
    assert made == sorted(set(made))
    assert [document["text"] for document in walk(tiny, name)] == [
        *map(str, range(100)), "later"]


def test_of_two_with_one_id_the_later_stays(tiny, name):
    assert put(tiny, [{"id": "a", "text": "1"}, {"id": "b", "text": "2"},
                      {"id": "a", "text": "3"}], name) == ["a", "b", "a"]
    assert [(d["id"], d["text"]) for d in walk(tiny, name)] == [("a", "3"), ("b", "2")]


def test_large_lists_and_large_texts(tiny, name):
    """Read in a pool thread, and answered in pages."""
    texts = [f"{i} " + "word " * 20 for i in range(2048)]
    ids = put(tiny, [{"text": text, "metadata": {"i": i}} for i, text in enumerate(texts)], name)
    documents = walk(tiny, name, limit=1000)
    assert [d["id"] for d in documents] == ids
    assert [d["text"] for d in documents] == texts
    large = "x" * 2 ** 20
    put(tiny, [{"id": f"00{i:02}", "text": large} for i in range(12)], name)
    page = tiny.get(f"/collections/{name}/documents?limit=1000").json
    assert len(page["documents"]) < 12, "a page is bounded"
    assert len(walk(tiny, name, limit=1000)) == 2060
    assert tiny.get(path_of("0007", name)).json["text"] == large


# ---- What is refused ----

@pytest.mark.parametrize("bad, said", [
    ({"id": "x"}, '"text" must be a string'), ({"text": 5}, "not a number"),
    ({"text": None}, '"text"'), ({"text": ""}, "text"), ({"text": "a", "id": 7}, '"id"'),
    ({"text": "a", "id": ""}, "id"), ({"text": "a", "id": "a\nb"}, "control"),
    ({"text": "a", "id": "a\0b"}, "NUL"), ({"text": "a", "id": "x" * 513}, "512"),
    ({"text": "a", "metadata": []}, "metadata"), ({"text": "a", "metadata": "{}"}, "metadata"),
    ({"text": "a", "meta": {}}, '"meta"'), ("text", "object"), (None, "object"),
    ({"text": "x" * (2 ** 20 + 1)}, "1048576"),
    ({"text": "a", "metadata": {"a": "x" * 70000}}, "metadata")])
def test_one_bad_document_refuses_all_and_is_named(tiny, name, bad, said):
    error = error_of(tiny.post(f"/collections/{name}/documents",
                               [{"id": "good", "text": "a"}, bad, {"text": "b"}]), 400)
    assert error["message"].startswith("documents[1]: ") and said in error["message"], error
    error_of(tiny.get(f"/collections/{name}"), 404)


def test_bad_bodies(tiny):
    for body in (b"", b"{", b"[", b"5", b'"a"', b"null", b"[[]]", b'{"text": "\xff"}',
                 b'{"text": "\\ud800"}', b'[{"text": "a"},]', b'{"text": "a", "text": "b"}'):
        error_of(tiny.post("/documents", body), 400)
    assert error_of(tiny.post("/documents", []), 400)["code"] == "empty"
    error = error_of(tiny.post("/documents", [{"text": "a"}] * 2049), 400)
    assert "2048" in error["message"]
    deep = '{"text": "a", "metadata": ' + '{"a":' * 70 + "1" + "}" * 71
    error_of(tiny.post("/documents", deep), 400)


def test_names_of_collections(tiny):
    for name in ("a b", "x" * 65, "ä", "a%00b", "a%0Ab"):
        quoted = name if "%" in name else urllib.parse.quote(name)
        error_of(tiny.post(f"/collections/{quoted}/documents", {"text": "a"}), 400)
    for name in ("x" * 64, "A.b_c-9", "..."):
        put(tiny, {"text": "a"}, name)
        assert tiny.call("DELETE", f"/collections/{name}", {}).json == {"deleted": 1}
    for path in ("/collections/", "/collections//documents", "/collections/a/b",
                 "/collections/a/documents/delete/x/", "/collections/a/b/documents"):
        error_of(tiny.post(path), 405 if path.endswith("x/") else 404)


def test_bad_parameters(tiny):
    for query in ("limit=0", "limit=1001", "limit=x", "limit=", "with_text=1", "with_metadata=",
                  "filter=x", "filter=[]", "filter=%7B%22a%22:%7B%22$no%22:1%7D%7D", "cursor=!"):
        put(tiny, {"id": "a", "text": "a"})
        error_of(tiny.get(f"/documents?{query}"), 400)


def test_what_changes_something_wants_json(tiny, name):
    plain = {"Content-Type": "text/plain"}
    put(tiny, {"id": "a", "text": "a"}, name)
    for method, path in (("POST", "/documents"), ("POST", "/documents/delete"),
                         ("DELETE", "/documents/a"), ("DELETE", "")):
        answer = tiny.call(method, f"/collections/{name}{path}", '{"text": "a"}', plain)
        error_of(answer, 415)
    assert len(walk(tiny, name)) == 1
    answer = tiny.call("PUT", f"/collections/{name}/documents/a", "{}")
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, DELETE"


# ---- Lists, filters, deletes ----

def test_pages_have_each_document_once(tiny, name):
    ids = sorted(f"{i:04}" for i in random.Random(1).sample(range(10000), 257))
    put(tiny, [{"id": one, "text": one} for one in random.Random(2).sample(ids, len(ids))], name)
    for limit in (1, 7, 256, 257, 258, 1000):
        assert [d["id"] for d in walk(tiny, name, limit=limit)] == ids
    first = tiny.get(f"/collections/{name}/documents?limit=100").json
    tiny.post(f"/collections/{name}/documents/delete", {"ids": ids[:100] + ids[110:120]})
    put(tiny, {"id": "0000a", "text": "before"}, name)
    rest = tiny.get(f"/collections/{name}/documents?limit=1000&cursor={first['cursor']}").json
    assert [d["id"] for d in rest["documents"]] == ids[100:110] + ids[120:]


def test_parts_and_filters_of_a_list(tiny, name):
    put(tiny, [{"id": f"{i}", "text": f"t{i}", "metadata": {"i": i, "odd": bool(i % 2)}}
               for i in range(10)], name)
    assert walk(tiny, name, with_text="false", limit=3)[1] == {
        "id": "1", "metadata": {"i": 1, "odd": True}}
    assert walk(tiny, name, with_text="false", with_metadata="false")[2] == {"id": "2"}
    found = walk(tiny, name, limit=2, filter=json.dumps({"odd": True, "i": {"$gt": 3}}))
    assert [d["id"] for d in found] == ["5", "7", "9"]


def test_deletes(tiny, name):
    put(tiny, [{"id": f"{i}", "text": "t", "metadata": {"i": i}} for i in range(2000)], name)
    path = f"/collections/{name}/documents/delete"
    assert tiny.post(path, {"ids": ["1", "2", "1", "none"]}).json == {"deleted": 2}
    assert tiny.post(path, {"ids": []}).json == {"deleted": 0}
    assert tiny.post(path, {"filter": {"i": {"$lt": 1600}}}).json == {"deleted": 1598}
    assert tiny.post(path, {"filter": {"i": {"$lt": 1600}}}).json == {"deleted": 0}
    assert sorted(int(d["id"]) for d in walk(tiny, name, limit=1000)) == list(range(1600, 2000))
    assert tiny.get(f"/collections/{name}").json["documents"] == 400
    for body in ({}, {"ids": ["a"], "filter": {}}, {"ids": "a"}, {"ids": [1]}, {"filter": []},
                 {"filter": {"a": {"$no": 1}}}, {"ids": ["a\0b"]}):
        error_of(tiny.post(path, body), 400)
    error_of(tiny.post("/collections/none/documents/delete", {"ids": ["a"]}), 404)
    assert tiny.post(path, {"filter": {}}).json == {"deleted": 400}


# ---- Collections ----

def test_collections_say_what_they_have(tiny, name):
    put(tiny, [{"text": "12345"}, {"text": "äö"}], name)
    shown = tiny.get(f"/collections/{name}").json
    assert (shown["name"], shown["slot"], shown["documents"], shown["text_bytes"]) == (
        name, "tiny", 2, 9)
    assert shown["created_at"] > 1.7e9
    listed = [c for c in tiny.get("/collections").json["collections"] if c["name"] == name]
    assert listed == [{key: shown[key] for key in listed[0]}]
    put(tiny, {"text": "other"}, name + "b")
    assert tiny.call("DELETE", f"/collections/{name}", {}).json == {"deleted": 2}
    for answer in (tiny.get(f"/collections/{name}"), tiny.get(f"/collections/{name}/documents"),
                   tiny.call("DELETE", f"/collections/{name}", {})):
        error_of(answer, 404)
    assert len(walk(tiny, name + "b")) == 1
    put(tiny, {"text": "again"}, name)
    assert tiny.get(f"/collections/{name}").json["documents"] == 1


def test_a_collection_belongs_to_the_model_of_its_first_document(serve, tiny_model):
    server = serve(f"one={tiny_model}", f"two={tiny_model}")
    two = {"x-moult-model": "two"}
    put(server, {"id": "a", "text": "a"}, "first")
    put(server, {"id": "a", "text": "a"}, "second", headers=two)
    slots = {c["name"]: c["slot"] for c in server.get("/collections").json["collections"]}
    assert slots == {"first": "one", "second": "two"}
    put(server, {"id": "b", "text": "b"}, "second")
    error = error_of(server.post("/collections/first/documents", {"text": "c"}, headers=two), 409)
    assert "one" in error["message"] and "two" in error["message"]
    assert len(walk(server, "first")) == 1 and len(walk(server, "second")) == 2
    none = {"x-moult-model": "none"}
    error_of(server.post("/collections/third/documents", {"text": "c"}, headers=none), 404)
    error_of(server.get("/collections/third"), 404)


# ---- Life ----

def test_documents_outlive_the_server(serve, tiny_model, tmp_path):
    server = serve(tiny_model, data=tmp_path / "kept")
    documents = [{"id": f"{i}", "text": f"text {i}", "metadata": {"i": i}} for i in range(300)]
    put(server, documents)
    server.kill()
    server.start()
    put(server, {"id": "0", "text": "text 0", "metadata": {"i": 0}})
    assert sorted(walk(server), key=lambda d: int(d["id"])) == documents


def test_without_a_store_there_are_no_documents(serve, tiny_model, tmp_path):
    server = serve(tiny_model, options=["--store", "none"], data=tmp_path / "none")
    for method, path in (("POST", "/documents"), ("GET", "/documents"), ("GET", "/documents/a"),
                         ("GET", "/collections"), ("DELETE", "/collections/a"),
                         ("POST", "/collections/a/documents/delete")):
        body = None if method == "GET" else {"text": "a"}
        assert "--store none" in error_of(server.call(method, path, body), 404)["message"]
    assert server.embed("a").status == 200
    assert not list((tmp_path / "none").glob("documents*"))


def test_writers_side_by_side(tiny, name):
    """Group commit: each has its own answer, and all of it is there."""
    def write(i):
        return put(tiny, [{"id": f"{i}-{j}", "text": f"{i} {j}"} for j in range(5)], name)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        written = list(pool.map(write, range(200)))
    assert sorted(sum(written, [])) == sorted(d["id"] for d in walk(tiny, name, limit=1000))


def test_clients_that_go_leave_nothing_behind(serve, tiny_model):
    server = serve(tiny_model)
    put(server, {"id": "first", "text": "a"})
    before = server.descriptors()
    body = json.dumps([{"id": f"{i}", "text": "some words " * 20} for i in range(500)])
    for request in (raw.post("/documents", body), raw.get("/documents?limit=1000"),
                    raw.post("/documents/delete", '{"filter": {"a": 1}}')):
        for _ in range(20):
            with raw.dial(server) as connection:
                connection.sendall(request)
    until("all connections to go", lambda: server.descriptors() <= before)
    until("what they had written to be embedded", lambda: server.post(
        "/documents", {"id": "last", "text": "a"}).status == 200)
    ids = {d["id"] for d in walk(server, limit=1000)}
    assert {"first", "last"} <= ids, "a request is done as a whole or not at all"
    assert len(ids) in (2, 502)


def test_a_full_disk_refuses_what_does_not_fit_and_is_over_one_day(serve, tiny_model):
    server = serve(tiny_model)
    put(server, [{"id": f"{i}", "text": "word " * 100} for i in range(100)])
    limit = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    sizes = [path.stat().st_size for path in server.data.glob("documents.db*")]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (max(sizes), limit[1]))
    large = [{"id": f"new{i}", "text": "x" * 6000} for i in range(500)]
    error = error_of(server.post("/documents", large), 507)
    assert error["code"] == "insufficient_storage" and "documents.db" in error["message"]
    assert len(walk(server, limit=1000)) == 100, "and reading goes on"
    assert server.embed("a").status == 200 and server.get("/health").status == 200
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limit)
    put(server, large)
    assert len(walk(server, limit=1000)) == 600


@pytest.mark.parametrize("content, said", [
    (b"This is a letter, and long enough to be told from an empty file. " * 20, "documents.db"),
    (b"", "empty")])
def test_a_file_that_is_no_store_is_left_alone(serve, tiny_model, tmp_path, content, said):
    data = tmp_path / "data"
    data.mkdir()
    (data / "documents.db").write_bytes(content)
    server = serve(tiny_model, data=data, ready=False)
    assert server.wait() == 1
    assert said in server.log()
    assert (data / "documents.db").read_bytes() == content


def test_models_in_headers_may_be_exact(tiny, name):
    exact = {"x-moult-model": f"tiny@{tiny.fingerprint()[:8]}"}
    put(tiny, {"text": "a"}, name, headers=exact)
    wrong = {"x-moult-model": "tiny@00000000"}
    error_of(tiny.post(f"/collections/{name}/documents", {"text": "a"}, headers=wrong), 404)
