"""GET /metrics, read by Prometheus's own client."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raw


class Metrics:
    """One answer, parsed; what is not as the format wants it fails here."""

    def __init__(self, server, headers=None):
        answer = server.get("/metrics", headers=headers)
        assert answer.status == 200, answer
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families, self.samples = {}, {}
        for family in text_string_to_metric_families(answer.body.decode()):
            assert family.name not in self.families, f"{family.name} comes twice"
            assert family.documentation, family.name
            self.families[family.name] = family
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} comes twice"
                self.samples[key] = sample.value

    def get(self, name, **labels):
        return self.samples.get((name, frozenset(labels.items())), 0)


def requests(metrics, method, endpoint, status):
    return metrics.get("moult_http_requests_total", method=method, endpoint=endpoint,
                       status=str(status))


def test_requests_are_counted_by_endpoint_and_status(tiny):
    before = Metrics(tiny)
    tiny.embed("london")
    tiny.embed(["london", "bridge"])
    tiny.post("/embed", b"{")
    tiny.get("/v1/models/tiny")
    tiny.get("/nowhere/at/all")
    after = Metrics(tiny)
    for method, endpoint, status, more in [
            ("POST", "/embed", 200, 2), ("POST", "/embed", 400, 1), ("GET", "/metrics", 200, 1),
            ("GET", "/v1/models/{id}", 200, 1), ("other", "other", 404, 1)]:
        assert requests(after, method, endpoint, status) == \
            requests(before, method, endpoint, status) + more, (endpoint, status)


def test_what_clients_make_up_makes_no_series(tiny):
    before = len(Metrics(tiny).samples)
    for i in range(50):
        tiny.get(f"/made/up/{i}")
        tiny.get(f"/v1/models/made-up-{i}")
        raw.ask(tiny, b"MADEUP%d / HTTP/1.1\r\nHost: localhost\r\n\r\n" % i)
    assert len(Metrics(tiny).samples) < before + 60


def test_histograms_add_up(tiny):
    tiny.embed("london")
    metrics = Metrics(tiny)
    name = "moult_http_request_duration_seconds"
    family = metrics.families[name]
    assert family.type == "histogram"
    endpoints = {(s.labels["method"], s.labels["endpoint"]) for s in family.samples}
    assert ("POST", "/embed") in endpoints
    for method, endpoint in endpoints:
        mine = [s for s in family.samples
                if (s.labels["method"], s.labels["endpoint"]) == (method, endpoint)]
        buckets = [(float(s.labels["le"]), s.value) for s in mine if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets), "cumulative, in order of their bounds"
        count = next(s.value for s in mine if s.name.endswith("_count"))
        assert buckets[-1] == (float("inf"), count)
        assert next(s.value for s in mine if s.name.endswith("_sum")) > 0
        statuses = [value for (name, labels), value in metrics.samples.items()
                    if name == "moult_http_requests_total"
                    and ("endpoint", endpoint) in labels and ("method", method) in labels]
        assert sum(statuses) == count


def test_texts_and_tokens(tiny):
    before = Metrics(tiny)
    answer = tiny.post("/v1/embeddings", {"input": ["london", "london bridge", "x " * 5000]}).json
    tiny.get("/?q=london")
    after = Metrics(tiny)

    def grown(name):
        return after.get(name, slot="tiny") - before.get(name, slot="tiny")
    assert grown("moult_texts_total") == 4
    assert grown("moult_tokens_total") > answer["usage"]["prompt_tokens"]
    assert grown("moult_truncated_texts_total") == 1
    assert after.get("moult_waiting_texts") == 0
    assert after.get("moult_waiting_texts_max") == 512


def test_generations_and_workers(serve, tiny_model, tmp_path):
    server = serve(f"one={tiny_model}", f"two={tiny_model}")
    server.update(force=True, slot="two")
    metrics = Metrics(server)
    assert metrics.get("moult_generation", slot="one") == 1
    assert metrics.get("moult_generation", slot="two") == 2
    info = [s.labels for s in metrics.families["moult_generation_info"].samples]
    assert [labels["slot"] for labels in info] == ["one", "two"]
    fingerprint = server.fingerprint()
    assert info[0]["fingerprint"] == fingerprint and info[0]["model"] == f"one@{fingerprint[:8]}"
    memory = {(s.labels["slot"], s.labels["generation"]): s.value
              for s in metrics.families["moult_worker_resident_bytes"].samples}
    assert {("one", "1"), ("two", "2")} <= set(memory)
    assert all(value > 1 << 20 for value in memory.values()), memory
    assert metrics.get("moult_worker_restarts_total", slot="one") == 0


def test_a_key_guards_it(serve, tiny_model, tmp_path):
    key = tmp_path / "key"
    key.write_text("sesame\n")
    server = serve(tiny_model, options=["--api-key-file", key])
    assert server.get("/metrics").status == 401
    assert Metrics(server, {"Authorization": "Bearer sesame"}).get("moult_generation",
                                                                   slot="tiny") == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading(tiny, method):
    assert tiny.call(method, "/metrics", {}).status == 405
