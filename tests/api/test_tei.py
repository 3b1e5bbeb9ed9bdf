"""text-embeddings-inference's dialect, by huggingface_hub's client and by hand."""

import json

import huggingface_hub
import numpy
import pytest

import models
from fixtures import moult

MOST = 2e-6


@pytest.fixture(scope="module")
def client(real):
    return huggingface_hub.InferenceClient(model=f"http://127.0.0.1:{real.port}")


def distance(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def norm(vector):
    return sum(x * x for x in vector) ** 0.5


def embed(server, inputs, **more):
    answer = server.post("/embed", {"inputs": inputs, **more})
    assert answer.status == 200, answer
    return answer.json


def test_the_client_posts_to_the_url_itself(client, golden):
    for text, vector in golden[:8]:
        result = client.feature_extraction(text)
        assert result.shape == (1, 384)
        assert distance(result[0].tolist(), vector) <= MOST, text
    many = client.feature_extraction([text for text, _ in golden[:8]])
    assert many.shape == (8, 384)


def test_the_client_s_options(client):
    plain = client.feature_extraction("How big is London?")
    for options in ({"normalize": True}, {"truncate": True}, {"prompt_name": "query"},
                    {"truncate": True, "truncation_direction": "left"},
                    {"truncate": True, "truncation_direction": "right"}):
        assert (client.feature_extraction("How big is London?", **options) == plain).all()


def test_every_golden_text(real, golden):
    vectors = embed(real, [text for text, _ in golden])
    worst = max(distance(got, wanted) for got, (_, wanted) in zip(vectors, golden, strict=True))
    assert worst <= MOST


def test_the_same_bits_as_the_command(real, real_model, golden, tmp_path):
    """`moult embed` knows neither HTTP nor a worker."""
    texts = [text for text, _ in golden if "\n" not in text and "\r" not in text]
    (tmp_path / "texts").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    done = moult("embed", real_model, "--precision", "f32",
                 "--input", tmp_path / "texts", "--output",
                 tmp_path / "vectors.npy")
    assert done.returncode == 0, done.stderr
    wanted = numpy.load(tmp_path / "vectors.npy")
    got = numpy.array(embed(real, texts), dtype=numpy.float32)
    assert len(texts) > 100 and (got == wanted).all()


def test_one_and_many_are_lists_of_lists_and_the_same_bits(real):
    one = embed(real, "How big is London?")
    assert len(one) == 1 and len(one[0]) == 384
    many = embed(real, ["Paris", "How big is London?", "x " * 300])
    assert many[1] == one[0]


def test_each_path(real):
    body = {"inputs": "How big is London?"}
    answers = [real.post(path, body) for path in ("/embed", "/", "/invocations")]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1


def test_headers(real):
    answer = real.post("/embed", {"inputs": ["héllo", "x"]})
    assert answer.headers["x-compute-type"] == "cpu"
    assert answer.headers["x-compute-characters"] == "6"
    assert answer.headers["x-compute-tokens"] == "6"
    for name in ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time",
                 "x-inference-time"):
        assert answer.headers[name].isdigit(), name
    assert answer.headers["x-moult-generation"] == str(real.generation())
    assert answer.headers["x-moult-fingerprint"] == real.fingerprint()[:16]
    assert answer.headers["x-moult-truncated"] == "0"


def test_normalize(tiny):
    plain, = embed(tiny, "how big is london")
    raw, = embed(tiny, "how big is london", normalize=False)
    assert abs(norm(plain) - 1) < 1e-6
    assert distance([x / norm(raw) for x in raw], plain) < 1e-6
    assert embed(tiny, "how big is london", normalize=None) == [plain]


def test_dimensions_are_cut_before_the_norm(tiny):
    whole, = embed(tiny, "how big is london")
    cut, = embed(tiny, "how big is london", dimensions=8)
    assert distance(cut, [x / norm(whole[:8]) for x in whole[:8]]) < 1e-6
    raw, = embed(tiny, "how big is london", dimensions=8, normalize=False)
    assert raw == embed(tiny, "how big is london", normalize=False)[0][:8]


def test_prompts(tiny):
    query = embed(tiny, "how big is london", prompt_name="query")
    assert query == embed(tiny, "question: how big is london")
    assert query != embed(tiny, "how big is london")
    assert embed(tiny, "it is big", prompt_name="document") == embed(tiny, "passage: it is big")


