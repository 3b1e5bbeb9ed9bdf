"""The cache of the ecosystem's own client, both ways, and with the real client: it reads what moult
wrote, and moult what it wrote, with and without a network."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

import models
from hub import Hub, files_of
from loading import assert_clean
from serving import until
from test_hub import NAME, is_what

FILL = ("--hub-cache", "fill")


class Client:
    """huggingface_hub in a process of its own, with the puller's environment."""

    def __init__(self, puller):
        self.puller = puller

    def start(self, code, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", f"from huggingface_hub import *\nprint({code})"], text=True,
            env={**self.puller.environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def says(self, code, **environment):
        process = self.start(code, **environment)
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        return out.strip()


@pytest.fixture
def client(puller):
    return Client(puller)


@pytest.fixture
def cached(hub, puller, tiny, client):
    """What huggingface_hub itself has left in HF_HOME of the model a."""
    commit = hub.publish(NAME, tiny["a"])
    client.says(f"snapshot_download('{NAME}')")
    hub.forget()
    return puller.home / "hub/models--org--tiny", commit


def is_whole(puller, client):
    """The client finds no fault with the cache, and nobody has left a half file in it."""
    assert client.says("scan_cache_dir().warnings") == "[]"
    assert not list(puller.home.rglob("*.incomplete"))
    for blob in puller.home.glob("hub/models--*/blobs/*"):
        data = blob.read_bytes()
        assert blob.name in (hashlib.sha256(data).hexdigest(),
                             hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())


# ---- What the client wrote ----

def test_what_is_cached_is_not_downloaded(hub, puller, tiny, cached):
    is_what(tiny["a"], puller.pulled(NAME))
    assert not hub.asked("/resolve/")


def test_damage_is_not_believed(hub, puller, tiny, cached):
    folder, commit = cached
    blob = (folder / "snapshots" / commit / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    puller.refused(NAME, "model.safetensors of org/tiny is not in the hub's cache",
                   HF_HUB_OFFLINE="1")
    is_what(tiny["a"], puller.pulled(NAME))
    assert len(hub.asked("/resolve/")) == 1


def test_a_snapshot_that_is_not_complete(hub, puller, tiny, cached):
    folder, commit = cached
    (folder / "snapshots" / commit / "config.json").unlink()
    shutil.rmtree(folder / "blobs")
    is_what(tiny["a"], puller.pulled(NAME))


@pytest.mark.parametrize("client_before_version_2", [False, True])
def test_without_a_network(hub, puller, tiny, cached, client_before_version_2):
    folder, commit = cached
    if client_before_version_2:   # Which noted no listing.
        shutil.rmtree(folder / "trees")
    installed = puller.pulled(NAME, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    is_what(tiny["a"], installed)
    assert puller.pulled(f"{NAME}@{commit}", HF_HUB_OFFLINE="yes") == installed
    assert hub.requests == []


def test_without_a_network_and_not_complete(hub, puller, tiny, cached):
    folder, commit = cached
    pooling = folder / "snapshots" / commit / "1_Pooling/config.json"
    blob = pooling.resolve()
    pooling.unlink()
    blob.unlink()
    # The hub's listing is cached: what it has and the cache has not is missed.
    puller.refused(NAME, "1_Pooling/config.json of org/tiny is not in the hub's cache",
                   HF_HUB_OFFLINE="1")
    puller.refused(f"{NAME}@other", "does not know the revision other", HF_HUB_OFFLINE="1")
    puller.refused("org/unknown", "does not know the revision main", HF_HUB_OFFLINE="1")
    puller.refused(f"{NAME}@{'0' * 40}", "has no files of org/tiny", HF_HUB_OFFLINE="1")
    assert hub.requests == []


# ---- What moult wrote ----

def test_nothing_is_written_unless_asked(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    puller.pulled(NAME)
    assert not puller.home.exists()


def test_the_client_reads_it(hub, puller, tiny, client, tmp_path):
    commit = hub.publish(NAME, tiny["a"])
    installed = puller.pulled(NAME, more=FILL)
    # The client has no network.
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    hub.forget()
    snapshot = client.says(f"snapshot_download('{NAME}', local_files_only=True)", **offline)
    assert snapshot == str(puller.home / f"hub/models--org--tiny/snapshots/{commit}")
    got, want = files_of(snapshot), files_of(installed)
    want.pop("revision.json")
    assert got == want
    one = client.says(f"hf_hub_download('{NAME}', '1_Pooling/config.json', local_files_only=True)",
                      **offline)
    assert one == f"{snapshot}/1_Pooling/config.json"
    assert client.says(f"try_to_load_from_cache('{NAME}', 'model.safetensors')", **offline) \
        == f"{snapshot}/model.safetensors"
    assert hub.requests == []
    is_whole(puller, client)
    # Online it fetches what moult had no need of, and nothing else.
    (readme := models.copy(tiny["a"], tmp_path / "more")).joinpath("README.md").write_text("Read.")
    hub.commits[NAME, commit] = files_of(readme)
    client.says(f"snapshot_download('{NAME}')")
    assert hub.asked("/README.md") and len(hub.asked("/resolve/")) == 1
    is_whole(puller, client)


def test_branches_that_move_and_revisions_that_share(hub, puller, tiny, client, tmp_path):
    first = hub.publish(NAME, tiny["a"])
    puller.pulled(NAME, more=FILL)
    changed = models.copy(tiny["a"], tmp_path / "changed")
    models.change_json(changed / "config.json", note="another")
    second = hub.publish(NAME, changed)
    hub.branches[NAME, "try/this"] = first
    puller.pulled(NAME, more=FILL)
    puller.pulled(f"{NAME}@try/this", more=FILL)
    folder = puller.home / "hub/models--org--tiny"
    assert (folder / "refs/main").read_text() == second
    assert (folder / "refs/try/this").read_text() == first
    weights = {(folder / "snapshots" / commit / "model.safetensors").resolve()
               for commit in (first, second)}
    assert len(weights) == 1
    is_whole(puller, client)
    assert client.says(f"snapshot_download('{NAME}', revision='try/this', local_files_only=True)") \
        .endswith(first)


def test_what_the_client_has_is_left_as_it_is(hub, puller, tiny, cached, client):
    folder, _ = cached
    def inodes():
        return {path: path.lstat().st_ino for path in folder.rglob("*") if path.is_file()}
    before = inodes()
    puller.pulled(NAME, more=FILL)
    assert {path: inode for path, inode in inodes().items() if path.parts[-2] != "refs"} \
        == {path: inode for path, inode in before.items() if path.parts[-2] != "refs"}
    is_whole(puller, client)


def test_a_cache_that_cannot_be_written_is_no_failure(hub, puller, tiny, tmp_path):
    hub.publish(NAME, tiny["a"])
    (tmp_path / "file").write_text("")
    done = puller.run(NAME, more=FILL, HF_HUB_CACHE=str(tmp_path / "file/hub"))
    assert done.returncode == 0 and "not shared" in done.stderr, done
    assert puller.run(NAME, more=("--hub-cache", "twice")).returncode == 2


# ---- Together ----

def test_all_at_once_into_one_cache(hub, puller, tiny, client, tmp_path):
    """Pulls of several data folders, and the client itself, of one commit."""
    hub.publish(NAME, tiny["a"])
    pulls = [puller.start(NAME, data=tmp_path / f"data{i}", MOULT_HUB_CACHE="fill")
             for i in range(3)]
    clients = [client.start(f"snapshot_download('{NAME}')") for _ in range(2)]
    for process in pulls + clients:
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, (out, errors)
    is_whole(puller, client)
    is_what(tiny["a"], puller.pulled(NAME, HF_HUB_OFFLINE="1"))


def test_two_servers_share_a_cache_and_pull_at_once(hub, puller, serve, tiny, client):
    hub.publish(NAME, tiny["a"])
    servers = [serve(NAME, environment=puller.environment,
                     options=["--update-every", "1", *FILL]) for _ in range(2)]
    with tiny.load(servers[0], connections=2) as one, tiny.load(servers[1], connections=2) as two:
        for letter in "bc":
            hub.publish(NAME, tiny[letter])
            for server in servers:
                until(f"{letter} to go live",
                      lambda: server.fingerprint() == tiny.fingerprints[letter])
        for load in (one, two):
            load.wait_for_answers(20)
            assert_clean(load.stop())
    is_whole(puller, client)
    commits = json.loads(client.says(
        "__import__('json').dumps([r.commit_hash for repo in scan_cache_dir().repos "
        "for r in repo.revisions])"))
    assert len(commits) == 3


def test_the_token_file_that_is_named(puller, tiny, tmp_path):
    with Hub(token="hf_secret") as hub:
        hub.publish(NAME, tiny["a"])
        (tmp_path / "token").write_text("hf_secret\n")
        is_what(tiny["a"], puller.pulled(NAME, HF_ENDPOINT=hub.url,
                                         HF_TOKEN_PATH=str(tmp_path / "token")))
