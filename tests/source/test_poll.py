"""`moult serve --update-every`: sources that bring newer models by themselves, and that fail on
the way. Each under load: every connection has a client that compares every answer."""

import re
import contextlib
import itertools
import os
import shutil
import time

import pytest

import models
from fixtures import SOAK, moult, tiny_models
from hub import (Hub, ModelServer, answers, behaves, blob_name, close_after, hangs_after,
                 ignores_range, longer, redirects_to, then_behaves, without_length, wrong_bytes)
from loading import assert_clean
from serving import HealthPoll, until
from test_web import publish

NAME = "org/tiny"
EVERY = ("--update-every", "1")


@pytest.fixture
def under_load(tiny):
    """under_load(server): the block runs beside clients and a poll of /health without a fault."""
    @contextlib.contextmanager
    def run(server, connections=2, models=tiny):
        with models.load(server, connections=connections) as load, HealthPoll(server):
            load.wait_for_answers(20)
            yield load
            load.wait_for_answers(20)
            assert_clean(load.stop())
    return run


def poll(server):
    return server.slot()["poll"]


def becomes(server, tiny, letter):
    until(f"{letter} to go live", lambda: server.fingerprint() == tiny.fingerprints[letter])


def fails(server, *parts):
    """Waits until the poll says why it fails; nothing that serves has changed."""
    def told():
        now = poll(server)
        return now["failures"] > 0 and all(part in now["error"] for part in parts)
    generation = server.generation()
    until(f"a failure that says {parts}", told)
    assert server.generation() == generation


def settled(server):
    """Waits until there is nothing new."""
    until("the source to be known", lambda: poll(server)["state"] == "unchanged"
          and server.slot()["update"] is None)


# ---- A hub ----

def test_a_branch_that_moves(hub, puller, serve, tiny, under_load):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)
    hub.forget()
    until("two looks", lambda: len(hub.asked("/revision/main")) >= 2)
    # Nothing has changed: a look asks for the commit, and for nothing else.
    assert {path for path, _ in hub.requests} == {f"/api/models/{NAME}/revision/main"}
    assert server.generation() == 1
    with under_load(server):
        for letter in ("b", "c", "a"):
            hub.publish(NAME, tiny[letter])
            becomes(server, tiny, letter)
    assert [event["result"] for event in server.slot()["history"]] == ["live"] * 4


