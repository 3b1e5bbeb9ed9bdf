"""What an update changes: the report, against numpy, and what it must not cost or tell."""

import json
import subprocess
import threading

import numpy
import pytest

import models
from fixtures import moult
from loading import assert_clean
from receiver import SECRET, Receiver
from serving import until

ALLOW = "--allow-model-from"
TEXTS = models.texts(80, seed=3)


@pytest.fixture
def server(serve, tiny):
    return serve(tiny["a"], options=[ALLOW, tiny.place, "--report", "60"])


def ask(server, texts=TEXTS):
    for text in texts:
        assert server.embed(text).status == 200


def vectors(model, texts, place):
    source = place / "texts.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in texts))
    done = moult("embed", model, "--jsonl", "--input", source, "--output", place / "vectors.npy")
    assert done.returncode == 0, done.stderr
    rows = numpy.load(place / "vectors.npy").astype("f8")
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def nearest(rows):
    scores = rows @ rows.T
    numpy.fill_diagonal(scores, -9)
    return numpy.argsort(-scores, axis=1, kind="stable")[:, :10]


def test_the_figures_are_numpys(server, tiny, tmp_path):
    ask(server)
    answer = server.update(tiny["b"])
    report = answer.json["report"]
    texts = TEXTS[-60:]
    assert report["texts"] == 60 and not report["cut_short"] and report["seconds"] > 0
    old, new = vectors(tiny["a"], texts, tmp_path), vectors(tiny["b"], texts, tmp_path)
    same = [len(set(a) & set(b)) / 10 for a, b in zip(nearest(old), nearest(new))]
    above = numpy.triu_indices(60, 1)

    def close(figures, values):
        for key, figure in figures.items():
            expected = numpy.mean(values) if key == "mean" \
                else numpy.percentile(values, int(key[1:]))
            # Two vectors of one text differ in the last bits with the company that it has.
            assert abs(figure - expected) < 0.02, (key, figure, expected)
    close(report["overlap"], same)
    close(report["scores"]["old"], (old @ old.T)[above])
    close(report["scores"]["new"], (new @ new.T)[above])
    close(report["cosine"], (old * new).sum(1))
    assert f"{100 * report['overlap']['mean']:.0f} %" in report["summary"]


def test_it_is_kept_with_the_history(server, tiny):
    ask(server)
    answer = server.update(tiny["b"]).json
    one = server.get(f"/update_model/{answer['id']}").json
    assert one["report"] == answer["report"]
    assert server.slot()["history"][-1]["report"] == answer["report"]
    url = ("--url", f"http://127.0.0.1:{server.port}")
    shown = moult("status", answer["id"], *url)
    assert shown.returncode == 0, shown
    assert answer["report"]["summary"] in shown.stdout.decode()
    assert b"scores of pairs" in shown.stdout and b"same among nearest ten" in shown.stdout
    assert answer["report"]["summary"] in moult("status", *url).stdout.decode()
    assert moult("status", "12345", *url).returncode == 1
    assert moult("status", "x", *url).returncode == 2
    server.stop()
    server.start()
    assert server.get(f"/update_model/{answer['id']}").json["report"] == answer["report"]


def test_ten_reports_are_kept(server, tiny):
    for i in range(13):
        server.updated(tiny["ba"[i % 2]])
    assert sum("report" in event for event in server.slot()["history"]) == 10


