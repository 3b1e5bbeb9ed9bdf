"""A model that brings vectors of the documents: what fits is taken, and the rest is embedded."""

import hashlib
import json
import shutil

import numpy
import pytest

from fixtures import moult

COUNT = 1500
LONG = "a river that is longer than the model reads " * 30


def texts():
    return [f"text {number} of a river" for number in range(COUNT)] + [LONG, LONG + "."]


@pytest.fixture(scope="module")
def bringing(tiny, tmp_path_factory):
    """bringing(change) → the model b, with vectors of the texts, changed."""
    place = tmp_path_factory.mktemp("bringing")
    (place / "texts").write_text("".join(text + "\n" for text in texts()))
    done = moult("embed", tiny["b"], "--prompt", "document", "--input", place / "texts",
                 "--output", place / "vectors.npy")
    assert done.returncode == 0, done
    vectors = numpy.load(place / "vectors.npy")

    def make(name, change=lambda vectors: vectors, count=len(texts())):
        folder = place / name
        shutil.copytree(tiny["b"], folder)
        (folder / "document_vectors").mkdir()
        numpy.save(folder / "document_vectors/vectors.npy", change(vectors)[:count])
        (folder / "document_vectors/documents.jsonl").write_text("".join(
            json.dumps({"id": str(number),
                        "text_sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n"
            for number, text in enumerate(texts()[:count])))
        return folder
    return make


@pytest.fixture
def server(serve, tiny, tmp_path):
    server = serve(tiny["a"], options=["--allow-model-from", "/"])
    for begin in range(0, len(texts()), 500):
        documents = [{"id": str(begin + number), "text": text}
                     for number, text in enumerate(texts()[begin:begin + 500])]
        answer = server.post("/documents", documents)
        assert answer.status == 200, answer
    return server


def embedded(server):
    """Of the update that ended last."""
    return server.slot()["history"][-1]["documents_embedded"]


def test_what_is_brought_is_not_embedded(server, bringing):
    server.updated(bringing("whole"))
    # Those that are tried first, in portions that are on their way together, and the long ones.
    assert 256 <= embedded(server) <= 1026
    assert "The vectors that tiny@" in server.log() and "are those that it makes" in server.log()


def test_the_rest_is_embedded(server, bringing):
    server.updated(bringing("half", count=1000))
    assert COUNT - 1000 + 256 <= embedded(server) < COUNT


def test_vectors_of_another_model_are_not_used(server, bringing):
    server.updated(bringing("wrong", lambda vectors: vectors[::-1]))
    assert "are not those that it makes, and are not used" in server.log()
    assert embedded(server) == len(texts())


def test_what_cannot_be_read_is_not_used(server, bringing):
    folder = bringing("short")
    (folder / "document_vectors/documents.jsonl").write_text("{}\n")
    server.updated(folder)
    assert "are not used: Line 1 of" in server.log()
    assert embedded(server) == len(texts())
