"""Documents as those who write them know them, and what a search may answer then: nothing else.

Whoever writes notes when he began and when it was acknowledged. So of each document it is known
which versions a search that ran meanwhile may have met: the last that was acknowledged before it
began, and those that were being written. Its answer has to be that of a full scan with numpy, with
the vectors of the model that it names: exactly these scores, nothing missing that was certain to
be there, and nothing that cannot be."""

import http.client
import json
import math
import random
import threading
import time

import numpy
import pytest

import models
from fixtures import shared
from serving import Server

CLOSE = 2e-6        # Of scores: sums in f32 in another order.


class Texts:
    """Texts, and the vectors that each model gives for them: of documents and of queries."""

    def __init__(self, count=400, queries=40, seed=5):
        self.texts = models.texts(count, seed, words_most=14)
        self.queries = models.texts(queries, seed + 1, words_most=6)
        self.index = {text: i for i, text in enumerate(self.texts)}
        self.documents, self.asked, self.letters = {}, {}, {}

    def learn(self, letter, folder, place):
        """What a server of that model alone, and without documents, says of them."""
        vectors = place / f"{letter}.npz"
        if not vectors.exists():
            with Server(place / f"alone-{letter}", folder,
                        options=["--precision", "f32", "--store", "none"]) as server:
                numpy.savez(vectors, fingerprint=server.fingerprint(),
                            documents=_embed(server, self.texts, "document"),
                            asked=_embed(server, self.queries, "query"))
        with numpy.load(vectors) as known:
            fingerprint = str(known["fingerprint"])
            self.letters[letter] = fingerprint
            self.documents[fingerprint] = known["documents"]
            self.asked[fingerprint] = known["asked"]


def _embed(server, texts, kind):
    name = server.slot()["name"]
    rows = []
    for at in range(0, len(texts), 100):
        answer = server.post("/embed", {"inputs": texts[at:at + 100]},
                             headers={"x-moult-model": f"{name}:{kind}"})
        assert answer.status == 200, answer
        rows += answer.json
    return numpy.array(rows, dtype=numpy.float32)


@pytest.fixture(scope="session")
def texts(tiny, tmp_path_factory):
    def learn(place):
        place.mkdir(exist_ok=True)
        texts = Texts()
        for letter in "abc":
            texts.learn(letter, tiny[letter], place)
        return texts
    return learn(shared("texts", learn, tmp_path_factory))


@pytest.fixture
def corpus(texts):
    return Corpus(texts)


@pytest.fixture
def options(tiny):
    return ["--precision", "f32", "--allow-model-from", tiny.place]


@pytest.fixture
def patient(faults):
    """A worker that is slow is not taken for one that stands still."""
    faults.environment["MOULT_FAULTS_WATCHDOG_S"] = "30"


class Version:
    def __init__(self, text, begun):
        self.text, self.begun, self.acknowledged = text, begun, math.inf


class Corpus:
    """What was written, by id. One thread writes a document at a time."""

    def __init__(self, texts):
        self.texts = texts
        self.lock = threading.Lock()
        self.versions = {}

    def begin(self, changes):
        """{id: index of a text, or None: deleted}; returns what acknowledge() is told."""
        now = time.monotonic()
        begun = [Version(text, now) for text in changes.values()]
        with self.lock:
            for identity, version in zip(changes, begun):
                self.versions.setdefault(identity, []).append(version)
        return begun

    def acknowledge(self, begun):
        now = time.monotonic()
        with self.lock:
            for version in begun:
                version.acknowledged = now

    def possible(self, since, until):
        """{id: the texts that it may have had between these moments}; None: it was not there."""
        found = {}
        with self.lock:
            for identity, versions in self.versions.items():
                settled = -1
                for i, version in enumerate(versions):
                    if version.acknowledged < since:
                        settled = i
                    elif version.begun >= until:
                        break
                texts = {version.text for version in versions[max(settled, 0):]
                         if version.begun < until}
                found[identity] = texts | ({None} if settled < 0 else set())
        return found

    def fault_of(self, query, k, answer, since, until):
        """What is wrong with the answer to a search, or None."""
        fingerprint = answer["model"]["fingerprint"]
        if fingerprint not in self.texts.documents:
            return f"a model that nobody knows: {fingerprint}"
        scores = self.texts.documents[fingerprint] @ self.texts.asked[fingerprint][query]
        possible = self.possible(since, until)
        met, last = set(), math.inf
        for result in answer["results"]:
            identity, score = result["id"], result["score"]
            text = self.texts.index.get(result["text"])
            if text not in possible.get(identity, ()):
                return f"{identity} has the text {text}; possible are {possible.get(identity)}"
            if abs(score - scores[text]) > CLOSE:
                return f"{identity} has the score {score}, not {scores[text]}: another model's?"
            if identity in met or score > last + CLOSE:
                return f"{identity} is there twice, or out of order"
            met.add(identity)
            last = score
        least = last if len(answer["results"]) == k else -math.inf
        for identity, texts in possible.items():
            if len(texts) == 1 and identity not in met:
                text = next(iter(texts))
                if text is not None and scores[text] > least + CLOSE:
                    return f"{identity} is missing: {scores[text]} is above {least}"
        return None

    def certain(self):
        """{id: text} of those about which there is no doubt, while nobody writes."""
        now = time.monotonic()
        return {identity: next(iter(texts)) for identity, texts in self.possible(now, now).items()
                if len(texts) == 1 and None not in texts}


