"""Several slots of one server: each with its own source, history and updates, and one budget of
memory over all of their workers."""

import json

import pytest

from fixtures import moult
from loading import assert_clean
from serving import free_port, until

ALLOW = "--allow-model-from"


def slots_of(server):
    return {slot["name"]: slot for slot in server.get("/update_model").json["slots"]}


def two(serve, tiny, *options, **more):
    return serve(f"one={tiny['a']}", f"two={tiny['b']}",
                 options=["--keep-warm", 0, ALLOW, tiny.place, *options], **more)


def memory_of_a_worker(serve, tiny):
    """What loading takes, as the state remembers it after an update."""
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    server.updated(tiny["b"])
    slot = json.loads((server.data / "state.json").read_text())["slots"][0]
    server.stop()
    return slot["current"]["memory_bytes"]


def test_both_are_updated_at_once_under_load(serve, tiny):
    server = two(serve, tiny)
    with tiny.load(server, connections=4, model="one") as one, \
            tiny.load(server, connections=4, model="two") as other:
        for load in (one, other):
            load.wait_for_answers(50)
        for turn in range(4):
            started = {name: server.update(tiny["cab"[(turn + shift) % 3]], wait=False, slot=name)
                       for shift, name in enumerate(("one", "two"))}
            for name, load in (("one", one), ("two", other)):
                assert started[name].status == 202, started[name]
                assert server.wait_for_end(started[name].json["id"])["status"] == "live"
                generation = slots_of(server)[name]["generation"]
                load.tell(f"min-generation {generation}")
                load.wait_for_answers(20, generation=generation)
        results = [one.stop(), other.stop()]
    for result in results:
        assert_clean(result, least=200)
        assert len(result["generations"]) == 5
    slots = slots_of(server)
    assert slots["one"]["fingerprint"] != slots["two"]["fingerprint"]
    for name in slots:
        ids = [event["id"] for event in slots[name]["history"]]
        assert len(ids) == 5 and slots[name]["generation"] == 5
    assert not {event["id"] for event in slots["one"]["history"]} & \
        {event["id"] for event in slots["two"]["history"]}


def test_a_rollback_of_one_leaves_the_other_alone(serve, tiny):
    server = two(serve, tiny)
    server.updated(tiny["c"], slot="two")
    before = slots_of(server)["one"]
    assert server.post("/rollback", {"slot": "two", "wait": True}).json["status"] == "live"
    assert slots_of(server)["one"] == before
    assert slots_of(server)["two"]["fingerprint"] == tiny.fingerprints["b"]
    # The first has nothing to go back to.
    assert server.post("/rollback", {"slot": "one"}).status == 409


def test_they_are_called_by_their_names_alone(serve, tiny):
    server = two(serve, tiny)
    for name, letter in (("one", "a"), ("two", "b")):
        answer = server.embed("london", name)
        assert answer.headers["x-moult-fingerprint"] == tiny.fingerprints[letter][:16]
        assert server.embed("london", f"{name}@{tiny.fingerprints[letter][:8]}").status == 200
    assert server.embed("london").headers["x-moult-fingerprint"] == tiny.fingerprints["a"][:16]
    for unknown in ("three", "text-embedding-3-small", f"one@{tiny.fingerprints['b'][:8]}"):
        answer = server.embed("london", unknown)
        assert answer.status == 404 and "two" in answer.body.decode()


def test_both_come_back_offline(serve, tiny, tmp_path):
    server = two(serve, tiny)
    server.updated(tiny["c"], slot="one")
    server.kill()
    server.models = []
    server.start()
    assert {name: slot["fingerprint"] for name, slot in slots_of(server).items()} == \
        {"one": tiny.fingerprints["c"], "two": tiny.fingerprints["b"]}


# ---- One budget ----

def test_an_update_that_does_not_fit_is_refused_with_the_figures(serve, tiny):
    bytes_ = memory_of_a_worker(serve, tiny)
    server = serve(tiny["a"], options=["--memory", int(1.4 * bytes_), ALLOW, tiny.place])
    answer = server.update(tiny["b"])
    assert answer.status == 422, answer
    assert "--memory allows all of them" in answer.json["reason"], answer
    assert server.embed("london").status == 200


def test_a_server_whose_first_model_does_not_fit_says_so(serve, tiny, tmp_path):
    done = moult("serve", tiny["a"], "--data", tmp_path / "data", "--memory", "1M", "--port",
                 free_port())
    assert done.returncode == 1
    assert b"--memory allows all of them 1 MiB" in done.stderr, done


def test_the_idle_make_room_for_those_who_are_called(serve_with_faults, faults, serve, tiny):
    faults.environment.update(MOULT_FAULTS_IDLE_S="1", MOULT_FAULTS_WATCHDOG_S="60",
                              MOULT_FAULTS_ROOM_S="60")
    bytes_ = memory_of_a_worker(serve, tiny)
    server = two(serve_with_faults, tiny, "--memory", int(1.5 * bytes_))
    for turn in range(3):
        for name, letter in (("one", "a"), ("two", "b")):
            answer = server.embed("london", name)
            assert answer.headers["x-moult-fingerprint"] == tiny.fingerprints[letter][:16]
            assert len(server.workers()) == 1
            assert server.get("/health").status == 200


def test_who_does_not_fit_beside_the_busy_is_told_to_come_again(serve_with_faults, faults, serve,
                                                               tiny):
    faults.environment.update(MOULT_FAULTS_IDLE_S="2", MOULT_FAULTS_WATCHDOG_S="60",
                              MOULT_FAULTS_ROOM_S="1")
    bytes_ = memory_of_a_worker(serve, tiny)
    server = two(serve_with_faults, tiny, "--memory", int(1.5 * bytes_))
    until("one of them to sleep", lambda: len(server.workers()) == 1)
    awake, asleep = ("one", "two") if slots_of(server)["one"]["loaded"] else ("two", "one")
    with tiny.load(server, connections=2, model=awake) as load:
        load.wait_for_answers(50)
        answer = server.embed("london", asleep)
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1, answer
        assert "--memory" in answer.body.decode()
        assert_clean(load.stop())
    until("its turn", lambda: server.embed("london", asleep).status == 200)
