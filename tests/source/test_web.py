"""`moult manifest`, and `moult pull http://…` from a model server of our own that misbehaves."""

import json
import os
import subprocess

import pytest

import models
from fixtures import moult
from hub import (ModelServer, answers, behaves, close_after, files_of, hangs, redirects_to,
                 then_behaves, wrong_bytes)


def publish(server, source, name="tiny"):
    """The files first, the manifest last."""
    folder = server.folder / name
    for path, data in files_of(source).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    done = moult("manifest", folder)
    assert done.returncode == 0, done
    return f"{server.url}/{name}"


def is_what(folder, installed):
    got = files_of(installed)
    got.pop("revision.json")
    want = files_of(folder)
    assert "model.safetensors" in got and got == {name: want[name] for name in got}


def test_a_manifest(tiny, tmp_path):
    folder = models.copy(tiny["a"], tmp_path / "tiny")
    (folder / "README.md").write_text("Not needed.")
    done = moult("manifest", folder, "--label", "v7 \"quoted\"")
    assert done.returncode == 0, done
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["version"] == 'v7 "quoted"'
    listed = {file["path"]: file for file in manifest["files"]}
    assert "README.md" not in listed and "manifest.json" not in listed
    assert listed["model.safetensors"]["size"] == (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").unlink()
    done = moult("manifest", folder)
    assert done.returncode == 1 and b"has no model.safetensors" in done.stderr, done


def test_from_a_plain_server(model_server, puller, tiny):
    url = publish(model_server, tiny["a"])
    first = puller.pulled(url + "/")
    is_what(tiny["a"], first)
    assert first == puller.pulled(tiny["a"])
    model_server.forget()
    assert puller.pulled(url) == first
    assert [path for path, _ in model_server.requests] == ["/tiny/manifest.json"]


def test_a_newer_one(model_server, puller, tiny):
    puller.pulled(publish(model_server, tiny["a"]))
    model_server.forget()
    is_what(tiny["b"], puller.pulled(publish(model_server, tiny["b"])))
    # Only what is another is fetched.
    assert not model_server.asked("tokenizer.json") and model_server.asked("model.safetensors")


def test_no_manifest(model_server, puller, tiny):
    puller.refused(f"{model_server.url}/tiny", "has no manifest.json", "moult manifest")


@pytest.mark.parametrize("body, says", [
    (b"{}", "no list of files"), (b"[]", "no list of files"), (b"[" * 5000, "is not JSON"),
    (b'{"files":[{"path":"config.json","size":1}]}', "no digest of config.json"),
    (b'{"files":[{"path":"../x","size":1,"sha256":"' + b"a" * 64 + b'"}]}', "not a path within"),
    (b'{"files":[' + b",".join([b'{"path":"a","size":1,"sha256":"' + b"a" * 64 + b'"}'] * 2)
     + b"]}", "has a twice"), (b'{"files":[]}', "has no config.json")])
def test_manifests_that_are_none(model_server, puller, tiny, body, says):
    publish(model_server, tiny["a"])
    model_server.misbehave("manifest.json", answers(200, body), times=5)
    puller.refused(f"{model_server.url}/tiny", says)


def test_a_manifest_that_never_ends(model_server, puller, tiny):
    publish(model_server, tiny["a"])
    model_server.misbehave("manifest.json", answers(200, b" " * (9 << 20)), times=5)
    puller.refused(f"{model_server.url}/tiny", "larger than its limit")


def test_published_in_the_middle(model_server, puller, tiny):
    """The manifest of the old model, the files of the new one, then the new manifest."""
    url = publish(model_server, tiny["a"])
    model_server.misbehave("manifest.json", then_behaves(
        behaves, lambda: publish(model_server, tiny["b"])))
    is_what(tiny["b"], puller.pulled(url))


def test_files_without_their_manifest(model_server, puller, tiny):
    url = publish(model_server, tiny["a"])
    weights = model_server.folder / "tiny/model.safetensors"
    weights.write_bytes((tiny["b"] / "model.safetensors").read_bytes())
    puller.refused(url, "model.safetensors", "other bytes than its listing says")
    weights.unlink()
    puller.refused(url, "answers 404")
    publish(model_server, tiny["b"])
    is_what(tiny["b"], puller.pulled(url))


def test_broken_off_and_damaged(model_server, puller, tiny):
    url = publish(model_server, tiny["a"])
    model_server.misbehave("model.safetensors", close_after(9000))
    model_server.misbehave("tokenizer.json", wrong_bytes, times=1)
    puller.refused(url, "tokenizer.json", "other bytes than its listing says")
    is_what(tiny["a"], puller.pulled(url))
    assert {headers.get("Range") for headers in model_server.asked("model.safetensors")} \
        >= {"bytes=9000-"}


def test_silence_ends(model_server, puller, tiny, patient):
    url = publish(model_server, tiny["a"])
    model_server.misbehave("model.safetensors", hangs)
    is_what(tiny["a"], puller.pulled(url, binary=patient))


def test_redirects(model_server, puller, tiny):
    url = publish(model_server, tiny["a"])
    with ModelServer(model_server.folder) as elsewhere:
        model_server.misbehave("/tiny/", redirects_to(elsewhere.url), times=100)
        is_what(tiny["a"], puller.pulled(url))
    model_server.behave()
    publish(model_server, tiny["b"])
    model_server.misbehave("model.safetensors", redirects_to(model_server.url), times=1000)
    puller.refused(url, "model.safetensors", "redirects")
    model_server.behave()
    model_server.misbehave("model.safetensors", answers(302, Location="file:///etc/passwd"))
    puller.refused(url, "model.safetensors")


def test_passwords_do_not_belong_into_urls(puller):
    puller.refused("http://me:secret@127.0.0.1/tiny", "no user or password")


@pytest.mark.skipif(os.getuid() != 0, reason="needs a file system of its own")
def test_disk_full(model_server, puller, tiny, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk]).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        puller.data = disk / "data"
        large = models.make_tiny(tmp_path / "large", width=160, inner=1024)
        puller.refused(publish(model_server, large), "No space left")
        assert puller.partials() == []   # What failed for room takes none.
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
