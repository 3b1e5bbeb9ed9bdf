"""Vectors that come with documents: whose they are, and what is refused."""

import base64
import random
import struct

import pytest


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
    assert isinstance(answer.json["vectors"], int)
    assert tiny.get(f"/collections/{name}/documents/1").json == \
        {"id": "1", "text": "a river", "metadata": {"a": 1}}
    answer = put(tiny, name, [{"id": "3", "text": "x"}])
    assert answer.json.keys() == {"upserted", "ids"}


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
