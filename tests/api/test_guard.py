"""Keys, and what browsers carry in from foreign pages."""

import openai
import pytest
from huggingface_hub import InferenceClient

import raw

BODY = {"inputs": "how big is london"}


@pytest.fixture(scope="module")
def keyed(tiny_model, tmp_path_factory):
    from serving import Server

    class KeyedServer(Server):
        def call(self, method, path, body=None, headers=None, **more):
            headers = {"Authorization": "Bearer s3cret", **(headers or {})}
            return super().call(method, path, body, headers, **more)

    place = tmp_path_factory.mktemp("keyed")
    (place / "key").write_text("s3cret\n")
    (place / "key").chmod(0o600)
    with KeyedServer(place / "data", tiny_model, options=["--api-key-file", place / "key"]) \
            as server:
        yield server


def test_the_key_is_wanted(keyed):
    for authorization in (None, "", "Bearer wrong", "Bearer s3cret2", "Bearer", "Basic s3cret"):
        headers = [f"Authorization: {authorization}"] if authorization is not None else []
        for request, shape in (
                (raw.post("/embed", '{"inputs":"a"}', *headers), "error_type"),
                (raw.post("/v1/embeddings", '{"input":"a"}', *headers), "invalid_api_key"),
                (raw.post("/update_model", "{}", *headers), "unauthorized"),
                (raw.get("/?q=a", *headers), "unauthorized"),
                (raw.get("/v1/models", *headers), "invalid_api_key"),
                (raw.get("/info", *headers), "error_type"),
                (raw.get("/nowhere", *headers), "unauthorized")):
            answer = raw.ask(keyed, request)
            assert answer.status == 401 and shape in answer.body.decode(), request
            assert answer.headers["www-authenticate"] == "Bearer"
    assert keyed.post("/embed", BODY).status == 200
    assert keyed.get("/?q=a").status == 200


def test_probes_need_none(keyed):
    for path in ("/health", "/ping"):
        assert raw.ask(keyed, raw.get(path)).status == 200


def test_the_clients_send_it(keyed):
    url = f"http://127.0.0.1:{keyed.port}"
    client = openai.OpenAI(base_url=url + "/v1", api_key="s3cret", max_retries=0)
    assert len(client.embeddings.create(model="tiny", input="a").data) == 1
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0).models.list()
    assert InferenceClient(model=url, token="s3cret").feature_extraction("a").shape == (1, 32)


def test_host_does_not_matter_with_a_key(keyed):
    assert keyed.get("/info", headers={"Host": "gpu7.cluster"}).status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:99"])
def test_own_hosts(tiny, host):
    assert tiny.get("/info", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "169.254.169.254",
                                  "127.0.0.1.evil.example:8080"])
def test_foreign_hosts(tiny, host):
    for method, path, body in (("GET", "/?q=a", None), ("POST", "/embed", BODY),
                               ("POST", "/update_model", {}), ("GET", "/health", None)):
        assert tiny.call(method, path, body, {"Host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost:80a", "localhost:65536", "localhost:80:80", ":80",
                                  "user@localhost", "[::1"])
def test_malformed_hosts(tiny, host):
    assert tiny.get("/info", headers={"Host": host}).status == 400


def test_allowed_host(serve, tiny_model):
    server = serve(tiny_model, options=["--allowed-host", "models.internal"])
    assert server.get("/info", headers={"Host": "models.internal:8080"}).status == 200
    assert server.get("/info", headers={"Host": "other.internal"}).status == 403


def test_foreign_origins(tiny):
    own = f"http://127.0.0.1:{tiny.port}"
    for origin in ("http://evil.example", "null", "http://localhost:3000"):
        assert tiny.post("/embed", BODY, headers={"Origin": origin}).status == 403
        assert tiny.post("/rollback", headers={"Origin": origin}).status == 403
        answer = tiny.call("OPTIONS", "/embed", headers={"Origin": origin})
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers
    assert tiny.post("/embed", BODY, headers={"Origin": own}).status == 200


def test_cors(serve, tiny_model):
    server = serve(tiny_model, options=["--cors-origin", "https://app.example"])
    origin = {"Origin": "https://app.example"}
    answer = server.call("OPTIONS", "/v1/embeddings", headers={
        **origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type"})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]
    answer = server.post("/embed", BODY, headers=origin)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-moult-generation" in answer.headers["access-control-expose-headers"]
    assert server.post("/embed", BODY, headers={"Origin": "https://evil.example"}).status == 403
