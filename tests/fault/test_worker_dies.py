"""Workers that die, hang or never start: no admitted request is lost, what serves goes on."""

import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from fixtures import DEADLY, FAULTS, HELD, SOAK
from loading import assert_clean
from serving import alive, freeze, until
from watching import Watch

ALLOW = "--allow-model-from"


def kill_worker(server):
    """kill -9 of the only worker; waits until another one is there."""
    pid = server.worker()
    os.kill(pid, signal.SIGKILL)
    until("another worker", lambda: server.workers() and pid not in server.workers())


@pytest.mark.parametrize("which", ["real", "tiny"])
def test_killed_twenty_times_under_load(request, serve, which):
    known = request.getfixturevalue(which)
    kills = 20 if SOAK else 2 if which == "real" else 5
    server = serve(known["a"])
    with known.load(server, connections=16) as load:
        load.wait_for_answers(100)
        load.tell("mark kill")
        for _ in range(kills):
            kill_worker(server)
            # Deaths that follow each other too closely are another test's.
            load.wait_for_answers(30)
        load.tell("mark after")
        load.wait_for_answers(100)
        result = load.stop()
    print(result)
    assert_clean(result, least=150)
    assert set(result["generations"]) == {"1"}


def test_killed_while_the_old_one_drains_and_while_it_is_warm(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    old = server.worker()
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(100)
        generation = server.updated(tiny["b"])
        load.tell(f"min-generation {generation}")
        os.kill(old, signal.SIGKILL)
        load.wait_for_answers(200)
        assert_clean(load.stop())
    answer = server.embed("london", f"tiny@{tiny.fingerprints['a'][:8]}")
    # Either it was started again, or it counts as retired; never another model's vector.
    assert answer.status == 404 or \
        answer.headers["x-moult-fingerprint"] == tiny.fingerprints["a"][:16], answer


@pytest.mark.parametrize("point", ["start", "loading", "checking"])
@pytest.mark.parametrize("action", ["crash", "exit", "hang"])
def test_candidate_that_never_gets_ready(serve_with_faults, faults, tiny, point, action):
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    with Watch(server, tiny) as watch:
        watch.event()
        faults.set(point, action)
        answer = server.update(tiny["b"])
        assert answer.status == 422 and answer.json["status"] == "refused", answer
        assert answer.json["reason"].endswith("."), answer
        faults.set()
    assert set(watch.result["generations"]) == {"1"}
    assert server.updated(tiny["b"]) > 1


def test_the_last_client_of_an_old_model_goes_while_its_worker_is_restarted(
        serve_with_faults, faults, tiny):
    faults.environment.update(MOULT_FAULTS_WATCHDOG_S="20")
    server = serve_with_faults(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    faults.hold("loading", once=True)
    kill_worker(server)
    faults.wait_for("loading")
    body = '{"inputs": "london"}'
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"POST /embed HTTP/1.1\r\nHost: localhost\r\n"
                       f"x-moult-model: tiny@{tiny.fingerprints['a'][:8]}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert server.updated(tiny["b"]) == 2
    faults.release()
    until("the old generation to go", lambda: len(server.workers()) == 1, 10)


@pytest.mark.parametrize("point", ["state-before", "state-after", "cutover-after"])
@pytest.mark.parametrize("victim", ["old", "new", "both"])
def test_killed_around_the_cut_over(serve_with_faults, faults, tiny, point, victim):
    """The front stands at that point while they die; whatever was said to be live stays so."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    with Watch(server, tiny) as watch:
        watch.event()
        faults.hold(point)
        answers = []
        caller = threading.Thread(target=lambda: answers.append(server.update(tiny["b"])))
        caller.start()
        faults.wait_for(point)
        workers = server.workers()
        dying = {"old": workers[:1], "new": workers[1:2], "both": workers}[victim]
        for pid in dying:
            os.kill(pid, signal.SIGKILL)
        until("them to be dead", lambda: not any(alive(pid) for pid in dying))
        faults.release()
        caller.join()
        answer = answers[0]
        assert answer.json["status"] == ("live" if answer.status == 200 else "refused"), answer
        if answer.status == 200:
            watch.live(answer.json["generation"])
    live = "b" if answer.status == 200 else "a"
    assert server.fingerprint() == tiny.fingerprints[live]
    if victim == "old":
        assert live == "b"


@pytest.mark.parametrize("point", ["ready", "batch", "answer"])
@pytest.mark.parametrize("action", ["crash", "hang"])
def test_the_serving_worker_ends_at_a_point(serve_with_faults, faults, tiny, point, action):
    """With requests begun in it; when it starts again, and while the next one is ready."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    with Watch(server, tiny) as watch:
        watch.event()
        # Once, or what the crash had begun crashes the next worker as well, and is to blame.
        faults.set(point, "once:crash" if action == "crash" else action)
        if point == "ready":
            os.kill(server.worker(), signal.SIGKILL)
        until(f"{point} to be reached", lambda: faults.reached(point))
        faults.set()
        watch.wait_for_answers(50)
        watch.live(server.updated(tiny["b"]))


def test_candidate_killed_by_others_while_it_loads(serve_with_faults, faults, tiny):
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    serving = server.worker()
    faults.hold("loading")
    update = server.update(tiny["b"], wait=False).json["id"]
    candidate = until("the candidate", lambda: [p for p in server.workers() if p != serving])[0]
    os.kill(candidate, signal.SIGKILL)
    end = server.wait_for_end(update)
    assert end["status"] == "refused" and re.search("9|kill|KILL", end["reason"]), end
    assert server.generation() == 1


def test_the_serving_worker_dies_while_a_candidate_loads(serve_with_faults, faults, tiny):
    server = serve_with_faults(tiny["a"], options=[ALLOW, tiny.place])
    serving = server.worker()
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(50)
        faults.hold("loading")
        update = server.update(tiny["b"], wait=False).json["id"]
        faults.wait_for("loading")
        os.kill(serving, signal.SIGKILL)
        # Its replacement has got as far.
        faults.wait_for("loading", times=2)
        faults.release()
        assert server.wait_for_end(update)["status"] == "live"
        load.wait_for_answers(100)
        assert_clean(load.stop())
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_dies_just_after_it_went_live(serve_with_faults, faults, tiny):
    """The front restarts it, and requests wait for that."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(50)
        generation = server.updated(tiny["b"])
        newest = server.workers()[-1]
        os.kill(newest, signal.SIGKILL)
        load.wait_for_answers(200)
        result = load.stop()
    assert_clean(result)
    assert max(map(int, result["generations"])) == generation


@pytest.mark.parametrize("point", ["batch", "answer"])
def test_a_worker_that_hangs_in_a_batch(serve_with_faults, faults, tiny, point):
    server = serve_with_faults(tiny["a"])
    hung = server.worker()
    faults.set(point, "hang")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.embed("how big is london")))
    thread.start()
    faults.wait_for(point)
    faults.set()
    thread.join()
    assert answers[0].status == 200, answers
    assert not alive(hung)
    assert "stood still" in server.log()


def test_a_stopped_worker_under_load(serve_with_faults, tiny):
    """SIGSTOP: every thread of it stands, its sign of life too."""
    server = serve_with_faults(tiny["a"])
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(50)
        stopped = server.worker()
        freeze(stopped)
        load.wait_for_answers(100)
        assert_clean(load.stop())
    assert not alive(stopped)


def test_a_stopped_worker_without_work_is_noticed_too(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"])
    stopped = server.worker()
    freeze(stopped)
    assert server.embed("london").status == 200
    assert not alive(stopped)


def test_a_request_that_kills_its_worker_gets_500_alone(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"])
    with tiny.load(server, connections=16) as load:
        load.wait_for_answers(100)
        for _ in range(3):
            answer = server.post("/v1/embeddings", {"input": DEADLY, "model": "tiny"})
            assert answer.status == 500, answer
            assert answer.json["error"]["message"], answer
            answer = server.embed(DEADLY)
            assert answer.status == 424 and answer.json["error_type"] == "Backend", answer
        load.wait_for_answers(100)
        result = load.stop()
    print(result)
    assert_clean(result, least=200)


def test_deadly_requests_side_by_side(serve_with_faults, tiny):
    """Each gets its own error; an innocent text between them is answered."""
    server = serve_with_faults(tiny["a"])
    texts = [DEADLY, "how big is london", DEADLY, "london", "the server"]
    answers = [None] * len(texts)

    def ask(i):
        answers[i] = server.post("/v1/embeddings", {"input": texts[i]})
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [500, 200, 500, 200, 200], answers


def test_a_deadly_text_among_many_of_one_request(serve_with_faults, tiny):
    server = serve_with_faults(tiny["a"])
    assert server.post("/v1/embeddings", {"input": ["london", DEADLY, "server"]}).status == 500
    assert server.embed("london").status == 200


def test_deadly_requests_do_not_roll_a_model_back(serve_with_faults, tiny):
    """A person's text must not decide which model serves."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    for _ in range(8):
        assert server.post("/v1/embeddings", {"input": DEADLY}).status == 500
    assert server.fingerprint() == tiny.fingerprints["b"]
    assert server.embed("london").status == 200


def test_deadly_requests_whose_clients_leave_do_not_roll_a_model_back_either(
        serve_with_faults, faults, tiny):
    faults.environment["MOULT_FAULTS_WATCHDOG_S"] = "3"
    server = serve_with_faults(tiny["a"], options=["--allow-model-from", tiny.place])
    server.updated(tiny["b"])
    until("the old worker to be known", lambda: len(server.workers()) == 2)
    old = server.workers()[0]
    for _ in range(6):
        worker = until("a worker", lambda: [pid for pid in server.workers() if pid != old])[0]
        until("it to answer", lambda: server.embed("london").status == 200)
        body = json.dumps({"inputs": "\x01moult-fault:hang london"})
        begun = faults.times("text")
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                               f"{len(body)}\r\n\r\n{body}".encode())
            faults.wait_for("text", times=begun + 1)
        until("the watchdog to end it", lambda: not alive(worker))
    assert server.embed("london").headers["x-moult-generation"] == "2"
    assert server.generation() == 2


def test_a_model_that_keeps_dying_gives_way_to_the_previous_one(serve_with_faults, faults, tiny):
    server = serve_with_faults(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    generation = server.updated(tiny["b"])
    with tiny.load(server, connections=4) as load:
        load.wait_for_answers(50)
        for _ in range(5):
            newest = until("the worker of the new model", server.workers)[-1]
            os.kill(newest, signal.SIGKILL)
            until("it to be gone", lambda: not alive(newest))
            load.wait_for_answers(5)
        until("the rollback", lambda: server.fingerprint() == tiny.fingerprints["a"])
        load.wait_for_answers(50)
        assert_clean(load.stop())
    slot = server.slot()
    assert slot["generation"] > generation
    entry = max(slot["history"], key=lambda item: item["id"])
    assert entry["result"] == "live" and "Rolled back" in entry["reason"], entry
    # And it stays so after a restart.
    server.kill()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_a_worker_that_always_dies_at_once_is_started_ever_more_slowly(serve_with_faults, faults,
                                                                      tiny):
    server = serve_with_faults(tiny["a"])
    faults.set("start", "crash")
    os.kill(server.worker(), signal.SIGKILL)
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(server.embed("london").status))
    thread.start()
    time.sleep(3)
    starts = server.log().count("dies") + server.log().count("died") + server.log().count("killed")
    assert starts < 40, "it is restarted in a tight loop"
    faults.set()
    thread.join()
    assert statuses[0] in (200, 503), statuses
    until("the worker to be back", lambda: server.embed("london").status == 200)


def test_the_straggler_is_answered_and_the_update_completes(serve_with_faults, faults, tiny):
    """One request is stuck in the old generation for longer than the deadline."""
    faults.environment.update(MOULT_FAULTS_WATCHDOG_S="20", MOULT_FAULTS_STRAGGLER_S="1")
    faults.hold()
    server = serve_with_faults(tiny["a"], options=["--keep-warm", 0, ALLOW, tiny.place])
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(server.embed(HELD)))
    with Watch(server, tiny) as watch:
        watch.event()
        thread.start()
        faults.wait_for("text")
        for letter, number in zip("bca", (2, 3, 4)):
            assert server.updated(tiny[letter]) == number
            watch.live(number)
        assert not answers
        faults.release()
        thread.join()
    assert answers[0].status == 200, answers


def test_no_worker_outlives_the_server(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    workers = server.workers()
    assert len(workers) == 2
    server.kill()
    assert not any(alive(pid) for pid in workers)
    server.start()
    workers = server.workers()
    assert server.stop() == 0
    assert not any(alive(pid) for pid in workers)


def test_a_worker_that_does_not_come_back_is_an_illness(serve, faults, tiny):
    """For a while requests wait for it; after that others may be better placed to answer."""
    server = serve(tiny["a"], binary=FAULTS,
                   environment=dict(faults.environment, MOULT_FAULTS_UNHEALTHY_S="3"))
    faults.set("start", "crash")
    os.kill(server.worker(), signal.SIGKILL)
    until("the first restart", lambda: faults.reached("start"))
    until("the illness to be told", lambda: server.get("/health").status == 503)
    assert server.get("/v2/health/ready").json == {"ready": False}
    assert server.get("/v2/health/live").json == {"live": True}
    faults.set()
    until("it to be well again", lambda: server.get("/health").status == 200)
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert server.embed("london").status == 200
