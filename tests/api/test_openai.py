"""OpenAI's dialect, by its own client and by hand."""

import base64
import struct

import openai
import pytest

MOST = 2e-6     # Between sentence-transformers' f32 and ours.


@pytest.fixture(scope="module")
def client(real):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{real.port}/v1", api_key="unused",
                         max_retries=0)


def post(server, **body):
    return server.post("/v1/embeddings", {"model": "minilm", **body})


def distance(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def unit(vector):
    norm = sum(x * x for x in vector) ** 0.5
    return [x / norm for x in vector]


def test_the_client_as_it_comes(client, real, golden):
    """Without a format it asks for base64 and decodes it."""
    texts = [text for text, _ in golden[:32]]
    answer = client.embeddings.create(model="minilm", input=texts)
    assert answer.object == "list"
    assert [item.index for item in answer.data] == list(range(32))
    assert all(item.object == "embedding" for item in answer.data)
    for item, (text, vector) in zip(answer.data, golden):
        assert distance(item.embedding, vector) <= MOST, text
    assert answer.model == f"minilm@{real.fingerprint()[:8]}"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens >= 3 * 32


def test_float_and_base64_are_the_same_bits(real):
    for text in ("How big is London?", ["one", "two and three"]):
        plain = post(real, input=text, encoding_format="float").json
        packed = post(real, input=text, encoding_format="base64").json
        for a, b in zip(plain["data"], packed["data"], strict=True):
            raw = base64.b64decode(b["embedding"], validate=True)
            assert struct.pack("<384f", *a["embedding"]) == raw
        assert plain["usage"] == packed["usage"]


def test_dimensions_cut_and_renormalise(client):
    whole = client.embeddings.create(model="minilm", input="How big is London?").data[0].embedding
    for dimensions in (1, 7, 256, 384):
        cut = client.embeddings.create(model="minilm", input="How big is London?",
                                       dimensions=dimensions).data[0].embedding
        assert distance(cut, unit(whole[:dimensions])) < 1e-6


def test_null_for_everything_optional(real):
    answer = post(real, input="a", encoding_format=None, dimensions=None, user=None)
    assert answer.status == 200
    assert isinstance(answer.json["data"][0]["embedding"], list)
    assert real.post("/v1/embeddings", {"input": "a"}).status == 200
    assert real.post("/v1/embeddings", {"input": "a", "model": None}).status == 200


def test_fields_of_other_servers_are_no_hindrance(real):
    answer = post(real, input="a", user="u", input_type="query", truncate="END",
                  extra_body={"deep": [1]}, dimensions=3)
    assert answer.status == 200 and len(answer.json["data"][0]["embedding"]) == 3


def test_usage_counts_tokens_with_the_special_ones(real):
    usage = post(real, input=["london", "how big is london"]).json["usage"]
    assert usage == {"prompt_tokens": 3 + 6, "total_tokens": 3 + 6}


def test_truncation_is_counted(real):
    answer = post(real, input=["word " * 1000, "short"])
    assert answer.status == 200
    assert answer.headers["x-moult-truncated"] == "1"
    assert answer.json["usage"]["prompt_tokens"] == 256 + 3


def test_the_answer_says_who_gave_it(real):
    answer = post(real, input="a")
    assert answer.headers["x-moult-generation"] == str(real.generation())
    assert answer.headers["x-moult-fingerprint"] == real.fingerprint()[:16]
    assert answer.headers["content-type"] == "application/json"


def test_names_that_clients_send_mean_the_only_slot(real):
    for name in ("text-embedding-3-small", "", "sentence-transformers/all-MiniLM-L6-v2"):
        assert post(real, input="a", model=name).status == 200
    exact = f"minilm@{real.fingerprint()[:8]}"
    assert post(real, input="a", model=exact).json["model"] == exact


def test_prompts_by_name(tiny):
    def vector(text, model):
        answer = tiny.post("/v1/embeddings", {"input": text, "model": model})
        assert answer.status == 200
        return answer.json["data"][0]["embedding"]
    bare = vector("how big is london", "tiny")
    query = vector("how big is london", "tiny:query")
    assert query == vector("question: how big is london", "tiny") != bare
    assert vector("how big is london", "tiny:document") == \
        vector("passage: how big is london", "tiny")
    assert vector("how big is london", f"tiny@{tiny.fingerprint()[:8]}:query") == query


def test_models_are_listed(client, real):
    label = f"minilm@{real.fingerprint()[:8]}"
    listed = list(client.models.list())
    assert [model.id for model in listed] == ["minilm", label]
    for model in listed:
        assert model.object == "model" and model.owned_by == "moult" and model.created > 1.7e9
        assert model.generation == real.generation()
        assert model.fingerprint == real.fingerprint()
        assert model.retires_at is None
        assert client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("text-embedding-3-small")


def error_of(answer, status):
    assert answer.status == status, answer
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".") and answer.json.keys() == {"error"}
    return error


@pytest.mark.parametrize("body, param", [
    ({}, "input"), ({"input": None}, "input"), ({"input": 5}, "input"), ({"input": {}}, "input"),
    ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input"),
    ({"input": ["a", 5]}, "input"), ({"input": ["a", None]}, "input"),
    ({"input": ["a"] * 2049}, "input"), ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": 385}, "dimensions"),
    ({"input": "a", "dimensions": -1}, "dimensions"),
    ({"input": "a", "dimensions": 1.5}, "dimensions"),
    ({"input": "a", "dimensions": "8"}, "dimensions"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ({"input": "a", "encoding_format": 1}, "encoding_format"),
    ({"input": "a", "model": 5}, "model")])
def test_bad_requests(real, body, param):
    error = error_of(real.post("/v1/embeddings", body), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param and param in error["message"]


def test_2048_texts_are_taken(tiny):
    answer = tiny.post("/v1/embeddings", {"input": ["a"] * 2048, "encoding_format": "base64"})
    assert answer.status == 200
    data = answer.json["data"]
    assert [item["index"] for item in data] == list(range(2048))
    assert len({item["embedding"] for item in data}) == 1


def test_token_ids_are_refused_with_the_way_out(client, real):
    for ids in ([1, 2, 3], [[1, 2], [3]]):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="minilm", input=ids)
        assert "check_embedding_ctx_length=False" in caught.value.message
    error_of(post(real, input=["a", 7]), 400)


def test_an_exact_name_that_is_not_there(client, real):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="minilm@00000000", input="a")
    assert f"minilm@{real.fingerprint()[:8]}" in caught.value.message
    error = error_of(post(real, input="a", model="minilm@00000000"), 404)
    assert error["code"] == "model_not_found" and error["param"] == "model"


def test_wrong_method_and_path(real):
    answer = real.get("/v1/embeddings")
    error_of(answer, 405)
    assert answer.headers["allow"] == "POST"
    assert error_of(real.get("/v1/engines"), 404)["code"] == "unknown_url"


def test_strict_models(serve, tiny_model):
    server = serve(tiny_model, options=["--strict-models"])
    body = {"input": "a", "model": "text-embedding-3-small"}
    assert error_of(server.post("/v1/embeddings", body), 404)["code"] == "model_not_found"
    assert server.post("/v1/embeddings", {"input": "a", "model": "tiny"}).status == 200


def test_overlong_texts_can_be_errors(serve, tiny_model):
    server = serve(tiny_model, options=["--overlong", "error"])
    answer = server.post("/v1/embeddings", {"input": ["a", "word " * 100]})
    assert "[1]" in error_of(answer, 400)["message"]
    assert server.post("/v1/embeddings", {"input": "word"}).status == 200
    assert server.get("/info").json["auto_truncate"] is False
