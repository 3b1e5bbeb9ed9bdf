"""The question's own endpoints. What updates do is tested in tests/update; here, what they say."""

import json

import pytest

import models
import raw

JSON = {"Content-Type": "application/json"}


def error_of(answer, status):
    assert answer.status == status, answer
    assert answer.json.keys() == {"error"}
    assert answer.json["error"].keys() == {"code", "message"}
    assert answer.json["error"]["message"].endswith(".")
    return answer.json["error"]


def test_the_question(real):
    answer = real.get("/?q=How+big%20is%20London%3F&k=5")
    assert answer.status == 200
    said = answer.json
    assert said["status"] == "ok" and said["query"] == "How big is London?"
    assert said["model"] == {"name": "minilm", "generation": real.generation(),
                             "fingerprint": real.fingerprint()}
    assert said["results"] == []
    assert said["timing"].keys() == {"queue_ms", "model_ms", "search_ms", "total_ms"}
    assert said["timing"]["model_ms"] > 0, "the text was embedded"
    assert answer.headers["x-moult-generation"] == str(real.generation())
    assert answer.headers["x-moult-truncated"] == "0"


@pytest.mark.parametrize("q, text", [
    ("%E4%B8%AD%E6%96%87", "中文"), ("a%00b", "a\0b"), ("%F0%9F%98%80", "😀"), ("a%2Bb", "a+b"),
    ("%22%5C%0A", "\"\\\n"), ("a%26b", "a&b"), ("100%25", "100%")])
def test_every_character_comes_back(tiny, q, text):
    assert tiny.get(f"/?q={q}").json["query"] == text


def test_a_long_query_comes_back_whole(tiny):
    text = "\x7f" * 11500   # Six bytes of JSON for each.
    with raw.dial(tiny) as connection:
        connection.sendall(raw.get("/?q=" + text))
        reply = raw.hear(connection)
    assert reply.status == 200 and json.loads(reply.body)["query"] == text


def test_bad_queries(tiny):
    error_of(tiny.get("/?q="), 400)
    error_of(tiny.get("/?q"), 400)
    error_of(tiny.get("/?q=%FF"), 400)
    error_of(tiny.get("/?q=%ED%A0%80"), 400)
    error_of(tiny.get("/?q=a&k=x"), 400)
    error_of(tiny.get("/?q=a&k=-1"), 400)
    assert tiny.get("/?q=" + "a" * 10000).status == 200
    assert tiny.get("/?q=" + "a" * 13000).status in (400, 414, 431)


def test_without_q_nothing_is_computed(tiny):
    answer = tiny.get("/")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    assert f"tiny@{tiny.fingerprint()[:8]}" in answer.body.decode()
    assert "x-moult-generation" not in answer.headers
    assert tiny.call("HEAD", "/").status == 200


def test_unknown_paths_and_methods(tiny):
    for path in ("/nowhere", "/embed/", "/update_model/", "/update_model/x", "/update_model/77",
                 "/update_model/1/cutover", "/%2e%2e/etc/passwd", "//"):
        error_of(tiny.get(path), 404)
    answer = tiny.call("PUT", "/update_model", body="{}")
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert tiny.call("DELETE", "/rollback").status == 405
    assert tiny.call("GET", "/rollback").status == 405
    assert tiny.call("BREW", "/").status == 405


def test_slots_are_told(tiny):
    answer = tiny.get("/update_model")
    assert answer.status == 200
    slot, = answer.json["slots"]
    assert slot["name"] == "tiny" and slot["generation"] == tiny.generation()
    assert len(slot["fingerprint"]) == 64 and slot["update"] is None
    assert slot["source"].endswith("/tiny")


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    """A server whose model the tests change, and the folder of another one."""
    from serving import Server
    place = tmp_path_factory.mktemp("changing")
    first = models.make_tiny(place / "first" / "tiny")
    second = models.make_tiny(place / "second" / "tiny", seed=2)
    with Server(place / "data", first, options=["--allow-model-from", place]) as server:
        server.first, server.second = first, second
        yield server


def test_an_update_is_started_and_asked_about(changing):
    answer = changing.update(changing.second, wait=False)
    assert answer.status == 202
    said = answer.json
    assert said["status"] == "running" and said["slot"] == "tiny" and said["id"] >= 1
    ended = changing.wait_for_end(said["id"])
    assert ended["status"] == "live" and ended["generation"] == changing.generation()


def test_an_update_is_waited_for(changing):
    before = changing.generation()
    answer = changing.update(changing.first)
    assert answer.status == 200
    assert answer.json["status"] == "live" and answer.json["generation"] > before
    assert changing.generation() == answer.json["generation"]
    again = changing.update(changing.first)
    assert again.status == 200 and again.json["status"] == "unchanged"


def test_a_broken_model_is_422_with_the_reason(changing, tmp_path):
    broken = models.make_broken(changing.first, changing.data.parent / "broken", "missing tensor")
    answer = changing.update(broken)
    assert answer.status == 422
    assert answer.json["status"] == "refused"
    assert "encoder.layer.1.attention.self.query.weight" in answer.json["reason"]


def test_places_that_are_not_allowed_are_403(changing, tmp_path):
    elsewhere = models.make_tiny(tmp_path / "tiny")
    for place in (elsewhere, "/etc", "../..", "https://models.example/x", "org/name"):
        error_of(changing.update(place), 403)


def test_rollback(changing):
    changing.updated(changing.second)
    before, fingerprint = changing.generation(), changing.fingerprint()
    answer = changing.post("/rollback", {"wait": True})
    assert answer.status == 200 and answer.json["status"] == "live"
    assert changing.generation() > before and changing.fingerprint() != fingerprint
    answer = changing.call("POST", "/rollback")
    assert answer.status == 202
    changing.wait_for_end(answer.json["id"])
    assert changing.fingerprint() == fingerprint


def test_rollback_without_a_previous_model_is_409(tiny):
    error_of(tiny.post("/rollback", {"wait": True}), 409)


@pytest.mark.parametrize("path", ["/update_model", "/rollback"])
def test_what_is_not_understood_is_refused(tiny, path):
    for body, status in (("{", 400), ("[]", 400), ('{"wait": 1}', 400), ('{"slot": "x"}', 404),
                         ('{"cutover": "later"}', 400), ('{"if_busy": "wait"}', 400),
                         ('{"wait": true, "wait": false}', 400)):
        error_of(tiny.call("POST", path, body, JSON), status)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        error_of(tiny.call("POST", path, "{}", {"Content-Type": kind}), 415)
    assert tiny.generation() == 1


@pytest.mark.parametrize("path", ["/update_model", "/rollback"])
def test_an_order_is_short(tiny, path):
    error_of(tiny.post(path, {"slot": "a" * 20000}), 413)


def test_cancelling(tiny):
    error_of(tiny.call("DELETE", "/update_model/99"), 404)
    error_of(tiny.call("DELETE", "/update_model/x"), 404)


def test_get_changes_nothing(tiny):
    before = tiny.slot()
    for path in ("/update_model?model=/etc", "/update_model/1", "/"):
        tiny.get(path)
    assert json.dumps(tiny.slot()) == json.dumps(before)
