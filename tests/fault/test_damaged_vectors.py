"""Damaged files of vectors: what cannot be read is embedded again, while searches wait, and nothing
else is noticed."""

import os

import pytest

from serving import until

COUNT = 120
HEAD = 4096
THINGS = ["the river", "a house", "bread", "London", "old music", "rain", "a train", "the moon"]
DOINGS = ["is blue", "was sold", "grows quickly", "falls slowly", "costs nothing"]
QUERIES = ["a blue river", "who sells bread", "music in London"]


def document(number):
    text = f"{THINGS[number % 8]} {DOINGS[number % 5]} and {THINGS[number // 8 % 8]} {number}"
    return {"id": f"doc {number:03}", "text": text}


def answers(server):
    """Hits with their scores; of vectors that are made anew the same bits."""
    found = []
    for query in QUERIES:
        answer = server.post("/search", {"query": query, "k": 20})
        assert answer.status == 200, answer
        found.append([(hit["id"], hit["score"], hit["text"]) for hit in answer.json["results"]])
    return found


def rows_file(server):
    files = [path for path in (server.data / "vectors").glob("*.rows")
             if path.stat().st_size > HEAD]
    assert len(files) == 1
    return files[0]


def damage(path, which=lambda row: True):
    """One bit of the vector of each of these rows."""
    count = 0
    with open(path, "r+b") as file:
        file.seek(16)
        width = int.from_bytes(file.read(4), "little")
        stride = 16 + 4 * width
        for row in range((path.stat().st_size - HEAD) // stride):
            place = HEAD + row * stride + 16 + row % (4 * width)
            file.seek(place)
            byte = file.read(1)[0]
            if which(row):
                file.seek(place)
                file.write(bytes([byte ^ 16]))
                count += 1
    return count


@pytest.fixture
def filled(serve, tiny):
    server = serve(tiny["a"])
    documents = [document(number) for number in range(COUNT)]
    assert server.post("/documents", documents).status == 200
    return server


@pytest.mark.parametrize("step", [1, 7], ids=["all", "some"])
def test_rows_go_bad_while_they_are_searched(filled, step):
    """Nobody writes: it is the search that finds out, and it waits."""
    before = answers(filled)
    assert damage(rows_file(filled), lambda row: row % step == 0) >= COUNT // step
    assert answers(filled) == before
    until("there is no more to be made again",
          lambda: "damaged on the disk" in filled.log() and answers(filled) == before)
    filled.stop()
    filled.models = []
    filled.start()
    assert answers(filled) == before


@pytest.mark.parametrize("kind", ["rows", "head", "cut off", "gone", "empty", "noise"])
def test_damage_is_found_at_the_start(filled, kind):
    before = answers(filled)
    filled.kill()
    path = rows_file(filled)
    if kind == "rows":
        damage(path, lambda row: row % 3 == 0)
    elif kind == "head":
        with open(path, "r+b") as file:
            file.seek(30)
            file.write(b"?")
    elif kind == "cut off":
        os.truncate(path, HEAD + (path.stat().st_size - HEAD) // 2 - 5)
    elif kind == "gone":
        path.unlink()
    elif kind == "empty":
        os.truncate(path, 0)
    else:
        path.write_bytes(os.urandom(path.stat().st_size))
    filled.models = []
    filled.start()
    assert answers(filled) == before
    # And it holds: another start makes nothing again.
    until("all is there again", lambda: answers(filled) == before)
    embedded = filled.log().count("damaged on the disk")
    filled.stop()
    filled.start()
    assert answers(filled) == before
    assert filled.log().count("damaged on the disk") == embedded
