"""A damaged documents.db: the server says how to go on, and `moult rescue` saves what is left."""

import random
import re

import pytest

from fixtures import moult

PAGE = 4096
COUNT = 1500


def document(number):
    return {"id": f"doc {number:05}", "text": f"The text of document {number}. " * 5,
            "metadata": {"number": number}}


def numbers_in(server, bare=0):
    """Of the documents that are there, each of which is whole, but for the metadata of some."""
    cursor, numbers = "", set()
    while cursor is not None:
        query = f"?limit=1000&cursor={cursor}" if cursor else "?limit=1000"
        page = server.get("/documents" + query).json
        for found in page["documents"]:
            number = int(found["id"].split()[1])
            bare -= found["metadata"] == {}
            assert found == dict(document(number), metadata=found["metadata"] or {})
            numbers.add(number)
        cursor = page["cursor"]
    assert bare == 0
    return numbers


@pytest.fixture
def filled(serve, tiny):
    """A server that was stopped when it had its documents."""
    server = serve(tiny["a"])
    for first in range(0, COUNT, 500):
        documents = [document(number) for number in range(first, first + 500)]
        assert server.post("/documents", documents).status == 200
    assert server.stop() == 0
    server.models = []
    return server


def expect_refusal(server, *parts):
    server.start(ready=False)
    assert server.wait() == 1
    last = server.log().splitlines()[-1]
    assert "documents.db" in last and len(last) < 1000, last
    assert any(part in last for part in parts), last


def rescue(server):
    done = moult("rescue", "--data", server.data)
    assert done.returncode == 0, done
    return done.stdout.decode()


def bare_of(said):
    """How many documents a rescue has saved without their metadata."""
    found = re.search(r", (\d+) of them without their metadata", said)
    return int(found[1]) if found else 0


def test_it_is_stopped_while_all_is_embedded_again(filled):
    """After a rescue nothing has a vector; portions of documents are with the worker that goes."""
    rescue(filled)
    for _ in range(4):
        filled.start()
        assert filled.stop() == 0
    filled.start()
    assert numbers_in(filled) == set(range(COUNT))


DAMAGES = {
    "empty": (lambda good: b"", "it is empty"),
    "half": (lambda good: good[:len(good) // 2 // PAGE * PAGE], "is damaged"),
    "no database": (lambda good: b"x" * len(good), "not a database"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_taken_for_a_new_one(filled, damage):
    path = filled.data / "documents.db"
    good = path.read_bytes()
    damaged, part = DAMAGES[damage]
    path.write_bytes(damaged(good))
    expect_refusal(filled, part)
    assert path.read_bytes() == damaged(good)
    path.write_bytes(good)
    filled.start()
    assert numbers_in(filled) == set(range(COUNT))


def test_half_of_a_file_is_rescued(filled):
    path = filled.data / "documents.db"
    good = path.read_bytes()
    half = good[:len(good) // 2 // PAGE * PAGE]
    path.write_bytes(half)
    expect_refusal(filled, "moult rescue")
    said = rescue(filled)
    filled.start()
    saved = numbers_in(filled, bare_of(said))
    assert COUNT // 8 < len(saved) < COUNT
    assert said.startswith(f"{len(saved)} documents are saved")
    assert f"; {COUNT - len(saved)} are lost." in said
    assert (filled.data / "documents.db.damaged").read_bytes() == half
    # What was lost can be put again, and what is there goes on.
    lost = [document(number) for number in range(COUNT) if number not in saved]
    for first in range(0, len(lost), 1000):
        assert filled.post("/documents", lost[first:first + 1000]).status == 200
    assert numbers_in(filled, bare_of(said)) == set(range(COUNT))


def test_single_pages_cost_what_lies_in_them(filled):
    path = filled.data / "documents.db"
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // PAGE // 2
    for page in (middle, middle + 9):
        damaged[page * PAGE:(page + 1) * PAGE] = random.Random(1).randbytes(PAGE)
    path.write_bytes(damaged)
    said = rescue(filled)
    filled.start()
    assert len(numbers_in(filled, bare_of(said))) > COUNT * 0.8


@pytest.mark.parametrize("step", ["kept", "without its log"])
def test_a_rescue_goes_on_where_it_was_broken_off(serve, tiny, step):
    """It was killed when the old file had its second name and the new one had not its place yet.
    What is newest is in the log alone."""
    server = serve(tiny["a"])
    assert server.post("/documents", [document(number) for number in range(9)]).status == 200
    server.kill()
    data = server.data
    assert (data / "documents.db-wal").stat().st_size > 0
    (data / "documents.db.damaged-wal").hardlink_to(data / "documents.db-wal")
    (data / "documents.db.damaged").hardlink_to(data / "documents.db")
    (data / "documents.db.rescuing").write_bytes(b"half of one")
    if step == "without its log":
        (data / "documents.db-wal").unlink()
        (data / "documents.db-shm").unlink()
    assert "9 documents are saved." in rescue(server)
    server.models = []
    server.start()
    assert numbers_in(server) == set(range(9))


def test_what_rescue_refuses(serve, tiny, tmp_path):
    def refused(data, part):
        done = moult("rescue", "--data", data)
        said = done.stderr.decode()
        assert done.returncode == 1 and part in said, done
        assert said.startswith("moult rescue: ") and done.stdout == b""

    refused(tmp_path / "nowhere", "cannot be opened")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "There is no")
    (empty / "documents.db").write_bytes(b"no database")
    refused(empty, "Nothing can be read")
    assert (empty / "documents.db").read_bytes() == b"no database"
    server = serve(tiny["a"])
    refused(server.data, "stop it first")
    assert server.post("/documents", document(1)).status == 200
    assert server.stop() == 0
    rescue(server)
    refused(server.data, "from an earlier rescue")
