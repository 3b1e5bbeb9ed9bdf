"""`moult pull org/name` from a hub of our own that misbehaves."""

import hashlib
import shutil
import time

import pytest

import models
from hub import (Hub, answers, behaves, blob_name, close_after, files_of, hangs, hangs_after,
                 ignores_range, longer, redirects_to, then_behaves, without_length, wrong_bytes)
from serving import until

NAME = "org/tiny"


def is_what(folder, installed):
    """The installed files are those of the folder, byte by byte."""
    got = files_of(installed)
    got.pop("revision.json")
    want = files_of(folder)
    assert got and got == {name: want[name] for name in got}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(got)


def test_by_commit_and_with_digests(hub, puller, tiny):
    commit = hub.publish(NAME, tiny["a"])
    is_what(tiny["a"], puller.pulled(NAME))
    assert len(hub.asked("/revision/main")) == 1
    assert len(hub.asked(f"/tree/{commit}?recursive=true")) == 1
    resolved = [path for path, _ in hub.requests if "/resolve/" in path]
    assert resolved and all(f"/resolve/{commit}/" in path for path in resolved)
    assert puller.partials() == []


def test_the_same_model_is_the_same_revision_wherever_it_comes_from(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    assert puller.pulled(NAME) == puller.pulled(tiny["a"])


def test_what_is_installed_is_not_fetched_again(hub, puller, tiny):
    commit = hub.publish(NAME, tiny["a"])
    first = puller.pulled(NAME)
    hub.forget()
    assert puller.pulled(NAME) == first
    assert [path for path, _ in hub.requests] == [f"/api/models/{NAME}/revision/main"]
    hub.forget()
    assert puller.pulled(f"{NAME}@{commit}") == first and hub.requests == []
    # Another commit with the same weights: they are shared, not fetched.
    changed = models.copy(tiny["a"], puller.data.parent / "changed")
    models.change_json(changed / "config.json", note="another")
    hub.publish(NAME, changed)
    second = puller.pulled(NAME)
    is_what(changed, second)
    assert second != first and not hub.asked("model.safetensors")
    assert (first / "model.safetensors").samefile(second / "model.safetensors")


def test_branches_tags_and_commits(hub, puller, tiny):
    old = hub.publish(NAME, tiny["a"])
    hub.publish(NAME, tiny["b"])
    hub.publish(NAME, tiny["c"], branch="try/this one")
    is_what(tiny["a"], puller.pulled(f"{NAME}@{old}"))
    is_what(tiny["b"], puller.pulled(NAME))
    puller.refused(f"{NAME}@gone", "has no revision gone")
    hub.branches[NAME, "try/this"] = hub.branches[NAME, "try/this one"]
    is_what(tiny["c"], puller.pulled(f"{NAME}@try/this"))
    assert hub.asked("/revision/try%2Fthis")


def test_a_listing_of_many_pages(puller, tiny):
    with Hub(page_size=2) as hub:
        hub.publish(NAME, tiny["a"])
        is_what(tiny["a"], puller.pulled(NAME, HF_ENDPOINT=hub.url + "/"))
        assert len(hub.asked("cursor=")) >= 2


def test_pages_at_another_host_and_without_end(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    link = '<http://localhost:1/api/models/org/tiny/tree/x>; rel="next"'
    hub.misbehave("/tree/", answers(200, b"[]", Link=link))
    puller.refused(NAME, "another host")
    link = '</api/models/org/tiny/tree/again>; rel="next"'
    hub.misbehave("/tree/", answers(200, b"[]", Link=link), times=1000)
    puller.refused(NAME, "more than 64 pages")


@pytest.mark.parametrize("act", [close_after(5000), close_after(0)])
def test_closed_in_mid_body_goes_on_from_there(hub, puller, tiny, act):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", act)
    is_what(tiny["a"], puller.pulled(NAME))
    ranges = [headers.get("Range") for headers in hub.asked("model.safetensors")]
    assert ranges == [None, "bytes=5000-"] or ranges == [None, None]


def test_a_broken_off_download_is_resumed_by_the_next(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    child = puller.start(NAME)
    until("some bytes to arrive",
          lambda: [path.stat().st_size for path in puller.partials()] == [5000])
    child.kill()
    child.wait()
    hub.forget()
    is_what(tiny["a"], puller.pulled(NAME))
    assert [headers["Range"] for headers in hub.asked("model.safetensors")] == ["bytes=5000-"]
    assert puller.partials() == []


def test_a_range_answered_with_everything(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", close_after(5000))
    hub.misbehave("model.safetensors", ignores_range)
    is_what(tiny["a"], puller.pulled(NAME))


def test_a_range_answered_with_another(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", close_after(5000))
    hub.misbehave("model.safetensors", answers(206, b"x" * 10, Content_Range="bytes 7-16/99"))
    is_what(tiny["a"], puller.pulled(NAME))


def test_a_damaged_partial_is_begun_anew(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    digest = hashlib.sha256((tiny["a"] / "model.safetensors").read_bytes()).hexdigest()
    partials = puller.data / "models/.partial"
    for damage in (b"x" * 5000, b"x" * (1 << 20)):
        partials.mkdir(parents=True, exist_ok=True)
        (partials / digest).write_bytes(damage)
        is_what(tiny["a"], puller.pulled(NAME))
        shutil.rmtree(puller.data)
    assert [headers.get("Range") for headers in hub.asked("model.safetensors")] \
        == ["bytes=5000-", None, None]


def test_what_never_arrives_is_given_up(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", close_after(0), times=1000)
    puller.refused(NAME, "model.safetensors", "cannot be read")
    assert 3 <= len(hub.asked("model.safetensors")) <= 6


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "modules.json"])
def test_right_length_wrong_bytes(hub, puller, tiny, file):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("/" + file, wrong_bytes, times=1000)
    puller.refused(NAME, file, "other bytes than its listing says")
    assert puller.partials() == []
    hub.behave()
    is_what(tiny["a"], puller.pulled(NAME))


def test_more_bytes_than_listed(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", longer, times=1000)
    puller.refused(NAME, "model.safetensors", "larger than its listing says")


def test_without_content_length(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("/", without_length, times=1000)
    is_what(tiny["a"], puller.pulled(NAME))


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\b", "",
                                  "a\nb"])
def test_paths_that_lead_out(hub, puller, tiny, path):
    hub.publish(NAME, tiny["a"])
    hub.extra = [{"type": "file", "path": path, "size": 1, "oid": blob_name(b"x")}]
    puller.refused(NAME, "is not a path within a model's folder")


@pytest.mark.parametrize("body, says", [
    (b"[]", "lists no files"), (b"{}", "is not a list"), (b"[", "is not JSON"),
    (b'[{"type":"file","path":"config.json","size":2}]', "no digest of config.json"),
    (b'[{"type":"file","path":"config.json","oid":"x"}]', "without a path or a size"),
    (b'[{"type":"file","path":"config.json","size":-1}]', "without a path or a size")])
def test_listings_that_say_nothing(hub, puller, tiny, body, says):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("/tree/", answers(200, body))
    puller.refused(NAME, says)


def test_files_listed_beyond_the_limit(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    files = hub.commits[NAME, hub.branches[NAME, "main"]]
    del files["model.safetensors"]
    hub.extra = [{"type": "file", "path": "model.safetensors", "size": 2 ** 62, "oid": "f" * 40,
                  "lfs": {"oid": "e" * 64}}]
    puller.refused(NAME, "model.safetensors has", "at most")


def test_only_a_pickle(hub, puller, tiny, tmp_path):
    folder = models.copy(tiny["a"], tmp_path / "pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.publish(NAME, folder)
    puller.refused(NAME, "as a pickle")
    assert not hub.asked("pytorch_model.bin")


# ---- Tokens and redirects ----

def test_a_token_goes_to_the_hub_and_to_nobody_else(puller, tiny):
    with Hub(token="hf_secret") as hub, Hub() as elsewhere:
        hub.publish(NAME, tiny["a"])
        elsewhere.commits, elsewhere.branches = hub.commits, hub.branches
        hub.misbehave("model.safetensors", redirects_to(elsewhere.url))
        puller.environment["HF_ENDPOINT"] = hub.url
        puller.refused(NAME, "has no model org/tiny", "HF_TOKEN")
        is_what(tiny["a"], puller.pulled(NAME, HF_TOKEN="hf_secret"))
        assert elsewhere.asked("model.safetensors")
        assert all("Authorization" not in headers for _, headers in elsewhere.requests)


def test_the_token_of_the_home_folder(puller, tiny):
    with Hub(token="hf_secret") as hub:
        hub.publish(NAME, tiny["a"])
        puller.home.mkdir()
        (puller.home / "token").write_text("hf_secret\n")
        is_what(tiny["a"], puller.pulled(NAME, HF_ENDPOINT=hub.url))


def test_a_token_that_would_be_two_headers(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    said = puller.refused(NAME, "HF_TOKEN has a character", HF_TOKEN="a\r\nX-More: b")
    assert "X-More" not in said and not hub.requests


# ---- Errors ----

@pytest.mark.parametrize("status, code, says", [
    (401, "RepoNotFound", "has no model org/tiny"), (404, "RepoNotFound", "has no model org/tiny"),
    (401, "GatedRepo", "org/tiny is gated"), (403, "GatedRepo", "org/tiny is gated"),
    (404, "RevisionNotFound", "org/tiny has no revision main"), (418, "", "answers 418")])
def test_what_error_codes_mean(hub, puller, tiny, status, code, says):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("/revision/", answers(status, b"<html>", X_Error_Code=code))
    puller.refused(NAME, says)
    is_what(tiny["a"], puller.pulled(NAME))


@pytest.mark.parametrize("part", ["/revision/", "/tree/", "config.json"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_stumbles(hub, puller, tiny, part, status):
    hub.publish(NAME, tiny["a"])
    hub.misbehave(part, answers(status), times=1)
    is_what(tiny["a"], puller.pulled(NAME))


def test_retry_after(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("/tree/", answers(429, Retry_After="2"))
    began = time.monotonic()
    is_what(tiny["a"], puller.pulled(NAME))
    assert time.monotonic() - began >= 2
    hub.publish(NAME, tiny["b"])
    hub.misbehave("/tree/", answers(429, ratelimit='"api";r=0;t=3600'))
    puller.refused(NAME, "busy", "3600 s")


def test_silence_ends(hub, puller, tiny, patient):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", hangs)
    is_what(tiny["a"], puller.pulled(NAME, binary=patient))
    hub.publish(NAME, tiny["b"])
    hub.misbehave("/revision/", hangs, times=1000)
    puller.refused(NAME, "cannot be read", binary=patient)


def test_no_hub_at_all(puller):
    puller.refused(NAME, "The hub at http://127.0.0.1:9 cannot be reached",
                   HF_ENDPOINT="http://127.0.0.1:9")
    puller.refused(NAME, "HF_ENDPOINT must be the URL", HF_ENDPOINT="127.0.0.1:9")


def test_the_branch_moves_and_the_commit_is_gone(hub, puller, tiny):
    old = hub.publish(NAME, tiny["a"])

    def force_push():
        hub.publish(NAME, tiny["b"])
        hub.forget_commit(NAME, old)
    hub.misbehave("/revision/main", then_behaves(behaves, force_push))
    is_what(tiny["b"], puller.pulled(NAME))


def test_a_listed_file_that_is_gone(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", answers(404, X_Error_Code="EntryNotFound"), times=1000)
    puller.refused(NAME, "lacks a file that its listing has")


# ---- TLS ----

def test_a_certificate_that_nobody_knows(puller, tiny, certificates):
    key = certificates("hub")
    with Hub(certificate=key) as hub:
        hub.publish(NAME, tiny["a"])
        puller.refused(NAME, "cannot be reached", "certificate", HF_ENDPOINT=hub.url)
        is_what(tiny["a"], puller.pulled(NAME, HF_ENDPOINT=hub.url,
                                         SSL_CERT_FILE=str(key.with_suffix(".crt"))))


# ---- Together ----

def test_two_at_once_into_one_data_folder(hub, puller, tiny):
    """As two slots of one server do: the front's children need no lock of the folder."""
    hub.publish(NAME, tiny["a"])
    hub.publish("org/other", tiny["a"])
    hub.misbehave("model.safetensors", then_behaves(behaves, lambda: time.sleep(0.2)), times=10)
    (puller.data / "models").mkdir(parents=True)
    children = [puller.start(name) for name in (NAME, "org/other", NAME)]
    said = [child.communicate(timeout=60)[0].splitlines()[-1] for child in children]
    assert all('"revision"' in line for line in said), said
    assert len(puller.revisions()) == 1 and puller.partials() == []
    is_what(tiny["a"], puller.data / "models" / puller.revisions()[0])
