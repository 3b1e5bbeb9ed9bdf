"""--swap wait: the new model takes the old one's place, and requests wait for it."""

import os
import signal
import threading

import pytest

import models
from loading import assert_clean
from serving import HealthPoll, children, until

ALLOW = "--allow-model-from"


@pytest.fixture
def options(tiny):
    return ["--swap", "wait", ALLOW, tiny.place]


class Workers:
    """How many workers there were at most, beside a test."""

    def __init__(self, server):
        self.server, self.most, self.ending = server, 0, threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self):
        while not self.ending.wait(0.002):
            count = sum(line[1:2] == ["worker"] for line in children(self.server.pid).values())
            self.most = max(self.most, count)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ending.set()
        self.thread.join()


class Asked:
    """A request under way."""

    def __init__(self, server, text, model=None):
        self.answer = None
        self.thread = threading.Thread(target=self._ask, args=(server, text, model))
        self.thread.start()

    def _ask(self, server, text, model):
        self.answer = server.embed(text, model)

    def get(self):
        self.thread.join()
        return self.answer


def begin_and_hang(server, faults, folder):
    """An update whose candidate hangs while it loads, in the old one's place."""
    faults.set("loading", "hang")
    update = server.update(folder, wait=False, force=True).json["id"]
    until("it to load", lambda: faults.reached("loading"))
    return update


def test_requests_wait_and_none_fails(serve, tiny, options):
    server = serve(tiny["a"], options=options)
    with HealthPoll(server), Workers(server) as workers, tiny.load(server) as load:
        load.wait_for_answers(100)
        for letter in "bcabc":
            load.tell("mark swap")
            generation = server.updated(tiny[letter])
            load.tell(f"min-generation {generation}")
            load.tell("mark steady")
            load.wait_for_answers(100, generation=generation)
        result = load.stop()
    assert_clean(result)
    assert workers.most == 1
    print("answers, ms:", result["latency_ms"])


def test_the_real_model(serve, real):
    server = serve(real["a"], options=["--swap", "wait", ALLOW, "/"])
    with real.load(server) as load:
        load.wait_for_answers(100)
        load.tell("mark swap")
        server.updated(real["b"])
        load.tell("mark steady")
        load.wait_for_answers(100, generation=2)
        result = load.stop()
    assert_clean(result)
    print("answers, ms:", result["latency_ms"])


def test_an_order_may_say_how(serve, tiny):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    with Workers(server) as workers, tiny.load(server, connections=2) as load:
        load.wait_for_answers(20)
        server.updated(tiny["b"], swap="wait")
        assert workers.most == 1
        server.updated(tiny["c"], swap="overlap")
        assert_clean(load.stop())
    assert workers.most == 2


@pytest.mark.parametrize("how, words", [
    ({"swap": "sometimes"}, "swap"), ({"swap": 1}, "swap"),
    ({"swap": "wait", "cutover": "manual"}, "exclude")])
def test_orders_that_make_no_sense(serve, tiny, how, words):
    server = serve(tiny["a"], options=[ALLOW, tiny.place])
    answer = server.update(tiny["b"], **how)
    assert answer.status in (400, 422) and words in str(answer.json), answer


def test_a_rollback_waits_as_well(serve, tiny, options):
    server = serve(tiny["a"], options=options)
    server.updated(tiny["b"])
    with Workers(server) as workers, tiny.load(server) as load:
        load.wait_for_answers(50)
        answer = server.post("/rollback", {"wait": True})
        assert answer.json["status"] == "live", answer
        load.wait_for_answers(50, generation=answer.json["generation"])
        assert_clean(load.stop())
    assert workers.most == 1 and server.fingerprint() == tiny.fingerprints["a"]


@pytest.mark.parametrize("name", ["NaN", "half of the weights", "weights that overflow"])
def test_a_broken_model_brings_the_old_one_back(serve, tiny, options, tmp_path, name):
    folder = models.make_broken(tiny["b"], tmp_path / "broken" / "tiny", name)
    server = serve(tiny["a"], options=[*options, ALLOW, tmp_path])
    with HealthPoll(server), Workers(server) as workers, tiny.load(server) as load:
        load.wait_for_answers(100)
        for _ in range(3):
            answer = server.update(folder, force=True)
            assert answer.status == 422 and answer.json["status"] == "refused", answer
            load.wait_for_answers(100, generation=1)
        assert_clean(load.stop())
    assert workers.most == 1
    assert server.generation() == 1
    assert server.updated(tiny["b"]) > 1