# What goes wrong, and a part of the reason that is shown; the first few are enough for every day.
FAULTS_OF_A_HUB = [
    ("model.safetensors", wrong_bytes, "other bytes than its listing says"),
    ("/revision/", answers(429, Retry_After="1"), "429"),
    ("/tree/", answers(200, b"[]"), "lists no files"),
    ("/revision/", answers(401, X_Error_Code="GatedRepo"), "gated"),
    ("/revision/", answers(404, X_Error_Code="RepoNotFound"), "has no model"),
    ("/revision/", answers(500), "500"),
    ("/revision/", answers(200, b"{"), "not JSON"),
    ("/revision/", close_after(10), "cannot be read"),
    ("/tree/", answers(500), "500"),
    ("model.safetensors", longer, "larger than its listing says"),
    ("model.safetensors", close_after(0), "model.safetensors"),
    ("model.safetensors", answers(404), "model.safetensors")]


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Models that no server has the weights of, the first beside five more."""
    return tiny_models("many others", "ghijkl", 100, tmp_path_factory)


def test_a_hub_that_fails_and_comes_back(hub, puller, serve, many, under_load):
    """Weights that are installed are not fetched again, so the faults of weights need new ones."""
    unseen, known = iter("hijkl"), itertools.cycle("gh")
    hub.publish(NAME, many["g"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)
    with under_load(server, models=many):
        for part, act, says in FAULTS_OF_A_HUB[:None if SOAK else 3]:
            hub.misbehave(part, act, times=10 ** 6)
            letter = next(unseen if "model" in part else known)
            hub.publish(NAME, many[letter])
            fails(server, says)
            hub.behave()
            becomes(server, many, letter)
    settled(server)
    assert poll(server)["failures"] == 0 and poll(server)["error"] == ""


def test_a_hub_that_stumbles_is_not_noticed(hub, puller, serve, many, under_load):
    """Closed in mid-body, a range answered with everything, no length: pull gets over them."""
    hub.publish(NAME, many["g"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    with under_load(server, models=many):
        for letter, act in zip("hijk", (ignores_range, close_after(5000), without_length, behaves)):
            hub.misbehave("model.safetensors", close_after(3000))
            hub.misbehave("model.safetensors", act)
            hub.forget()
            hub.publish(NAME, many[letter])
            becomes(server, many, letter)
            assert len(hub.asked("model.safetensors")) >= 2
    assert all(event["result"] != "refused" for event in server.slot()["history"])


def test_a_hub_that_falls_silent(hub, puller, serve, tiny, under_load, patient):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY, binary=patient)
    settled(server)
    with under_load(server):
        for part in ("/revision/", "model.safetensors"):
            hub.misbehave(part, hangs_after(0), times=10 ** 6)
            letter = "b" if part == "/revision/" else "c"
            hub.publish(NAME, tiny[letter])
            fails(server, "cannot be read")
            hub.behave()
            becomes(server, tiny, letter)


def test_the_branch_moves_and_the_commit_is_gone(hub, puller, serve, tiny, under_load):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)

    def force_push():
        commit = hub.branches[NAME, "main"]
        hub.publish(NAME, tiny["c"])
        hub.forget_commit(NAME, commit)
    with under_load(server):
        hub.misbehave("/tree/", then_behaves(answers(404, X_Error_Code="RevisionNotFound"),
                                             force_push))
        hub.publish(NAME, tiny["b"])
        becomes(server, tiny, "c")
    assert server.generation() == 2


def test_a_listing_that_leads_out(hub, puller, serve, tiny, under_load):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    with under_load(server):
        for path in ("../../etc/passwd", "/etc/passwd"):
            hub.extra = [{"type": "file", "path": path, "size": 1, "oid": blob_name(b"x")}]
            hub.publish(NAME, tiny["b"])
            fails(server, path, "not a path within")
        hub.extra = []
        becomes(server, tiny, "b")


def test_a_redirect_carries_no_token(puller, serve, tiny, under_load):
    with Hub(token="hf_secret") as hub, Hub() as elsewhere:
        hub.publish(NAME, tiny["a"])
        elsewhere.commits, elsewhere.branches = hub.commits, hub.branches
        server = serve(NAME, options=EVERY, environment={
            **puller.environment, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"})
        with under_load(server):
            hub.misbehave("/resolve/", redirects_to(elsewhere.url), times=100)
            hub.publish(NAME, tiny["b"])
            becomes(server, tiny, "b")
        assert elsewhere.asked("model.safetensors")
        assert all("Authorization" not in headers for _, headers in elsewhere.requests)


def test_a_certificate_that_expires_and_is_renewed(puller, serve, tiny, under_load, certificates):
    """The hub comes back at its port with another certificate, which nobody knows."""
    known, unknown = certificates("known"), certificates("unknown")
    environment = {**puller.environment, "SSL_CERT_FILE": str(known.with_suffix(".crt"))}
    with Hub(certificate=known) as hub:
        hub.publish(NAME, tiny["a"])
        server = serve(NAME, environment={**environment, "HF_ENDPOINT": hub.url}, options=EVERY)
        settled(server)
    with under_load(server):
        with Hub(certificate=unknown, port=hub.port) as other:
            other.publish(NAME, tiny["b"])
            fails(server, "certificate")
        with Hub(certificate=known, port=hub.port) as renewed:
            renewed.publish(NAME, tiny["b"])
            becomes(server, tiny, "b")


def test_backing_off(hub, puller, serve, tiny):
    """Each look that fails is later than the one before, and none is earlier than it was asked."""
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)
    hub.misbehave("/revision/", answers(503), times=10 ** 6)
    until("three failures", lambda: poll(server)["failures"] >= 3)
    now = poll(server)
    assert now["next_at"] - now["last_at"] >= 3, now
    hub.behave()
    hub.misbehave("/revision/", answers(429, Retry_After="300"), times=10 ** 6)
    until("the server to ask for a pause", lambda: "429" in poll(server)["error"])
    now = poll(server)
    assert now["next_at"] - now["last_at"] >= 300, now
    # A person need not wait for that.
    hub.behave()
    hub.publish(NAME, tiny["b"])
    assert server.updated() == 2


def test_what_was_refused_is_left_until_the_source_moves(hub, puller, serve, tiny, tmp_path,
                                                          under_load):
    broken = models.copy(tiny["b"], tmp_path / "broken")
    models.change_json(broken / "config.json", hidden_size=7)
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    with under_load(server):
        hub.publish(NAME, broken)
        until("the refusal", lambda: poll(server)["state"] == "refused")
        count = len(server.slot()["history"])
        hub.forget()
        until("two looks", lambda: len(hub.asked("/revision/")) >= 2)
        assert not hub.asked("/tree/") and len(server.slot()["history"]) == count
        hub.publish(NAME, tiny["c"])
        becomes(server, tiny, "c")


def test_what_was_rolled_back_is_not_taken_again(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    hub.publish(NAME, tiny["b"])
    becomes(server, tiny, "b")
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    hub.forget()
    until("two looks", lambda: len(hub.asked("/revision/")) >= 2)
    assert server.fingerprint() == tiny.fingerprints["a"]
    server.kill()
    hub.forget()
    server.start()
    until("two looks", lambda: len(hub.asked("/revision/")) >= 2)
    assert server.fingerprint() == tiny.fingerprints["a"] and not hub.asked("/tree/")


def test_a_person_says_when(hub, puller, serve, tiny, under_load):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)
    server.kill()
    server.options += ["--cutover", "manual"]
    server.start()

    def waits():
        update = server.slot()["update"]
        return update["id"] if update and update["phase"] == "ready" else None
    with under_load(server):
        hub.publish(NAME, tiny["b"])
        first = until("an update that waits", waits)
        hub.forget()
        until("two looks", lambda: len(hub.asked("/revision/")) >= 2)
        assert waits() == first and server.generation() == 1 and not hub.asked("/resolve/")
        # What waits gives way to what is newer still.
        hub.publish(NAME, tiny["c"])
        second = until("another that waits", lambda: waits() if waits() != first else None)
        assert server.post(f"/update_model/{second}/cutover").status in (200, 202)
        becomes(server, tiny, "c")
    settled(server)


def test_killed_in_mid_update_it_looks_again(hub, puller, serve, tiny):
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, environment=puller.environment, options=EVERY)
    settled(server)
    hub.misbehave("model.safetensors", hangs_after(5000))
    hub.publish(NAME, tiny["b"])
    until("the download", lambda: len(hub.asked("model.safetensors")) == 2)
    server.kill()
    server.start()
    becomes(server, tiny, "b")


def test_the_end_does_not_wait_for_a_look(hub, puller, serve, tiny, patient):
    """Not even for one that no signal reaches, as it hangs in the kernel."""
    hub.publish(NAME, tiny["a"])
    server = serve(NAME, binary=patient, options=EVERY, environment={
        **puller.environment, "MOULT_FAULTS_STALL_S": "1000", "MOULT_FAULTS_UNKILLABLE_S": "1"})
    settled(server)
    hub.misbehave("/revision/", hangs_after(0), times=10 ** 6)
    hub.forget()
    until("a look that hangs", lambda: hub.asked("/revision/"))
    assert server.stop() == 0 and not hub.over.is_set()


# ---- A model server ----

@pytest.mark.parametrize("tags", ["both", "date", "none"])
def test_a_manifest_that_changes(puller, serve, tiny, tmp_path, under_load, tags):
    with ModelServer(tmp_path / "www", tags=tags) as models_server:
        url = publish(models_server, tiny["a"])
        manifest = models_server.folder / "tiny/manifest.json"
        os.utime(manifest, (time.time() - 60,) * 2)
        server = serve(url, environment=puller.environment, options=EVERY)
        settled(server)
        models_server.forget()
        until("three looks", lambda: len(models_server.asked("manifest.json")) >= 3)
        asked = models_server.asked("manifest.json")[-1]
        assert ("If-None-Match" in asked, "If-Modified-Since" in asked) == {
            "both": (True, False), "date": (False, True), "none": (False, False)}[tags]
        assert len(models_server.requests) == len(models_server.asked("manifest.json"))
        with under_load(server):
            # Two at once: of the same size, and perhaps within the same second.
            for letter in "bc" if SOAK or tags == "both" else "b":
                publish(models_server, tiny[letter])
                becomes(server, tiny, letter)


def test_files_before_their_manifest(model_server, puller, serve, tiny, under_load):
    url = publish(model_server, tiny["a"])
    server = serve(url, environment=puller.environment, options=EVERY)
    settled(server)
    manifest = model_server.folder / "tiny/manifest.json"
    with under_load(server):
        (model_server.folder / "tiny/model.safetensors").write_bytes(
            (tiny["b"] / "model.safetensors").read_bytes())
        model_server.forget()
        until("two looks", lambda: len(model_server.asked("manifest.json")) >= 2)
        assert server.generation() == 1 and poll(server)["state"] == "unchanged"
        moult("manifest", manifest.parent)
        becomes(server, tiny, "b")
        manifest.write_bytes(manifest.read_bytes()[:100])
        fails(server, "not JSON")
        manifest.unlink()
        fails(server, "has no manifest.json")
        publish(model_server, tiny["c"])
        becomes(server, tiny, "c")


# ---- A folder ----

@pytest.fixture
def folder(tiny, tmp_path):
    return models.copy(tiny["a"], tmp_path / "source" / "tiny")


def write_slowly(source, target, parts=4):
    """Over what is there, in parts with pauses, the weights last."""
    for path in sorted(source.rglob("*"), key=lambda path: path.suffix == ".safetensors"):
        if not path.is_file():
            continue
        data, to = path.read_bytes(), target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        with open(to, "wb", 0) as file:
            for i in range(parts):
                file.write(data[i * len(data) // parts:(i + 1) * len(data) // parts])
                time.sleep(0.05)


def test_a_folder_half_written_then_complete_then_replaced(folder, serve, tiny, under_load):
    server = serve(folder, options=["--update-every", "1h"])
    until("the folder to be watched", lambda: poll(server)["watched"])
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    with under_load(server):
        # Cut off in the middle, and left so for longer than anybody waits for quiet.
        data = (tiny["b"] / "model.safetensors").read_bytes()
        with open(weights, "wb", 0) as file:
            file.write(data[:size // 2])
            until("the folder to count as half written",
                  lambda: poll(server)["state"] == "incomplete")
            assert "not whole" in poll(server)["error"] and server.generation() == 1
            file.write(data[size // 2:])
        becomes(server, tiny, "b")
        # Of equal size, and of the same time.
        status = weights.stat()
        weights.write_bytes((tiny["c"] / "model.safetensors").read_bytes())
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (size, status.st_mtime_ns)
        becomes(server, tiny, "c")
        write_slowly(tiny["a"], folder)
        becomes(server, tiny, "a")
    assert [event["result"] for event in server.slot()["history"]].count("refused") == 0
    assert server.generation() == 4


@pytest.mark.parametrize("way", ["rename", "link"])
def test_a_folder_that_is_exchanged(folder, serve, tiny, tmp_path, under_load, way):
    if way == "link":
        folder.rename(folder.with_name("first"))
        folder.symlink_to("first")
    server = serve(folder, options=["--update-every", "1h"])
    until("the folder to be watched", lambda: poll(server)["watched"])
    with under_load(server):
        for letter in "bc" if SOAK else "b":
            newer = models.copy(tiny[letter], folder.with_name(letter))
            if way == "link":
                folder.with_name("link").symlink_to(newer.name)
                folder.with_name("link").rename(folder)
            else:
                folder.rename(folder.with_name("old" + letter))
                newer.rename(folder)
            becomes(server, tiny, letter)


def test_a_folder_that_goes_away(folder, serve, tiny, under_load):
    server = serve(folder, options=EVERY)
    settled(server)
    with under_load(server):
        shutil.rmtree(folder)
        fails(server, "cannot be opened")
        folder.mkdir()
        until("an empty folder to be waited for", lambda: poll(server)["state"] == "incomplete")
        write_slowly(tiny["b"], folder)
        becomes(server, tiny, "b")


def test_a_folder_is_not_taken_twice(folder, serve, tiny):
    """Not at a restart, and not for a file that the model does not need."""
    server = serve(folder, options=EVERY)
    settled(server)
    server.kill()
    server.start()
    (folder / "notes.txt").write_text("Nothing that a model needs.")
    settled(server)
    last = poll(server)["last_at"]
    until("two looks", lambda: poll(server)["last_at"] >= last + 2)
    assert [event["result"] for event in server.slot()["history"]] == ["live"]


def test_nothing_by_itself_without_the_option(folder, serve, tiny):
    server = serve(folder)
    shutil.rmtree(folder)
    models.copy(tiny["b"], folder)
    assert server.slot()["poll"] is None
    assert server.updated() == 2


def test_what_a_person_sees(folder, serve):
    server = serve(folder, options=EVERY)
    settled(server)
    url = f"http://127.0.0.1:{server.port}"
    said = moult("status", "--url", url).stdout.decode()
    assert "looked at every 1 s, and watched: unchanged, last " in said, said
    shutil.rmtree(folder)
    fails(server, "cannot be opened")
    said = moult("status", "--url", url).stdout.decode()
    assert re.search(r"failed (once|\d+ times in a row): The folder ", said), said
