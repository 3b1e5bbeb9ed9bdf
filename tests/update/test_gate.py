"""The gate: a person's own queries asked of the old and of the new model (--gate), what --gate-min
refuses, and searches that would find nothing at the min_score that clients used."""

import json
import subprocess

import pytest

import models
import ranking
from fixtures import FAULTS, moult
from loading import assert_clean
from receiver import SECRET, Receiver
from serving import until

ALLOW = "--allow-model-from"
DOCUMENTS = {f"d{i:03}": text for i, text in enumerate(models.texts(150, seed=11))}
QUERIES = models.texts(23, seed=12)


def put(server, documents=None, path="/documents"):
    documents = DOCUMENTS if documents is None else documents
    answer = server.post(path, [{"id": name, "text": text} for name, text in documents.items()])
    assert answer.status == 200, answer


def search(server, query, k=10, **more):
    answer = server.post("/search", {"query": query, "k": k, **more})
    assert answer.status == 200, answer
    return [hit["id"] for hit in answer.json["results"]]


def rankings(server):
    return [search(server, query) for query in QUERIES]


def write_gate(path, queries):
    path.write_text("".join(json.dumps(query) + "\n" for query in queries))
    return path


def judgements():
    """Each query wants some documents, every other with gains."""
    names = sorted(DOCUMENTS)
    for i, query in enumerate(QUERIES):
        wanted = names[i::7]
        if i % 2:
            wanted = {name: 1 + at % 3 for at, name in enumerate(wanted)}
        yield {"query": query, "relevant": wanted}


@pytest.fixture
def gated(serve, tiny, tmp_path):
    """A server with documents and a gate of those queries."""
    def start(queries, *options, model="a", serve_it=serve, store=True):
        gate = write_gate(tmp_path / "gate.jsonl", queries)
        server = serve_it(tiny[model], options=[ALLOW, tiny.place, "--gate", gate, *options])
        if store:
            put(server)
        return server
    return start


@pytest.fixture
def found(serve, tiny):
    """What each model finds: {letter: rankings}, from a server of its own."""
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    put(server)
    result = {"a": rankings(server)}
    server.updated(tiny["b"])
    result["b"] = rankings(server)
    server.stop()
    return result


def wanted_by(found, letter):
    """The gate of somebody who wants exactly what that model finds."""
    return [{"query": query, "relevant": ids}
            for query, ids in zip(QUERIES, found[letter], strict=True)]


def close(figure, expected):
    return abs(figure - expected) <= 0.0001


def test_its_figures_are_those_of_searches(gated, tiny):
    queries = list(judgements())
    server = gated(queries)
    old = rankings(server)
    answer = server.update(tiny["b"]).json
    new = rankings(server)
    gate = answer["report"]["gate"]
    each = [(ranking.ndcg(before, query["relevant"]), ranking.ndcg(after, query["relevant"]))
            for before, after, query in zip(old, new, queries, strict=True)]
    assert old != new and answer["status"] == "live"
    assert close(gate["ndcg"]["old"], ranking.mean(before for before, _ in each)), gate
    assert close(gate["ndcg"]["new"], ranking.mean(after for _, after in each)), gate
    assert gate["better"] == sum(after > before + 1e-9 for before, after in each)
    assert gate["worse"] == sum(after < before - 1e-9 for before, after in each)
    assert gate["queries"] == len(QUERIES) and gate["missing"] == 0 and not gate["cut_short"]
    assert gate["documents"] == sum(len(query["relevant"]) for query in queries)
    assert "least" not in gate


def test_worse_than_the_limit_is_refused(gated, tiny, found):
    server = gated(wanted_by(found, "a"), "--gate-min", "-2%")
    answer = server.update(tiny["b"])
    assert answer.status == 422 and answer.json["status"] == "refused", answer
    gate = answer.json["report"]["gate"]
    assert gate["ndcg"]["old"] == 1 and gate["ndcg"]["new"] < 0.9 and gate["least"] == 0.98
    assert f"{gate['ndcg']['new']:.4f}" in answer.json["reason"]
    assert "0.9800" in answer.json["reason"] and "1.0000" in answer.json["reason"]
    assert rankings(server) == found["a"]
    assert server.slot()["history"][-1]["report"]["gate"] == gate
    until("one worker", lambda: len(server.workers()) == 1)
    assert server.update(tiny["a"], force=True).json["status"] == "live", "equal is not worse"


def test_better_goes_through(gated, tiny, found):
    server = gated(wanted_by(found, "b"), "--gate-min", "+5%")
    gate = server.update(tiny["b"]).json["report"]["gate"]
    assert gate["ndcg"]["new"] == 1 and gate["ndcg"]["old"] < 0.9 and gate["worse"] == 0
    assert rankings(server) == found["b"]


