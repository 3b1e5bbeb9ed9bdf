"""More than it can do: 429 with Retry-After, bounded memory, and full speed afterwards."""

import os
import signal
import threading

from fixtures import SOAK
from loading import assert_clean
from serving import freeze, until

MIB = 1 << 20


def test_more_clients_than_it_can_serve(serve, tiny):
    server = serve(tiny["a"], options=["--max-waiting", 64])
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(3000)
        load.stop()
    memory = server.memory()
    with tiny.load(server, connections=400, texts_max=32, options=["--allow", "429"]) as load:
        load.wait_for_answers(20000 if SOAK else 3000)
        most = server.memory()
        result = load.stop()
    print(result)
    assert_clean(result)
    assert result["statuses"].get("429", 0) > 0
    assert result["retry_after"] == result["statuses"]["429"]
    assert most < memory + 100 * MIB
    with tiny.load(server, connections=8) as load:
        load.wait_for_answers(500)
        assert_clean(load.stop())
    until("the memory to come back", lambda: server.memory() < memory + 48 * MIB)


def test_a_request_larger_than_the_queue_is_admitted_when_it_is_empty(serve, tiny):
    server = serve(tiny["a"], options=["--max-waiting", 8])
    answer = server.post("/embed", {"inputs": ["london"] * 200})
    assert answer.status == 200 and len(answer.json) == 200


def test_the_refusal_speaks_each_dialect(serve, tiny):
    """While the worker stands still, as many texts are with it as it may have, and one waits."""
    server = serve(tiny["a"], options=["--max-waiting", 1, "--threads", 1])
    worker = server.worker()
    freeze(worker)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.embed("london")))
               for _ in range(60)]
    for thread in threads:
        thread.start()
    refused = until("one to be refused", lambda: [a for a in answers if a.status == 429])
    refused.append(server.embed("london"))
    openai = server.post("/v1/embeddings", {"input": "london"})
    os.kill(worker, signal.SIGCONT)
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 429}
    assert all(answer.json["error_type"] == "Overloaded" for answer in refused), refused
    assert openai.status == 429 and openai.json["error"]["message"], openai
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in [*refused, openai])


def test_overload_during_an_update(serve, tiny):
    server = serve(tiny["a"], options=["--max-waiting", 64, "--keep-warm", 0,
                                       "--allow-model-from", tiny.place])
    with tiny.load(server, connections=200, texts_max=16, options=["--allow", "429"]) as load:
        load.wait_for_answers(200)
        for letter in "baba":
            load.tell(f"min-generation {server.updated(tiny[letter])}")
        load.wait_for_answers(200)
        assert_clean(load.stop())