def test_prompts_are_told_apart(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    for kind, texts in (("query", TEXTS[:20]), ("document", TEXTS[10:25]), (None, TEXTS[:10])):
        for text in texts:
            assert server.post("/embed", {"inputs": text, "prompt_name": kind}).status == 200
    report = server.update(tiny["b"]).json["report"]
    assert (report["texts"], report["queries"], report["documents"]) == (45, 20, 15)


def test_every_dialect_is_heard_and_imports_do_not_drown_others(server, tiny):
    ask(server, TEXTS[:10])
    server.get("/?q=alone")
    server.post("/v1/embeddings", {"input": models.texts(2000, seed=5)})
    server.post("/embed", {"inputs": ""})
    assert server.update(tiny["b"]).json["report"]["texts"] == 19


def test_few_texts_are_said_to_be_few(server, tiny):
    ask(server, TEXTS[:29])
    report = server.update(tiny["b"]).json["report"]
    assert report["texts"] == 29 and "29" in report["summary"] and "scores" not in report
    ask(server, TEXTS[29:30])
    assert "scores" in server.update(tiny["c"]).json["report"]


def test_where_there_is_none(serve, server, tiny):
    ask(server)
    assert "report" not in server.update(tiny["a"], force=True).json, "the same vectors"
    assert "report" in server.update(tiny["b"]).json
    assert "report" not in server.post("/rollback", {"wait": True}).json
    without = serve(tiny["a"], options=[ALLOW, tiny.place, "--report", "0"])
    ask(without)
    assert "report" not in without.update(tiny["b"]).json


def test_other_dimensions(server, tiny, tmp_path):
    other = models.make_tiny(tiny.place / "wide" / "tiny", 9, width=64)
    ask(server)
    report = server.update(other).json["report"]
    assert report["dimensions"] == {"old": 32, "new": 64}
    assert "overlap" in report and "cosine" not in report


def test_the_precision_is_told(serve, tiny):
    """Each model's own, as /info has it; the tables of the command line have it, too."""
    server = serve(tiny["a"], options=[ALLOW, tiny.place, "--precision", "int8"])
    ask(server, TEXTS[:30])
    answer = server.update(tiny["b"]).json
    assert answer["report"]["precision"] == {"old": "int8", "new": "int8"}
    assert "computes" not in answer["report"]["summary"]
    assert server.get("/info").json["precision"] == "int8"
    shown = moult("status", answer["id"], "--url", f"http://127.0.0.1:{server.port}")
    assert b"computed in int8 before, in int8 now" in shown.stdout
    few = serve(tiny["a"], options=[ALLOW, tiny.place, "--precision", "f32"])
    assert few.update(tiny["b"]).json["report"]["precision"] == {"old": "f32", "new": "f32"}


def test_a_person_sees_it_before_saying_when(server, tiny):
    ask(server)
    answer = server.update(tiny["b"], cutover="manual").json
    assert answer["status"] == "ready" and answer["report"]["texts"] == 60
    assert server.get(f"/update_model/{answer['id']}").json["report"] == answer["report"]
    assert server.slot()["update"]["report"] == answer["report"]


def test_hooks_tell_it(serve, tiny, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with Receiver() as receiver:
        server = serve(tiny["a"], options=[ALLOW, tiny.place, "--hook-url", receiver.url,
                                           "--hook-secret-file", secret])
        ask(server)
        answer = server.update(tiny["b"]).json
        assert receiver.wait_for("update.live", 2).data["report"] == answer["report"]


def test_texts_stay_in_memory(server, tiny):
    with Receiver(secret=None) as receiver:
        server.stop()
        server.options += ["--hook-url", receiver.url]
        server.start()
        ask(server, [f"very private words {text}" for text in TEXTS])
        answer = server.update(tiny["b"])
        assert answer.json["report"]["texts"] == 60
        receiver.wait_for("update.live")
        told = b"".join(attempt.body for attempt in receiver.attempts)
    said = [told, answer.body, server.log().encode(), server.get("/metrics").body,
            server.get("/update_model").body]
    said += [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    assert not any(b"private words" in part for part in said)


def slow(serve_with_faults, faults, tiny, milliseconds):
    """A server of which every text takes that long; it was asked forty."""
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place, "--threads", "1"])
    ask(server, [f"\x01moult-fault:sleep:{milliseconds} {text}" for text in TEXTS[:40]])
    return server


def comparing(server):
    return until("a comparison", lambda: (server.slot()["update"] or {}).get("phase")
                 == "comparing" and server.slot()["update"])


def test_it_ends_in_time_with_what_it_has(serve_with_faults, faults, tiny):
    report = slow(serve_with_faults, faults, tiny, 100).update(tiny["b"]).json["report"]
    assert report["cut_short"] and report["texts"] < 40


def test_a_person_need_not_wait_for_it(serve_with_faults, faults, tiny):
    server = slow(serve_with_faults, faults, tiny, 100)
    update = server.update(tiny["b"], cutover="manual", wait=False).json["id"]
    comparing(server)
    assert server.post(f"/update_model/{update}/cutover", {"wait": True}).json["status"] == "live"
    assert server.get(f"/update_model/{update}").json["report"]["cut_short"]


def test_cancelled_and_superseded_meanwhile(serve_with_faults, faults, tiny):
    server = slow(serve_with_faults, faults, tiny, 50)
    update = server.update(tiny["b"], wait=False).json["id"]
    comparing(server)
    server.call("DELETE", f"/update_model/{update}")
    assert server.wait_for_end(update)["status"] == "cancelled"
    update = server.update(tiny["b"], wait=False).json["id"]
    comparing(server)
    assert server.update(tiny["c"]).json["status"] == "live"
    assert server.wait_for_end(update)["status"] == "superseded"
    update = server.update(tiny["a"], wait=False).json["id"]
    comparing(server)
    assert server.stop() == 0


def test_a_candidate_that_dies_meanwhile_is_loaded_again(serve_with_faults, faults, tiny):
    server = slow(serve_with_faults, faults, tiny, 20)
    serving = server.workers()
    update = server.update(tiny["b"], wait=False).json["id"]
    comparing(server)
    candidate, = set(server.workers()) - set(serving)
    subprocess.run(["kill", "-9", str(candidate)], check=True)
    assert server.wait_for_end(update)["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_a_serving_worker_that_dies_meanwhile(serve_with_faults, faults, tiny):
    server = slow(serve_with_faults, faults, tiny, 20)
    serving = server.worker()
    update = server.update(tiny["b"], wait=False).json["id"]
    comparing(server)
    subprocess.run(["kill", "-9", str(serving)], check=True)
    assert server.embed("london").status == 200
    assert server.wait_for_end(update)["status"] == "live"


def test_under_load(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "0", ALLOW, tiny.place])
    with tiny.load(server) as load:
        load.wait_for_answers(1000)
        reports = [server.update(tiny[letter]).json["report"] for letter in "bcabca"]
        result = load.stop()
    assert all("scores" in report for report in reports), reports
    assert_clean(result)


def test_many_comparisons_leave_nothing(server, tiny):
    ask(server)
    for letter in "bcbc":
        server.updated(tiny[letter])
    before = server.descriptors()
    threads = [threading.Thread(target=ask, args=(server, TEXTS[:40])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(10):
        assert "scores" in server.update(tiny["ab"[i % 2]]).json["report"]
    for thread in threads:
        thread.join()
    assert server.descriptors() <= before + 8