@pytest.mark.parametrize("least, status", [("0.999", "live"), ("0.0001", "live")])
def test_an_absolute_limit_is_passed(gated, tiny, found, least, status):
    server = gated(wanted_by(found, "b"), "--gate-min", least)
    assert server.update(tiny["b"]).json["status"] == status


def test_an_absolute_limit_refuses(gated, tiny, found):
    server = gated(wanted_by(found, "a"), "--gate-min", "0.999")
    assert server.update(tiny["b"]).json["status"] == "refused"


def test_a_rollback_is_not_asked(gated, tiny, found):
    server = gated(wanted_by(found, "b"), "--gate-min", "-2%")
    server.updated(tiny["b"])
    answer = server.post("/rollback", {"wait": True}).json
    assert answer["status"] == "live" and "report" not in answer


def test_documents_that_are_not_there(gated, tiny):
    queries = [{"query": QUERIES[0], "relevant": ["d000", "d001", "nobody", "nothing"]}]
    server = gated(queries)
    report = server.update(tiny["b"]).json["report"]
    assert (report["gate"]["documents"], report["gate"]["missing"]) == (4, 2)
    assert "2 are not stored" in report["summary"]


def test_nothing_stored_judges_nothing(gated, tiny):
    server = gated([{"query": "x", "relevant": ["d000"]}], "--gate-min", "0.9", store=False)
    answer = server.update(tiny["b"]).json
    assert answer["status"] == "live"
    put(server, {"other": "some other text"})
    assert server.update(tiny["c"]).json["status"] == "live"
    assert server.log().count("the gate could judge nothing") >= 1


def test_collections_are_asked_by_name(gated, tiny):
    queries = [{"query": QUERIES[0], "relevant": ["x"], "collection": "books"},
               {"query": QUERIES[1], "relevant": ["y"], "collection": "books"},
               {"query": QUERIES[2], "relevant": ["z"], "collection": "nowhere"}]
    server = gated(queries)
    put(server, {"x": QUERIES[0], "y": QUERIES[1], "w": "else"}, "/collections/books/documents")
    gate = server.update(tiny["b"]).json["report"]["gate"]
    assert gate["queries"] == 2 and gate["documents"] == 2
    assert gate["ndcg"] == {"old": 1.0, "new": 1.0}


