"""docs/openapi.yaml says what is answered: every route, and the shapes of real answers."""

import json
import pathlib
import re

import jsonschema
import openapi_spec_validator
import pytest
import yaml

import models

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
METHODS = ("get", "post", "put", "patch", "delete")


def operations():
    return {(method.upper(), path): operation for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items() if method in METHODS}


def test_it_is_openapi():
    openapi_spec_validator.validate(DOCUMENT)


def test_it_has_every_route_and_no_other():
    """A prefix in the table of routes is a path that ends in an id, or in a word behind that."""
    source = (ROOT / "src/front/routes.c").read_text()
    routes = set(re.findall(r'\{"([A-Z]+)", "([^"]+)", MOULT_DIALECT', source))
    assert len(routes) > 10

    def route_of(path):
        return path.split("{id}")[0]
    assert routes == {(method, route_of(path)) for method, path in operations()}


def test_it_is_of_this_version():
    version = re.search(r'MOULT_VERSION "([^"]+)"', (ROOT / "include/moult.h").read_text())[1]
    assert DOCUMENT["info"]["version"] == version


def resolved(node):
    while "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def check(method, path, answer):
    """The answer has a status, a type, headers and a body that its operation knows."""
    responses = operations()[method, path]["responses"]
    response = resolved(responses.get(str(answer.status), responses.get("default")))
    for name, header in response.get("headers", {}).items():
        value = answer.headers.get(name)
        if value is not None:
            number = header["schema"]["type"] == "integer"
            jsonschema.validate(int(value) if number else value, header["schema"])
    if "content" not in response:
        assert answer.body == b""
        return
    kind = answer.headers["Content-Type"]
    assert kind in response["content"], (method, path, kind)
    if kind == "application/json":
        schema = dict(response["content"][kind]["schema"], components=DOCUMENT["components"])
        jsonschema.Draft202012Validator(schema).validate(json.loads(answer.body))


def ask_for_documents(ask, prefix):
    start = prefix.replace("{collection}", "some")

    def of(method, path, body=None, template=None):
        return ask(method, start + path, body, prefix + (template or path))
    document = {"id": "a", "text": "a", "metadata": {"n": 1}}
    assert of("POST", "/documents", [document, {"text": "b"}]).status == 200
    assert of("POST", "/documents", {"txt": "b"}).status == 400
    page = of("GET", "/documents?limit=1", template="/documents").json
    of("GET", f"/documents?cursor={page['cursor']}&with_text=false", template="/documents")
    for query in ({"query": "a"}, {"queries": ["a", "c"], "with_text": False}, {"query": ""}):
        for mode in ("text", "vector", "hybrid"):
            of("POST", "/search", {"mode": mode, **query})
    of("POST", "/search", {"query": "a", "with_vector": True, "filter": {"n": 1}, "k": 1})
    for method, body in (("GET", None), ("DELETE", {}), ("GET", None), ("DELETE", {})):
        of(method, "/documents/a", body, "/documents/{id}")
    assert of("POST", "/documents/delete", {"ids": ["a"]}).json == {"deleted": 0}
    assert of("POST", "/documents/delete", {"filter": {"n": 1}}).status == 200


@pytest.fixture(scope="module")
def asked(tiny_model, tmp_path_factory):
    """A server that was told to do what it can, and each answer: [(method, path, answer)]."""
    from serving import Server
    place = tmp_path_factory.mktemp("openapi")
    newer = models.make_tiny(place / "newer" / "tiny", 7)
    answers = []
    with Server(place / "data", tiny_model,
                options=["--allow-model-from", place]) as server:
        def ask(method, path, body=None, template=None, headers=None):
            answer = server.call(method, path, body, headers)
            answers.append((method, template or path, answer))
            return answer
        ask("GET", "/?q=a&k=3", template="/")
        ask("GET", "/")
        ask("GET", "/?q=", template="/")
        for path in ("/", "/embed", "/invocations"):
            assert ask("POST", path, {"inputs": ["a", "b"]}).status == 200
        ask("POST", "/embed", {"inputs": []})
        ask("POST", "/embed", "{")
        ask("POST", "/v1/embeddings", {"input": "a", "model": "tiny"})
        ask("POST", "/v1/embeddings", {"input": "a", "model": "t", "encoding_format": "base64"})
        ask("POST", "/v1/embeddings", {"input": [1, 2]})
        ask("POST", "/update_model", {"wait": True})
        ask("POST", "/update_model", {"model": "/elsewhere"})
        ask("POST", "/update_model", {"model": str(place / "nowhere"), "wait": True})
        first = server.fingerprint()[:8]
        order = ask("POST", "/update_model", {"model": str(newer)}).json["id"]
        ask("GET", f"/update_model/{order}", template="/update_model/{id}")
        server.wait_for_end(order)
        ask("GET", f"/update_model/{order}", template="/update_model/{id}")
        ask("DELETE", f"/update_model/{order}", {}, "/update_model/{id}")
        ask("POST", "/rollback", {"wait": True})
        ask("POST", "/rollback", {"wait": True, "slot": "none"})
        order = ask("POST", "/update_model",
                    {"model": str(newer), "cutover": "manual", "wait": True}).json["id"]
        ask("POST", f"/update_model/{order}/cutover", {"wait": True},
            "/update_model/{id}/cutover")
        ask("POST", "/update_model/999/cutover", {}, "/update_model/{id}/cutover")
        lease = ask("POST", "/leases", {"model": f"tiny@{first}", "ttl": "1h"}).json["id"]
        ask("POST", "/leases", {"model": "tiny", "ttl": "1h"})
        ask("GET", "/leases")
        for method, body in (("GET", None), ("POST", {"ttl": 60}), ("DELETE", {}), ("GET", None)):
            ask(method, f"/leases/{lease}", body, "/leases/{id}")
        ask("POST", "/embed", {"inputs": "a"}, headers={"x-moult-model": f"tiny@{first}"})
        for prefix in ("", "/collections/{collection}"):
            ask_for_documents(ask, prefix)
        ask("GET", "/collections")
        for method, body in (("GET", None), ("DELETE", {}), ("GET", None)):
            ask(method, "/collections/some", body, "/collections/{collection}")
        ask("GET", "/update_model")
        ask("GET", "/v1/models")
        for name in ("tiny", "nothing"):
            ask("GET", f"/v1/models/{name}", template="/v1/models/{id}")
        for path in ("/info", "/metrics", "/health", "/ping", "/v2/health/ready",
                     "/v2/health/live"):
            assert ask("GET", path).status == 200
    return answers


def test_every_operation_was_asked(asked):
    assert {(method, path) for method, path, _ in asked} == set(operations())


def test_real_answers_have_the_shapes_that_it_says(asked):
    for method, path, answer in asked:
        try:
            check(method, path, answer)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{method} {path}: {answer}: {error.message}") from error
