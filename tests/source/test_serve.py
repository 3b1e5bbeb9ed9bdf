"""A server whose models come from a hub or a model server."""

import pytest

from fixtures import moult
from hub import ModelServer, answers, close_after, hangs_after
from loading import assert_clean
from serving import HealthPoll, free_port, until
from test_web import publish

NAME = "org/tiny"
QUESTION = "sentence-transformers/multi-qa-MiniLM-L6-cos-v1"


def test_a_hub_and_its_newer_commit_under_load(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment)
    assert server.slot()["name"] == "tiny" and server.slot()["source"] == NAME
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert server.update().json["status"] == "unchanged"
    hub.publish(NAME, tiny["b"])
    with tiny.load(server, connections=2) as load, HealthPoll(server):
        load.wait_for_answers(50)
        assert server.updated() == 2
        load.wait_for_answers(50)
        assert_clean(load.stop())
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_a_hub_that_fails_changes_nothing(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment)
    hub.publish(NAME, tiny["b"])
    for part, act, says in (("/tree/", answers(200, b"[]"), "lists no files"),
                            ("/revision/", answers(401, X_Error_Code="GatedRepo"), "gated"),
                            ("/revision/", answers(429, Retry_After="999"), "999 s"),
                            ("model.safetensors", answers(404), "model.safetensors")):
        hub.misbehave(part, act, times=10)
        answer = server.update()
        assert answer.status == 422 and says in answer.json["reason"], answer
        assert server.generation() == 1 and server.get("/health").status == 200
        hub.behave()
    hub.misbehave("model.safetensors", close_after(1000))
    assert server.updated() == 2
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_a_restart_needs_no_hub(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment)
    server.kill()
    server.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]
    answer = server.update()
    assert answer.status == 422 and "cannot be reached" in answer.json["reason"], answer


