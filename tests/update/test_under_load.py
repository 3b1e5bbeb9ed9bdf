"""Updates under load: no answer fails, is wrong, or is mixed, and afterwards all is as before."""

import pytest

from fixtures import SOAK
from loading import assert_clean
from serving import until
from watching import Watch

MIB = 1 << 20


def settle(server):
    """Waits until the retired generations are gone: one worker and nothing else."""
    until("the old generations to retire", lambda: len(server.processes()) == 2)


def test_the_real_model_is_replaced_under_load(serve, real):
    updates = 50 if SOAK else 3
    server = serve(real["a"], options=["--keep-warm", 0, "--allow-model-from", real.place])
    settle(server)
    # The heap of a server that has answered is a little larger than that of one that has not.
    with Watch(server, real, connections=16, rate=None, memory_slack=32 * MIB) as watch:
        watch.wait_for_answers(2000 if SOAK else 200)
        for turn in range(updates):
            watch.event()
            generation = server.updated(real["ab"[(turn + 1) % 2]], timeout=200)
            watch.live(generation)
            watch.steady()
            watch.wait_for_answers(100 if SOAK else 30, generation=generation)
    assert len(watch.result["generations"]) == updates + 1


def test_back_to_back_updates_of_a_tiny_model(serve, tiny):
    updates = 100 if SOAK else 25
    server = serve(tiny["a"], options=["--keep-warm", 0, "--allow-model-from", tiny.place])
    with Watch(server, tiny, rate=None) as watch:
        watch.wait_for_answers(500)
        watch.event()
        for turn in range(updates):
            generation = server.updated(tiny["abc"[(turn + 1) % 3]])
            watch.live(generation)
        watch.wait_for_answers(100, generation=generation)


def cost_of_a_request(server, known):
    """CPU time of all processes, in ms, and the median of the time of an answer; one client. The
    time is the least of three: what else runs on the machine can only add to it."""
    costs = []
    with known.load(server, connections=1, texts_max=1, options=["--dialects", "base64"]) as load:
        load.wait_for_answers(100)
        for _ in range(3):
            before, answered = server.cpu_seconds(), load.report()["answered"]
            load.wait_for_answers(1000)
            seconds = server.cpu_seconds() - before
            costs.append(1000 * seconds / (load.report()["answered"] - answered))
        result = load.stop()
    assert_clean(result)
    return min(costs), result["latency_ms"]["all"]["p50"]


def test_nothing_is_left_of_many_updates(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", 0, "--allow-model-from", tiny.place])
    for turn in range(20):
        server.updated(tiny["ba"[turn % 2]])
        server.embed("before").json
    settle(server)
    at_rest = server.descriptors()
    cost, median = cost_of_a_request(server, tiny)
    until("the load's connections to be closed", lambda: server.descriptors() <= at_rest)
    memory, descriptors = server.memory(), server.descriptors()
    for turn in range(1000 if SOAK else 40):
        server.updated(tiny["ba"[turn % 2]])
        server.embed("after").json
    settle(server)
    cost_after, median_after = cost_of_a_request(server, tiny)
    until("the load's connections to be closed", lambda: server.descriptors() <= at_rest)
    print(f"memory {memory >> 10} KiB before, {server.memory() >> 10} KiB after; "
          f"open files {descriptors} and {server.descriptors()}; a request {median:.3f} ms and "
          f"{median_after:.3f} ms, of CPU time {cost:.3f} ms and {cost_after:.3f} ms")
    # CPU time, for the machine may be busier now than before.
    assert cost_after < 1.5 * cost
    assert server.descriptors() == descriptors
    assert server.memory() < memory + 4 * MIB
    installed = list((server.data / "models").iterdir())
    assert len(installed) <= 3, installed
    assert len(server.slot()["history"]) <= 100


def test_a_pinned_client_keeps_its_model_across_updates(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", "10m", "--allow-model-from", tiny.place])
    old = f"tiny@{tiny.fingerprints['a'][:8]}"
    with tiny.load(server, connections=4, model=old) as pinned, \
            tiny.load(server, connections=4) as free:
        pinned.wait_for_answers(100)
        generation = server.updated(tiny["b"])
        free.tell(f"min-generation {generation}")
        pinned.wait_for_answers(300)
        free.wait_for_answers(100, generation=generation)
        result = pinned.stop()
        assert_clean(free.stop())
    assert_clean(result)
    assert list(result["generations"]) == ["1"]


@pytest.mark.parametrize("clients", [1, 64])
def test_any_number_of_clients_notices_nothing(serve, tiny, clients):
    server = serve(tiny["a"], options=["--keep-warm", 0, "--allow-model-from", tiny.place])
    with tiny.load(server, connections=clients, texts_max=8) as load:
        load.wait_for_answers(50)
        for letter in "bcab":
            load.tell(f"min-generation {server.updated(tiny[letter])}")
        result = load.stop()
    assert_clean(result, least=100)
