"""Updates under load: no answer fails, is wrong, or is mixed, and afterwards all is as before."""

import pytest

from fixtures import SOAK
from loading import assert_clean
from serving import until

MIB = 1 << 20


def settle(server):
    """Waits until the retired generations are gone: one worker and nothing else."""
    until("the old generations to retire", lambda: len(server.processes()) == 2)


def test_the_real_model_is_replaced_under_load(serve, real):
    updates = 50 if SOAK else 3
    server = serve(real["a"], options=["--keep-warm", 0, "--allow-model-from", real.place])
    settle(server)
    memory, descriptors = server.memory(), server.descriptors()
    with real.load(server, connections=16) as load:
        load.wait_for_answers(200)
        load.tell("mark steady")
        load.wait_for_answers(2000 if SOAK else 300)
        for turn in range(updates):
            load.tell("mark update")
            generation = server.updated(real["ab"[(turn + 1) % 2]])
            load.tell(f"min-generation {generation}")
            load.tell("mark after")
            load.wait_for_answers(100 if SOAK else 30, generation=generation)
        result = load.stop()
    print(result)
    assert_clean(result, least=500)
    assert len(result["generations"]) == updates + 1
    settle(server)
    print(f"memory {memory >> 20} MiB before, {server.memory() >> 20} MiB after; "
          f"open files {descriptors} and {server.descriptors()}; "
          f"processes 2 and {len(server.processes())}")
    assert server.descriptors() <= descriptors
    # The heap of a server that has answered is a little larger than that of one that has not.
    assert server.memory() < memory + 32 * MIB


def test_back_to_back_updates_of_a_tiny_model(serve, tiny):
    updates = 100 if SOAK else 25
    server = serve(tiny["a"], options=["--keep-warm", 0, "--allow-model-from", tiny.place])
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(500)
        for turn in range(updates):
            generation = server.updated(tiny["abc"[(turn + 1) % 3]])
            load.tell(f"min-generation {generation}")
        load.wait_for_answers(100, generation=generation)
        result = load.stop()
    print(result)
    assert_clean(result, least=1000)
    settle(server)


def test_nothing_is_left_of_many_updates(serve, tiny):
    server = serve(tiny["a"], options=["--keep-warm", 0, "--allow-model-from", tiny.place])
    for turn in range(20):
        server.updated(tiny["ba"[turn % 2]])
        server.embed("before").json
    settle(server)
    memory, descriptors = server.memory(), server.descriptors()
    for turn in range(1000 if SOAK else 40):
        server.updated(tiny["ba"[turn % 2]])
        server.embed("after").json
    settle(server)
    print(f"memory {memory >> 10} KiB before, {server.memory() >> 10} KiB after; "
          f"open files {descriptors} and {server.descriptors()}")
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
