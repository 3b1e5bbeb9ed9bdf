"""Vectors that come with documents: whose they are, and what is refused. `moult import --vectors`
compares them before it sends any."""

import base64
import json
import random
import struct

import numpy
import pytest

from fixtures import moult


@pytest.fixture
def name():
    """A collection that no other test has."""
    return "c" + random.randbytes(8).hex()


def vectors_of(server, texts):
    answer = server.post("/v1/embeddings", {"model": "tiny:document", "input": texts})
    assert answer.status == 200, answer
    return [datum["embedding"] for datum in answer.json["data"]]


def put(server, name, body):
    return server.post(f"/collections/{name}/documents", body)


def refused(answer, status, message):
    assert answer.status == status and message in answer.json["error"]["message"], answer


def test_documents_come_with_vectors(tiny, name):
    texts = ["London", "a river", "bread"]
    vectors = vectors_of(tiny, texts)
    as_bytes = base64.b64encode(struct.pack(f"<{len(vectors[1])}f", *vectors[1])).decode()
    answer = put(tiny, name, {"fingerprint": tiny.fingerprint(), "documents": [
        {"id": "0", "text": texts[0], "vector": vectors[0]},
        {"id": "1", "text": texts[1], "vector": as_bytes, "metadata": {"a": 1}},
        {"id": "2", "text": texts[2]}]})
    assert answer.status == 200, answer
    assert answer.json["upserted"] == 3 and answer.json["ids"] == ["0", "1", "2"]
    assert answer.json["vectors"] == 2
    assert tiny.get(f"/collections/{name}/documents/1").json == \
        {"id": "1", "text": "a river", "metadata": {"a": 1}}
    answer = put(tiny, name, [{"id": "3", "text": "x"}])
    assert answer.json.keys() == {"upserted", "ids"}


def test_a_search_meets_the_vectors_that_came(tiny, name):
    """Nothing compares them with the texts here, so these can be told from what would be made."""
    texts = [f"text {number}" for number in range(300)]
    other = vectors_of(tiny, [f"another {number}" for number in range(300)])
    answer = put(tiny, name, {"fingerprint": tiny.fingerprint(), "documents": [
        {"id": str(number), "text": text, "vector": [-2 * value for value in other[number]]}
        for number, text in enumerate(texts)]})
    assert answer.json["vectors"] == 300, answer
    for number in (0, 17, 299):
        found = tiny.post(f"/collections/{name}/search", {
            "vector": [-value for value in other[number]], "fingerprint": tiny.fingerprint(),
            "k": 1})
        assert found.status == 200, found
        assert found.json["results"][0]["id"] == str(number)
        assert found.json["results"][0]["score"] > 0.99999


def test_what_is_too_long_for_one_vector_is_embedded(tiny, name):
    vector = vectors_of(tiny, ["x"])[0]
    answer = put(tiny, name, {"fingerprint": tiny.fingerprint(), "documents": [
        {"id": "long", "text": "a river " * 500, "vector": vector},
        {"id": "short", "text": "a river", "vector": vector}]})
    assert answer.status == 200 and answer.json["vectors"] == 1, answer


def test_of_another_model_they_are_refused(tiny, name):
    document = {"id": "0", "text": "x", "vector": vectors_of(tiny, ["x"])[0]}
    refused(put(tiny, name, {"fingerprint": "0" * 64, "documents": [document]}), 409,
            "No model with the fingerprint 0000000000000000 serves now")
    assert tiny.get(f"/collections/{name}/documents/0").status == 404
    answer = put(tiny, name, {"fingerprint": tiny.fingerprint()[:16], "documents": [document]})
    assert answer.status == 200, answer


def test_what_is_no_vector_is_refused(tiny, name):
    fingerprint = tiny.fingerprint()

    def try_one(message, **more):
        body = {"fingerprint": fingerprint, "documents": [{"text": "x", **more}]}
        refused(put(tiny, name, body), 400, message)
    try_one('documents[0]: "vector" must be', vector=[])
    try_one('documents[0]: "vector" must be', vector=[0.0] * 32)
    try_one('documents[0]: "vector" must be', vector=["1"])
    try_one('documents[0]: "vector" must be', vector="AAAA")
    try_one('there is no "vectors"', vectors=[1])
    refused(put(tiny, name, [{"text": "x", "vector": [1]}]), 400, 'there is no "vector"')
    refused(put(tiny, name, {"documents": [{"text": "x"}]}), 400, "16 to 64 hex digits")
    refused(put(tiny, name, {"documents": [], "fingerprint": fingerprint}), 400, "no documents")