def test_model_header(tiny):
    def ask(model):
        return tiny.post("/embed", {"inputs": "how big is london"},
                         headers={"x-moult-model": model})
    assert ask("tiny:query").json == embed(tiny, "question: how big is london")
    assert ask(f"tiny@{tiny.fingerprint()[:8]}").status == 200
    answer = ask("tiny@00000000")
    assert answer.status == 404 and answer.json.keys() == {"error", "error_type"}


def test_truncation(tiny):
    words = models.WORDS[:100] * 2
    text, first, last = " ".join(words), " ".join(words[:62]), " ".join(words[-62:])
    answer = tiny.post("/embed", {"inputs": text, "truncate": True})
    assert answer.headers["x-moult-truncated"] == "1"
    assert answer.headers["x-compute-tokens"] == "64"
    assert answer.json == embed(tiny, first)
    left = "how big " + "year " * 100 + "london is big"
    assert embed(tiny, left, truncate=True, truncation_direction="Left") == \
        embed(tiny, "year " * 59 + "london is big")
    assert embed(tiny, text, truncate=None) == embed(tiny, first) != embed(tiny, last)
    answer = tiny.post("/embed", {"inputs": text, "truncate": False})
    assert answer.status == 422 and answer.json["error_type"] in ("Validation", "Tokenizer")
    assert "64" in answer.json["error"]


@pytest.mark.parametrize("body, status, kind", [
    ({}, 422, "Validation"), ({"inputs": None}, 422, "Validation"),
    ({"inputs": 1}, 422, "Validation"), ({"inputs": [[1, 2]]}, 422, "Validation"),
    ({"inputs": ""}, 400, "Empty"), ({"inputs": []}, 400, "Empty"),
    ({"inputs": ["a", ""]}, 400, "Empty"), ({"inputs": ["a"] * 2049}, 422, "Validation"),
    ({"inputs": "a", "dimensions": 0}, 422, "Validation"),
    ({"inputs": "a", "dimensions": 33}, 422, "Validation"),
    ({"inputs": "a", "normalize": "yes"}, 422, "Validation"),
    ({"inputs": "a", "truncate": 1}, 422, "Validation"),
    ({"inputs": "a", "truncation_direction": "Up"}, 422, "Validation"),
    ({"inputs": "a", "prompt_name": "other"}, 422, "Validation"),
    ({"inputs": "a", "prompt_name": 1}, 422, "Validation")])
def test_bad_requests(tiny, body, status, kind):
    answer = tiny.post("/embed", body)
    assert answer.status == status, answer
    assert answer.json.keys() == {"error", "error_type"}
    assert answer.json["error_type"] == kind and answer.json["error"].endswith(".")


def test_info(real, real_model):
    info = real.get("/info").json
    slot = real.slot()
    assert info["served_model_name"] == "minilm"
    assert info["model_id"] == str(real_model.resolve())
    assert len(info["model_sha"]) == 64
    assert info["model_dtype"] == "float32"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 256 and info["max_client_batch_size"] == 2048
    assert info["auto_truncate"] is True and info["tokenization_workers"] >= 1
    assert info["max_concurrent_requests"] == 512
    assert info["generation"] == slot["generation"]
    assert info["fingerprint"] == slot["fingerprint"]
    assert info["precision"] == "f32" and info["fidelity"] == 1 and info["dimensions"] == 384
    assert info["kernels"] in ("c", "avx2", "avxvnni", "avx512", "avx512vnni")
    assert info["version"] == real.get("/").body.split()[1].decode()


def test_health(real):
    for path in ("/health", "/ping"):
        answer = real.get(path)
        assert answer.status == 200 and answer.body == b""


def test_health_before_the_first_model(serve, real_model):
    """503 until it is loaded, and 200 from then on."""
    server = serve(real_model, ready=False)
    statuses = []
    while not statuses or statuses[-1] != 200:
        assert server.process.poll() is None
        try:
            answer = server.get("/health")
        except OSError:
            continue
        statuses.append(answer.status)
        if answer.status == 503:
            assert json.loads(answer.body) == {"error": "unhealthy", "error_type": "Unhealthy"}
            early = server.post("/embed", {"inputs": "a"})
            assert early.status in (200, 503)
            assert early.status == 200 or early.headers["retry-after"] == "1"
    assert set(statuses) == {200, 503}
    assert all(server.get("/health").status == 200 for _ in range(20))