def test_searches_that_find_nothing(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    put(server)
    scores = {query: server.post("/search", {"query": query, "k": 1}).json["results"][0]["score"]
              for query in QUERIES}
    for i, query in enumerate(QUERIES):
        least = scores[query] + (0.01 if i % 3 == 0 else -0.01)
        assert (search(server, query, min_score=least) == []) == (i % 3 == 0)
        scores[query] = least
    search(server, "without a threshold")
    report = server.update(tiny["b"]).json["report"]
    expected = sum(not search(server, query, min_score=least) for query, least in scores.items())
    assert report["unmatched"] == {"searches": len(QUERIES), "old": len(QUERIES[::3]),
                                   "new": expected}
    assert f"{expected} find nothing" in report["summary"] and "gate" not in report


def test_people_and_hooks_see_it(gated, tiny, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with Receiver() as receiver:
        server = gated(list(judgements()), "--hook-url", receiver.url, "--hook-secret-file",
                       secret, "--report", "0")
        answer = server.update(tiny["b"], cutover="manual").json
        assert answer["status"] == "ready"
        report = answer["report"]
        assert report["texts"] == 0 and report["summary"].startswith("Of 23 queries of the gate")
        assert server.slot()["update"]["report"] == report
        server.post(f"/update_model/{answer['id']}/cutover", {"wait": True})
        assert receiver.wait_for("update.live", 2).data["report"] == report
    server.stop()
    server.start()
    assert server.get(f"/update_model/{answer['id']}").json["report"] == report
    shown = moult("status", answer["id"], "--url", f"http://127.0.0.1:{server.port}").stdout
    assert f"gate: nDCG@10 {report['gate']['ndcg']['old']:.4f} before".encode() in shown, shown


@pytest.mark.parametrize("lines, options, said", [
    (None, [], "No such file"),
    ("", [], "no query"),
    ('{"query": "x", "relevant": ["a"]}\n{"query": "x"}\n', [], "Line 2: \"relevant\" is missing"),
    ('{"query": "x", "relevant": ["a"]}\n', ["--gate-min", "40"], "--gate-min is an nDCG"),
    ('{"query": "x", "relevant": ["a"]}\n', ["--gate-min", "0.4", "--swap", "wait"],
     "exclude each other"),
])
def test_what_is_wrong_is_said_at_the_start(tiny, tmp_path, lines, options, said):
    gate = tmp_path / "gate.jsonl"
    if lines is not None:
        gate.write_text(lines)
    done = moult("serve", tiny["a"], "--data", tmp_path / "data", "--gate", gate,
                 *options)
    assert done.returncode in (1, 2) and said in done.stderr.decode(), done.stderr


def test_a_limit_needs_a_gate(serve, tiny, tmp_path):
    done = moult("serve", tiny["a"], "--data", tmp_path / "data", "--gate-min", "0.4")
    assert done.returncode == 2 and b"--gate-min needs --gate" in done.stderr


def test_swapping_in_place_cannot_be_judged(gated, tiny):
    server = gated([{"query": "x", "relevant": ["d000"]}], "--gate-min", "0.1")
    answer = server.update(tiny["b"], swap="wait")
    assert answer.status == 400 and "--gate-min" in answer.json["error"]["message"]


# ---- What happens meanwhile ----

def slow_queries(milliseconds, count=40):
    return [{"query": f"\x01moult-fault:sleep:{milliseconds} {i}", "relevant": ["d000"]}
            for i in range(count)]


def on_trial(server):
    return until("a trial", lambda: (server.slot()["update"] or {}).get("phase") == "on trial"
                 and server.slot()["update"])


@pytest.fixture
def slow(gated, serve, faults):
    """A server whose gate takes its time. Its watchdog has that, too: documents are embedded by
    threads that run last on a busy machine."""
    def patient(*folders, **more):
        return serve(*folders, binary=FAULTS,
                     environment=dict(faults.environment, MOULT_FAULTS_WATCHDOG_S="30"), **more)

    def start(milliseconds, *options):
        return gated(slow_queries(milliseconds), "--threads", "1", *options, serve_it=patient)
    return start


def test_cancelled_and_superseded_meanwhile(slow, tiny):
    server = slow(50)
    update = server.update(tiny["b"], wait=False).json["id"]
    on_trial(server)
    server.call("DELETE", f"/update_model/{update}")
    assert server.wait_for_end(update)["status"] == "cancelled"
    update = server.update(tiny["b"], wait=False).json["id"]
    on_trial(server)
    assert server.update(tiny["c"]).json["status"] == "live"
    assert server.wait_for_end(update)["status"] == "superseded"
    server.update(tiny["a"], wait=False)
    on_trial(server)
    assert server.stop() == 0


def test_a_person_need_not_wait_for_it(slow, tiny):
    server = slow(100)
    update = server.update(tiny["b"], cutover="manual", wait=False).json["id"]
    on_trial(server)
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).json["status"] == "live"
    gate = server.get(f"/update_model/{update}").json["report"].get("gate")
    assert gate is None or (gate["cut_short"] and gate["queries"] < 40)


def test_but_a_limit_has_to_be_seen(slow, tiny):
    server = slow(10, "--gate-min", "0%")
    update = server.update(tiny["b"], cutover="manual", wait=False).json["id"]
    on_trial(server)
    server.post(f"/update_model/{update}/cutover", {"wait": True})
    assert server.get(f"/update_model/{update}").json["report"]["gate"]["queries"] == 40


@pytest.mark.parametrize("victim", ["candidate", "serving"])
def test_a_worker_that_dies_meanwhile(slow, tiny, victim):
    server = slow(20)
    serving = server.worker()
    update = server.update(tiny["b"], wait=False).json["id"]
    on_trial(server)
    candidate, = set(server.workers()) - {serving}
    subprocess.run(["kill", "-9", str(candidate if victim == "candidate" else serving)],
                   check=True)
    assert server.wait_for_end(update)["status"] == "live"
    assert server.get(f"/update_model/{update}").json["report"]["gate"]["queries"] == 40
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_documents_that_change_meanwhile(gated, tiny):
    server = gated(list(judgements()))
    update = server.update(tiny["b"], wait=False).json["id"]
    changes = 0
    while server.get(f"/update_model/{update}").json["status"] == "running":
        put(server, {name: f"{text} {changes}" for name, text in list(DOCUMENTS.items())[:5]})
        changes += 1
    gate = server.wait_for_end(update)["report"]["gate"]
    assert gate["queries"] == len(QUERIES) and gate["missing"] == 0 and changes > 0


def test_under_load(gated, tiny):
    server = gated(list(judgements()), "--keep-warm", "0", "--gate-min", "0")
    with tiny.load(server) as load:
        load.wait_for_answers(1000)
        gates = [server.update(tiny[letter]).json["report"]["gate"] for letter in "bcabca"]
        result = load.stop()
    assert all(gate["queries"] == len(QUERIES) for gate in gates)
    assert gates[:3] == gates[3:], "the same models give the same figures"
    assert_clean(result)


def test_many_trials_leave_nothing(gated, tiny):
    server = gated(list(judgements()))
    for letter in "bcbc":
        server.updated(tiny[letter])
    before = server.descriptors()
    for i in range(10):
        assert "gate" in server.update(tiny["ab"[i % 2]]).json["report"]
    assert server.descriptors() <= before + 8