def test_nobody_is_harmed_by_what_cannot_be_fetched(serve, tiny, options, tmp_path):
    """The old one goes only when the new one is there and is no worse than it looks."""
    server = serve(tiny["a"], options=[*options, ALLOW, tmp_path])
    worker = server.worker()
    assert server.update(tmp_path / "nothing").status == 422
    assert server.worker() == worker


def test_the_queue_may_be_longer_than_max_waiting(serve_with_faults, tiny, options, faults):
    server = serve_with_faults(tiny["a"], options=[*options, "--max-waiting", 4])
    faults.set("loading", "sleep:700")
    update = server.update(tiny["b"], wait=False).json["id"]
    until("it to load", lambda: faults.reached("loading"))
    asked = [Asked(server, f"london {i}") for i in range(30)]
    answers = [request.get() for request in asked]
    assert {answer.status for answer in answers} == {200}, answers
    assert server.wait_for_end(update)["status"] == "live"
    assert all(answer.headers["x-moult-generation"] == "2" for answer in answers)


@pytest.mark.parametrize("end", ["kill", "cancel"])
def test_a_candidate_that_goes_brings_the_old_one_back(serve_with_faults, tiny, options, faults,
                                                       end):
    server = serve_with_faults(tiny["a"], options=options)
    with HealthPoll(server), tiny.load(server) as load:
        load.wait_for_answers(50)
        update = begin_and_hang(server, faults, tiny["b"])
        if end == "kill":
            os.kill(server.worker(), signal.SIGKILL)
        else:
            assert server.call("DELETE", f"/update_model/{update}").status == 200
        faults.set()
        assert server.wait_for_end(update)["status"] == ("refused" if end == "kill"
                                                         else "cancelled")
        load.wait_for_answers(50, generation=1)
        assert_clean(load.stop())
    assert server.updated(tiny["b"], force=True) > 1


def test_the_watchdog_ends_one_that_hangs(serve_with_faults, tiny, options, faults):
    server = serve_with_faults(tiny["a"], options=options)
    with tiny.load(server) as load:
        load.wait_for_answers(50)
        update = begin_and_hang(server, faults, tiny["b"])
        faults.set()
        assert server.wait_for_end(update)["status"] == "refused"
        load.wait_for_answers(50, generation=1)
        assert_clean(load.stop())


@pytest.mark.parametrize("point", ["loading", "checking", "ready"])
def test_the_worker_dies_at_each_point(serve_with_faults, tiny, options, faults, point):
    server = serve_with_faults(tiny["a"], options=options)
    with tiny.load(server) as load:
        load.wait_for_answers(50)
        faults.set(point, "crash")
        update = server.update(tiny["b"], wait=False, force=True).json["id"]
        until("it to crash", lambda: faults.reached(point))
        faults.set()
        assert server.wait_for_end(update)["status"] == "refused"
        load.wait_for_answers(50, generation=1)
        assert_clean(load.stop())


@pytest.mark.parametrize("point", ["loading", "checking", "ready"])
def test_a_front_that_is_killed_starts_with_the_old_one(serve_with_faults, tiny, options, faults,
                                                        point):
    server = serve_with_faults(tiny["a"], options=options)
    faults.set(point, "hang")
    server.update(tiny["b"], wait=False)
    until("it to get there", lambda: faults.reached(point))
    server.kill()
    faults.set()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.embed("london").status == 200
    assert server.updated(tiny["b"], force=True) > 1


def test_who_names_the_old_model_is_answered_by_it(serve_with_faults, tiny, options, faults):
    server = serve_with_faults(tiny["a"], options=options)
    name = f"tiny@{tiny.fingerprints['a'][:8]}"
    before = server.embed("london", name)
    faults.set("loading", "sleep:500")
    update = server.update(tiny["b"], wait=False).json["id"]
    until("it to load", lambda: faults.reached("loading"))
    asked = Asked(server, "london", name)
    faults.set()
    assert server.wait_for_end(update)["status"] == "live"
    answer = asked.get()
    assert answer.status == 200 and answer.body == before.body, answer


def test_a_stop_meanwhile_answers_who_waits(serve_with_faults, tiny, options, faults):
    server = serve_with_faults(tiny["a"], options=options)
    begin_and_hang(server, faults, tiny["b"])
    asked = [Asked(server, f"london {i}") for i in range(5)]
    until("them to wait", lambda: "moult_waiting_texts 5\n" in server.get("/metrics").body.decode())
    faults.set()
    assert server.stop() == 0
    assert {request.get().status for request in asked} == {200}
