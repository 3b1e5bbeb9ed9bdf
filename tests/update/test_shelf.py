"""What stays installed stays callable: by name@fp8, on demand, for as long as is said or leased."""

import os
import signal
import threading
import time
from email.utils import parsedate_to_datetime

import pytest

from fixtures import moult, sleepy, tiny_models
from loading import assert_clean
from serving import until

ALLOW = "--allow-model-from"


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Six models of one shape."""
    return tiny_models("many", "abcdef", 21, tmp_path_factory)


def label(known, letter):
    return f"tiny@{known.fingerprints[letter][:8]}"


def vector_of(server, model=None):
    answer = server.embed("how big is london", model)
    assert answer.status == 200, answer
    headers = answer.headers
    return answer.json[0], headers["x-moult-fingerprint"], int(headers["x-moult-generation"])


def listed(server):
    return {entry["id"]: entry for entry in server.get("/v1/models").json["data"]}


def installed(server):
    return {entry.name for entry in (server.data / "models").iterdir()
            if not entry.name.startswith(".")}


def start(serve, many, *options, **more):
    return serve(many["a"], options=["--keep-warm", 0, ALLOW, many.place, *options], **more)


def patient(faults):
    """For a machine that is busy: nothing here is about the watchdog."""
    faults.environment["MOULT_FAULTS_WATCHDOG_S"] = "60"


def lease(server, model, ttl="1h"):
    answer = server.post("/leases", {"model": model, "ttl": ttl})
    assert answer.status == 201, answer
    return answer.json


# ---- Kept, and loaded on demand ----

def test_every_kept_model_is_loaded_when_it_is_called(serve, many):
    server = start(serve, many)
    answers = {"a": vector_of(server)}
    for letter in "bcde":
        server.updated(many[letter])
        answers[letter] = vector_of(server)
    assert len({str(answer[0]) for answer in answers.values()}) == 5
    for letter in "abcdeacebd":
        assert vector_of(server, label(many, letter)) == answers[letter]
        assert len(server.workers()) <= 3
    assert len(installed(server)) == 5
    # The same after a restart, without the source.
    server.stop()
    server.start()
    for letter in "badce":
        assert vector_of(server, label(many, letter)) == answers[letter]
        entry = listed(server)[label(many, letter)]
        assert entry["loaded"] and entry["dimensions"] == 32 and entry["retires_at"] is None


def test_what_is_not_kept_is_told_its_end_and_then_goes(serve, many):
    server = start(serve, many, "--keep", 1, "--retire-after", "2s")
    for letter in "bcd":
        server.updated(many[letter])
    # d serves, c is the previous one, b is kept, and a has its end.
    entry = listed(server)
    assert entry[label(many, "b")]["retires_at"] is None
    assert abs(entry[label(many, "a")]["retires_at"] - time.time()) < 30
    until("a to retire", lambda: label(many, "a") not in listed(server))
    answer = server.embed("london", label(many, "a"))
    assert answer.status == 404 and label(many, "b") in answer.body.decode()
    assert server.embed("london", label(many, "b")).status == 200
    until("its files to go", lambda: len(installed(server)) == 3)


def test_answers_of_a_replaced_model_say_so(serve, many):
    server = start(serve, many, "--keep", 0, "--retire-after", "1h")
    current = server.embed("london", label(many, "a")).headers
    assert "Deprecation" not in current and "Sunset" not in current
    server.updated(many["b"])
    previous = server.embed("london", label(many, "a")).headers
    assert abs(int(previous["Deprecation"].lstrip("@")) - time.time()) < 60
    assert "Sunset" not in previous
    server.updated(many["c"])
    last = server.embed("london", label(many, "a")).headers
    sunset = parsedate_to_datetime(last["Sunset"]).timestamp()
    assert sunset == listed(server)[label(many, "a")]["retires_at"]
    assert abs(sunset - time.time() - 3600) < 60


def test_those_who_come_together_are_answered_by_one_load(serve, many):
    server = start(serve, many)
    first = vector_of(server)
    for letter in "bc":
        server.updated(many[letter])
    until("one worker", lambda: len(server.workers()) == 1)
    answers = [None] * 12

    def ask(index):
        answers[index] = vector_of(server, label(many, "a"))

    callers = [threading.Thread(target=ask, args=(index,)) for index in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [first] * 12
    assert server.log().count("Loaded and checked " + many.fingerprints["a"][:8]) == 2


def test_those_who_wait_for_a_load_do_not_take_all_the_room(serve_with_faults, faults, many):
    patient(faults)
    server = start(serve_with_faults, many, "--max-waiting", 8)
    server.updated(many["b"])
    until("one worker", lambda: len(server.workers()) == 1)
    faults.set("loading", "sleep:700")
    statuses = []

    def ask():
        statuses.append(server.embed("london", label(many, "a")).status)

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    until("those beyond half of the room to be told", lambda: statuses.count(429) == 4)
    assert server.embed("london").status == 200
    for caller in callers:
        caller.join()
    assert sorted(statuses) == [200] * 4 + [429] * 4


def test_a_damaged_kept_model_is_refused_by_name_and_hurts_nobody(serve, many):
    server = start(serve, many)
    server.updated(many["b"])
    until("one worker", lambda: len(server.workers()) == 1)
    answer = server.get(f"/info?model={label(many, 'a')}")
    weights = server.data / "models" / answer.json["model_sha"] / "model.safetensors"
    bytes_ = bytearray(weights.read_bytes())
    bytes_[-5] ^= 0x40
    os.chmod(weights, 0o644)
    weights.write_bytes(bytes_)
    answer = server.embed("london", label(many, "a"))
    assert answer.status == 503 and "cannot be loaded" in answer.body.decode()
    assert answer.headers["Retry-After"]
    assert server.embed("london").status == 200
    assert server.get("/health").status == 200
    assert len(server.workers()) == 1


def test_a_worker_killed_while_it_loads_on_demand_is_loaded_again(serve_with_faults, faults, many):
    patient(faults)
    server = start(serve_with_faults, many)
    first = vector_of(server)
    server.updated(many["b"])
    until("one worker", lambda: len(server.workers()) == 1)
    current = server.worker()
    faults.set("loading", "sleep:1000")
    got = []
    caller = threading.Thread(target=lambda: got.append(vector_of(server, label(many, "a"))))
    caller.start()
    loading = until("the second worker", lambda: set(server.workers()) - {current}).pop()
    until("it to load", lambda: faults.reached("loading"))
    faults.set()
    os.kill(loading, signal.SIGKILL)
    caller.join()
    assert got == [first]


# ---- Room ----

def test_an_update_goes_through_between_those_who_call_old_models(serve, many):
    server = start(serve, many)
    for letter in "bc":
        server.updated(many[letter])
    with many.load(server, connections=2, model=label(many, "a")) as one, \
            many.load(server, connections=2, model=label(many, "b")) as other:
        one.wait_for_answers(50)
        other.wait_for_answers(50)
        assert len(server.workers()) == 3
        for letter in "de":
            server.updated(many[letter])
            assert len(server.workers()) <= 3
        one.wait_for_answers(50)
        other.wait_for_answers(50)
        results = [one.stop(), other.stop()]
    for result, generation in zip(results, ("1", "2")):
        assert_clean(result, least=100)
        assert list(result["generations"]) == [generation]


def test_three_old_models_take_turns(serve, many):
    server = start(serve, many)
    for letter in "bcd":
        server.updated(many[letter])
    loads = [many.load(server, connections=1, model=label(many, letter)) for letter in "abc"]
    try:
        for load in loads:
            load.wait_for_answers(20)
        free = many.load(server, connections=1)
        with free:
            free.wait_for_answers(50)
            assert_clean(free.stop())
        for load in loads:
            assert_clean(load.stop())
    finally:
        for load in loads:
            load.__exit__(None)


def test_a_lease_is_held_across_three_updates(serve, many):
    """Fault 8 and the second half of 21: an ingest job under name@fp8 ends as it began."""
    server = start(serve, many, "--keep", 0, "--retire-after", 0)
    held = lease(server, label(many, "a"))
    assert held["model"] == label(many, "a")
    with many.load(server, connections=3, model=label(many, "a")) as ingest, \
            many.load(server, connections=3) as free:
        ingest.wait_for_answers(30)
        for letter in "bcde":
            generation = server.updated(many[letter])
            free.tell(f"min-generation {generation}")
            free.wait_for_answers(20, generation=generation)
            ingest.wait_for_answers(20)
        result, others = ingest.stop(), free.stop()
    assert_clean(result, least=100)
    assert_clean(others, least=100)
    assert list(result["generations"]) == ["1"]
    entry = listed(server)
    assert entry[label(many, "a")]["retires_at"] is None
    assert label(many, "b") not in entry and label(many, "c") not in entry
    # Without the lease it has no place any more.
    assert server.call("DELETE", f"/leases/{held['id']}").json["id"] == held["id"]
    until("the model to go", lambda: server.embed("x", label(many, "a")).status == 404)
    until("its files to go", lambda: len(installed(server)) == 2)


# ---- Leases ----

def test_leases_survive_kill_and_restart(serve, many):
    server = start(serve, many, "--keep", 0, "--retire-after", 0)
    first = vector_of(server)
    held = lease(server, label(many, "a"), "20m")
    for letter in "bcd":
        server.updated(many[letter])
    server.kill()
    server.start()
    assert [entry["id"] for entry in server.get("/leases").json["leases"]] == [held["id"]]
    assert vector_of(server, label(many, "a")) == first
    assert server.embed("london", label(many, "b")).status == 404


def test_a_lease_ends_by_itself_and_can_be_renewed(serve, many):
    server = start(serve, many, "--keep", 0, "--retire-after", 0)
    short = lease(server, label(many, "a"), "1s")
    kept = lease(server, label(many, "a"), 60)
    for letter in "bc":
        server.updated(many[letter])
    until("the short lease to end", lambda: server.get(f"/leases/{short['id']}").status == 404)
    assert server.embed("london", label(many, "a")).status == 200
    renewed = server.post(f"/leases/{kept['id']}", {"ttl": "2h"})
    assert renewed.status == 200
    assert renewed.json["expires_at"] > kept["expires_at"] + 3600
    assert server.post(f"/leases/{kept['id']}", {"ttl": "1s"}).status == 200
    until("the model to go", lambda: server.embed("x", label(many, "a")).status == 404)
    assert server.get("/leases").json == {"leases": []}


def test_a_leased_worker_stays_warm(serve, many):
    server = serve(many["a"], options=["--keep-warm", "1s", ALLOW, many.place])
    held = lease(server, label(many, "a"))
    server.updated(many["b"])
    time.sleep(2)
    assert len(server.workers()) == 2
    server.call("DELETE", f"/leases/{held['id']}")
    until("the worker to go", lambda: len(server.workers()) == 1)


def test_a_lease_is_of_one_exact_model(serve, many):
    server = start(serve, many)
    for body in ({"model": "tiny", "ttl": "1h"}, {"model": label(many, "a"), "ttl": "soon"},
                 {"model": label(many, "a"), "ttl": "400d"}, {"ttl": "1h"}):
        answer = server.post("/leases", body)
        assert answer.status == 400 and answer.json["error"]["message"], body
    assert server.post("/leases", {"model": "tiny@00000000", "ttl": "1h"}).status == 404
    assert server.post("/leases/00", {"ttl": "1h"}).status == 404
    assert server.call("DELETE", "/leases/00").status == 404


# ---- Idle models ----

def test_an_idle_model_is_unloaded_and_loaded_again(serve, many):
    server = start(serve, many, "--idle-unload", "1s")
    first = vector_of(server)
    until("it to be unloaded", lambda: not server.workers())
    assert server.get("/health").status == 200
    assert server.get("/info").json["loaded"] is False
    assert listed(server)["tiny"]["loaded"] is False
    assert server.slot()["loaded"] is False
    assert ", unloaded" in server.get("/").body.decode()
    shown = moult("status", "--url", f"http://127.0.0.1:{server.port}")
    assert b", unloaded\n" in shown.stdout, shown
    assert vector_of(server) == first
    assert server.get("/info").json["loaded"] is True
    until("it to be unloaded again", lambda: not server.workers())
    # An update needs nobody to be awake.
    server.updated(many["b"])
    assert vector_of(server)[1] == many.fingerprints["b"][:16]
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    assert vector_of(server)[:2] == first[:2]


def test_unloading_never_costs_an_answer(serve_with_faults, faults, many):
    patient(faults)
    server = start(serve_with_faults, many, "--idle-unload", "1s")
    statuses = []
    for _ in range(3):
        # The last text of a burst is still computed when its second is over.
        statuses.append(server.embed(sleepy(1500)).status)
        until("it to be unloaded", lambda: not server.workers())
    with many.load(server, connections=4) as load:
        load.wait_for_answers(100)
        assert_clean(load.stop())
    assert set(statuses) == {200}