class Client:
    """One keep-alive connection; it is opened anew where it breaks."""

    def __init__(self, port, timeout=60):
        self.port, self.timeout, self.connection = port, timeout, None

    def call(self, method, path, body=None):
        """Returns status and JSON; raises OSError where there is no answer."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                             timeout=self.timeout)
            self.connection.request(method, path, json.dumps(body) if body is not None else None,
                                    {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(str(error)) from error

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def fill(server, corpus, count, seed=3, prefix="d", batch=200):
    """Writes so many documents."""
    draw = random.Random(seed)
    client = Client(server.port)
    for at in range(0, count, batch):
        changes = {f"{prefix}{i}": draw.randrange(len(corpus.texts.texts))
                   for i in range(at, min(at + batch, count))}
        put(client, corpus, changes)
    client.close()


def put(client, corpus, changes):
    begun = corpus.begin(changes)
    status, answer = client.call("POST", "/documents",
                                 [{"id": identity, "text": corpus.texts.texts[text]}
                                  for identity, text in changes.items()])
    assert status == 200, answer
    corpus.acknowledge(begun)


def ask(client, corpus, query, k=10):
    """A search, which must be right; returns the fingerprint that answered."""
    since = time.monotonic()
    status, answer = client.call("POST", "/search",
                                 {"query": corpus.texts.queries[query], "k": k})
    assert status == 200, answer
    fault = corpus.fault_of(query, k, answer, since, time.monotonic())
    assert fault is None, fault
    return answer["model"]["fingerprint"]


def check_all(server, corpus, letter=None):
    """Every query is answered as it should be, and by that model."""
    client = Client(server.port)
    for query in range(len(corpus.texts.queries)):
        fingerprint = ask(client, corpus, query, k=50)
        assert letter is None or fingerprint == corpus.texts.letters[letter]
    client.close()


class Traffic:
    """Steady searches, writes and deletes beside a test; `with` it, and nothing must be wrong.

    `lossy`: an answer may be missing (the front is killed), and a write whose answer is missing may
    or may not have been done."""

    def __init__(self, server, corpus, searchers=2, writers=2, ids=200, lossy=False,
                 pause=0.002, allowed=()):
        self.server, self.corpus, self.lossy = server, corpus, lossy
        self.pause, self.allowed = pause, set(allowed)
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.counts = {"searches": 0, "writes": 0, "deletes": 0, "lost": 0, "refused": 0}
        self.by_model = {}
        self.failed, self.wrong = [], []
        self.threads = [threading.Thread(target=self._search, args=(i,)) for i in range(searchers)]
        self.threads += [threading.Thread(target=self._write, args=(i, ids))
                         for i in range(writers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, kind, *exception):
        if kind is None:
            self.wait_for(20)
        self.ending.set()
        for thread in self.threads:
            thread.join()
        if kind is None:
            assert not self.failed and not self.wrong, (self.failed[:3], self.wrong[:3],
                                                        self.counts)

    def wait_for(self, searches, writes=5, timeout=120):
        """Until so many more were done: what has happened has been met by traffic."""
        with self.lock:
            goal = dict(self.counts)
        deadline = time.monotonic() + timeout
        while any(self.counts[what] < goal[what] + more and kind
                  for what, more, kind in (("searches", searches, self._has("_search")),
                                           ("writes", writes, self._has("_write")))):
            if self.failed or self.wrong:
                return
            assert time.monotonic() < deadline, (self.counts, goal)
            time.sleep(0.01)

    def _has(self, name):
        return any(thread._target.__name__ == name for thread in self.threads)

    def _count(self, what, model=None):
        with self.lock:
            self.counts[what] += 1
            if model is not None:
                self.by_model[model] = self.by_model.get(model, 0) + 1

    def _call(self, client, *arguments):
        """None: there was no answer, and there need not be one."""
        try:
            status, answer = client.call(*arguments)
        except OSError as error:
            if not self.lossy:
                self.failed.append((arguments[:2], str(error)))
            self._count("lost")
            time.sleep(0.02)
            return None
        if status == 200:
            return answer
        if status not in self.allowed:
            self.failed.append((arguments[:2], status, answer))
        self._count("refused")
        time.sleep(0.05)
        return None

    def _search(self, number):
        draw = random.Random(1000 + number)
        client = Client(self.server.port)
        while not self.ending.is_set():
            query, k = draw.randrange(len(self.corpus.texts.queries)), draw.choice([1, 10, 40])
            since = time.monotonic()
            answer = self._call(client, "POST", "/search",
                                {"query": self.corpus.texts.queries[query], "k": k})
            if answer is None:
                continue
            fault = self.corpus.fault_of(query, k, answer, since, time.monotonic())
            if fault is not None:
                self.wrong.append(fault)
            self._count("searches", answer["model"]["fingerprint"])
            time.sleep(self.pause)
        client.close()

    def _write(self, number, ids):
        draw = random.Random(2000 + number)
        client = Client(self.server.port)
        while not self.ending.is_set():
            mine = [f"w{number}-{draw.randrange(ids)}" for _ in range(draw.randint(1, 5))]
            deletes = draw.random() < 0.3
            changes = {identity: None if deletes else draw.randrange(len(self.corpus.texts.texts))
                       for identity in mine}
            begun = self.corpus.begin(changes)
            if deletes:
                answer = self._call(client, "POST", "/documents/delete", {"ids": list(changes)})
            else:
                answer = self._call(client, "POST", "/documents",
                                    [{"id": identity, "text": self.corpus.texts.texts[text]}
                                     for identity, text in changes.items()])
            if answer is not None:
                self.corpus.acknowledge(begun)
                self._count("deletes" if deletes else "writes")
            time.sleep(self.pause)
        client.close()