def test_killed_in_mid_download_it_goes_on_from_there(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment)
    hub.publish(NAME, tiny["b"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    server.update(wait=False)
    partials = server.data / "models/.partial"
    until("some bytes to arrive",
          lambda: [path.stat().st_size for path in partials.glob("*")] == [5000])
    server.kill()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]
    hub.forget()
    server.updated()
    assert server.fingerprint() == tiny.fingerprints["b"]
    assert [headers["Range"] for headers in hub.asked("model.safetensors")] == ["bytes=5000-"]
    assert list(partials.glob("*")) == []


def test_cancelled_while_the_source_is_silent(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment)
    hub.publish(NAME, tiny["b"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    update = server.update(wait=False).json["id"]
    until("the download", lambda: len(hub.asked("model.safetensors")) == 2)
    assert server.call("DELETE", f"/update_model/{update}").status == 200
    assert server.wait_for_end(update)["status"] == "cancelled"
    assert server.updated() > 1
    assert server.fingerprint() == tiny.fingerprints["b"]


def test_a_download_that_no_signal_reaches(hub, puller, serve, tiny, patient):
    """As one that hangs in the kernel: neither a cancellation nor the end of the server waits."""
    hub.publish(NAME, tiny["a"])
    environment = {**puller.environment, "MOULT_FAULTS_STALL_S": "1000",
                   "MOULT_FAULTS_UNKILLABLE_S": "1"}
    server = serve(NAME, environment=environment, binary=patient)
    hub.publish(NAME, tiny["b"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    update = server.update(wait=False).json["id"]
    until("the download", lambda: len(hub.asked("model.safetensors")) == 2)
    assert server.call("DELETE", f"/update_model/{update}").status == 200
    assert server.updated() > 1
    hub.publish(NAME, tiny["c"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    server.update(wait=False)
    until("the download", lambda: len(hub.asked("model.safetensors")) >= 3)
    assert server.stop() == 0 and not hub.over.is_set()


def test_a_model_server_and_two_slots(model_server, puller, hub, serve, tiny):
    url = publish(model_server, tiny["a"])
    hub.publish(NAME, tiny["b"])
    server = serve(url, f"other={NAME}", environment=puller.environment)
    slots = server.get("/update_model").json["slots"]
    assert {slot["name"]: slot["fingerprint"] for slot in slots} == {
        "tiny": tiny.fingerprints["a"], "other": tiny.fingerprints["b"]}
    publish(model_server, tiny["c"])
    server.updated()
    assert server.fingerprint() == tiny.fingerprints["c"]
    done = moult("update", "--url", f"http://127.0.0.1:{server.port}", url)
    assert done.returncode == 0 and b"nothing has changed" in done.stdout, done


def test_callers_name_no_places(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    hub.publish("org/evil", tiny["b"])
    server = serve(NAME, environment=puller.environment)
    hub.forget()
    for place in ("org/evil", f"{NAME}@refs/pr/1", hub.url + "/tiny", "http://127.0.0.1:9/x"):
        answer = server.update(place)
        assert answer.status == 403, answer
    assert hub.requests == []
    assert server.update(NAME).json["status"] == "unchanged"


def test_what_was_pulled_is_served_without_fetching_it(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    puller.pulled(NAME)
    hub.forget()
    server = serve(NAME, data=puller.data, environment=puller.environment)
    assert server.fingerprint() == tiny.fingerprints["a"]
    assert not hub.asked("/resolve/")
    puller.refused(NAME, "A server uses the data folder", "moult update")


def test_without_a_model_the_question_s_own_is_taken(hub, puller, serve, tiny):
    hub.publish(QUESTION, tiny["a"])
    server = serve(environment=puller.environment)
    assert server.slot()["name"] == "multi-qa-MiniLM-L6-cos-v1"
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_without_a_model_and_without_a_hub(puller, tmp_path):
    environment = {**puller.environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = moult("serve", "--data", tmp_path / "data", "--port", free_port(), env=environment)
    said = done.stderr.decode()
    assert done.returncode == 1, done
    assert QUESTION in said and "cannot be reached" in said and "make run" in said, said


@pytest.mark.parametrize("model", ["org/", "/".join("abc"), "http://", "https://host/a b"])
def test_names_that_are_none(puller, tmp_path, model):
    done = moult("serve", model, "--data", tmp_path / "data", env=puller.environment)
    assert done.returncode == 2 and b"is not the " in done.stderr, done


def test_revisions_of_the_own_model_and_places_of_a_hub(hub, puller, serve, tiny, tmp_path):
    tagged = hub.publish(NAME, tiny["b"], branch="v1")
    hub.publish(NAME, tiny["a"])
    hub.publish("team/tiny", tiny["c"])
    hub.publish("team-2/tiny", tiny["c"])
    with ModelServer(tmp_path / "web") as web:
        url = publish(web, tiny["b"])
        server = serve(NAME, environment=puller.environment,
                       options=["--allow-model-from", "team/", "--allow-model-from", url])
        assert server.updated(revision="v1") == 2
        assert server.fingerprint() == tiny.fingerprints["b"]
        assert server.slot()["source"] == NAME
        assert server.update(revision=tagged).json["status"] == "unchanged"
        assert server.updated("team/tiny", revision="main") == 3
        assert server.fingerprint() == tiny.fingerprints["c"]
        assert server.updated(url) > 3
        assert server.fingerprint() == tiny.fingerprints["b"]
        for model, revision, status in (
                (None, "refs/pr/1", 403), ("team-2/tiny", None, 403), ("team-2/tiny", "main", 403),
                ("team/tiny@main", "main", 400), (None, "../x", 400), (None, "", 400),
                (str(tmp_path), "main", 400), (url, "main", 400), (f"{url}/../other", None, 403),
                (url.replace("127.0.0.1", "localhost"), None, 403)):
            more = {} if revision is None else {"revision": revision}
            answer = server.update(model, **more)
            assert answer.status == status, (model, revision, answer)
    done = moult("update", f"--url=http://127.0.0.1:{server.port}", "--revision", "main")
    assert done.returncode == 0 and server.fingerprint() == tiny.fingerprints["a"], done