# ---- moult import --vectors ----

def run(server, *arguments, code=0):
    done = moult("import", "--url", f"http://127.0.0.1:{server.port}", *arguments)
    assert done.returncode == code, done
    return done.stdout.decode() + done.stderr.decode()


class Files:
    """Documents, and what the tiny model makes of them as documents."""

    def __init__(self, folder, model, count=700):
        self.documents, self.vectors = folder / "documents.jsonl", folder / "vectors.npy"
        texts = [f"text {number} of a river" for number in range(count)]
        self.documents.write_text("".join(
            json.dumps({"id": f"{number:04}", "text": text}) + "\n"
            for number, text in enumerate(texts)))
        (folder / "texts").write_text("".join(text + "\n" for text in texts))
        done = moult("embed", model, "--prompt", "document", "--input", folder / "texts",
                     "--output", self.vectors)
        assert done.returncode == 0, done

    def save(self, change):
        numpy.save(self.vectors, change(numpy.load(self.vectors)))


@pytest.fixture
def files(tmp_path, tiny_model):
    return Files(tmp_path, tiny_model)


def imported(server, name):
    answer = server.get(f"/collections/{name}")
    return answer.json["documents"] if answer.status == 200 else 0


@pytest.mark.parametrize("kind", ["<f4", "<f2", "<f8"])
def test_vectors_that_fit_are_sent(tiny, name, files, kind):
    files.save(lambda vectors: (vectors * 3).astype(kind))
    said = run(tiny, files.documents, "--vectors", files.vectors, "--collection", name)
    assert "The vectors fit: of 256 documents that were encoded again, the lowest cosine is" in said
    assert "imported 700 documents" in said and ", 700 with the vectors that were there" in said
    assert imported(tiny, name) == 700


def test_others_are_refused_with_the_figures(tiny, name, files):
    def refused_with(change, message):
        files.save(change)
        said = run(tiny, files.documents, "--vectors", files.vectors, "--collection", name, code=1)
        assert message in said and imported(tiny, name) == 0
        return said
    said = refused_with(lambda vectors: vectors[::-1], "of 256 documents that it encoded again")
    assert "have a cosine below 0.999 (lowest " in said and "Nothing is imported." in said
    refused_with(lambda vectors: vectors[::-1][:699], "There are 699 vectors and 700 records")
    refused_with(lambda vectors: vectors[:, :16], "There are 699 vectors and 700 records")
    refused_with(lambda vectors: numpy.zeros((700, 16)), "The vectors have 16 dimensions, and")
    refused_with(lambda vectors: numpy.zeros((700, 32)), "lowest 0.0000")
    refused_with(lambda vectors: numpy.full((700, 32), numpy.nan), "not finite")
    refused_with(lambda vectors: numpy.zeros((700, 32), order="F"), "Fortran's order")
    refused_with(lambda vectors: numpy.zeros(700), "two dimensions")


def test_with_few_documents_all_are_compared(tiny, name, tmp_path, tiny_model):
    files = Files(tmp_path, tiny_model, 20)

    def spoil(vectors):
        vectors[13] = -vectors[13]
        return vectors
    files.save(spoil)
    said = run(tiny, files.documents, "--vectors", files.vectors, "--collection", name, code=1)
    assert "of 20 documents that it encoded again, 1 have" in said
    assert "(lowest -1.0000, on line 14;" in said


def test_rows_of_records_that_are_left_out(tiny, name, files):
    lines = files.documents.read_text().splitlines(keepends=True)
    files.documents.write_text("".join("nonsense\n" if number % 7 == 3 else line
                                       for number, line in enumerate(lines)))
    said = run(tiny, files.documents, "--vectors", files.vectors, "--collection", name,
               "--skip-bad")
    assert "imported 600 documents" in said and ", 600 with the vectors that were there" in said
    assert imported(tiny, name) == 600
