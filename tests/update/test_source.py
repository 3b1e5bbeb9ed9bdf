"""A source folder that changes, is closed, or does not fit."""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import subprocess

import pytest

import models
from fixtures import moult
from loading import BUILD
from serving import free_port, until
from watching import Watch

ALLOW = "--allow-model-from"
NOBODY = 65534


def test_overwritten_in_place_while_it_serves(serve, tiny, tmp_path):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source)
    with Watch(server, tiny) as watch:
        watch.event()
        for path in source.rglob("*"):
            if path.is_file():
                with open(path, "r+b") as file:
                    file.write(os.urandom(path.stat().st_size))
                os.truncate(path, 10)
        assert server.update().json["status"] == "refused"
        shutil.rmtree(source)
        assert server.update().json["status"] == "refused"
    server.kill()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["a"]


@pytest.mark.parametrize("damage", ["truncate", "replace", "grow", "remove"])
def test_changed_in_mid_copy(serve_with_faults, faults, tiny, tmp_path, damage):
    """Either the whole of the old or of the new content goes live, or the update is refused."""
    server = serve_with_faults(tiny["a"], options=["--keep-warm", 0, ALLOW, tmp_path])
    source = models.copy(tiny["b"], tmp_path / "source" / "tiny")
    with Watch(server, tiny) as watch:
        watch.event()
        change_in_mid_copy(server, faults, tiny, source, damage)
    assert not list((server.data / "models").glob(".incoming*"))


def change_in_mid_copy(server, faults, tiny, source, damage):
    file = source / "model.safetensors"
    faults.set("copy", "sleep:300")
    update = server.update(source, wait=False).json["id"]
    until("the copy to begin", lambda: list((server.data / "models").glob(".incoming*")))
    if damage == "truncate":
        os.truncate(file, file.stat().st_size // 3)
    elif damage == "replace":
        file.write_bytes((tiny["c"] / "model.safetensors").read_bytes())
    elif damage == "grow":
        with open(file, "ab") as out:
            out.write(b"x" * 4096)
    else:
        file.unlink()
    end = server.wait_for_end(update)
    assert end["status"] in ("live", "refused"), end
    if end["status"] == "live":
        assert server.fingerprint() in (tiny.fingerprints["b"], tiny.fingerprints["c"])
    else:
        assert "model.safetensors" in end["reason"]
        assert server.generation() == 1


def test_read_only_folder(serve, tiny, tmp_path):
    source = models.copy(tiny["b"], tmp_path / "source" / "tiny")
    for path in [*source.rglob("*"), source]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    server = serve(tiny["a"], options=["--keep-warm", 0, ALLOW, tmp_path])
    with Watch(server, tiny) as watch:
        watch.event()
        watch.live(server.updated(source))
    source.chmod(0o755)


class Nobody:
    """A user who may do little, with a copy of the program where that user can reach it."""

    def __init__(self, place):
        self.binary = shutil.copy(BUILD / "moult", place / "moult")
        self.is_needed = os.getuid() == 0
        for folder in [place, *place.parents] if self.is_needed else []:
            if not folder.stat().st_mode & 1:
                folder.chmod(0o711)
        os.chown(place, *[NOBODY if self.is_needed else -1] * 2)

    def become(self):
        if self.is_needed:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


@pytest.fixture
def nobody(tmp_path):
    return Nobody(tmp_path)


def test_no_permission(serve, tiny, tmp_path, nobody):
    source = models.copy(tiny["b"], tmp_path / "source" / "tiny")
    (source / "model.safetensors").chmod(0)
    first = models.copy(tiny["a"], tmp_path / "first" / "tiny")
    server = serve(first, options=[ALLOW, tmp_path], binary=nobody.binary,
                   before=nobody.become)
    with Watch(server, tiny) as watch:
        watch.event()
        answer = server.update(source)
        assert answer.status == 422 and "model.safetensors" in answer.json["reason"], answer
        assert "ermission denied" in answer.json["reason"]
        source.chmod(0)
        answer = server.update(source)
        assert answer.status in (403, 422) and "ermission" in answer.body.decode(), answer
        source.chmod(0o755)
    assert server.generation() == 1


def test_data_folder_that_cannot_be_written(tiny, tmp_path, nobody):
    first = models.copy(tiny["a"], tmp_path / "first" / "tiny")
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o555)
    done = moult("serve", first, "--data", data, "--port", free_port(),
                 binary=nobody.binary, preexec_fn=nobody.become)
    assert done.returncode == 1 and str(data) in done.stderr.decode(), done


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(bytes) mounts a file system of that size."""
    place = tmp_path / "disk"

    def mount(size):
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
                              capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        return place
    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def check_refused_for_room(server, tiny, folder):
    before = sorted(path.name for path in (server.data / "models").iterdir())
    answer = server.update(folder)
    assert answer.status == 422, (answer, server.log()[-2000:])
    assert re.search("No space left", answer.json["reason"]), answer
    assert sorted(path.name for path in (server.data / "models").iterdir()) == before
    assert server.generation() == 1 and server.embed("london").status == 200
    # What fits is taken afterwards.
    assert server.updated(tiny["b"]) > 1


def test_disk_full_in_mid_copy(serve, tiny, tmp_path, small_disk):
    folder = models.make_tiny(tmp_path / "large" / "tiny", width=160, inner=1024)
    server = serve(tiny["a"], data=small_disk("3m") / "data", log=tmp_path / "log",
                   options=["--keep-warm", 0, ALLOW, tmp_path, ALLOW, tiny.place])
    with Watch(server, tiny) as watch:
        watch.event()
        check_refused_for_room(server, tiny, folder)


def test_a_limit_on_the_size_of_files(serve, tiny):
    """Less than the shared memory needs: one sentence says so, and no signal ends the server."""
    server = serve(tiny["a"], ready=False,
                   before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    assert server.wait() == 1
    assert "File too large" in server.log(), server.log()


def test_no_room_for_the_new_state(serve, tiny, tmp_path, small_disk):
    """The state is on disk before it is served: where it cannot be written, nothing changes."""
    place = small_disk("3m")
    server = serve(tiny["a"], data=place / "data", log=tmp_path / "log",
                   options=["--keep-warm", "10m", ALLOW, tiny.place])
    server.updated(tiny["b"])
    with contextlib.suppress(OSError), open(place / "filler", "wb", 0) as file:
        while True:
            file.write(b"x" * 4096)
    # The previous model is installed and warm: only the state needs room.
    with Watch(server, tiny) as watch:
        watch.event()
        answer = server.post("/rollback", {"wait": True})
        assert answer.status == 422 and "space" in answer.json["reason"], answer
    assert list(watch.result["generations"]) == ["2"]
    server.kill()
    (place / "filler").unlink()
    server.start()
    assert server.fingerprint() == tiny.fingerprints["b"]
    assert server.post("/rollback", {"wait": True}).json["status"] == "live"
    assert server.fingerprint() == tiny.fingerprints["a"]


def test_the_installed_files_are_not_what_a_person_edits(serve, tiny):
    server = serve(tiny["a"])
    for path in (server.data / "models").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o222 == 0, path


def test_a_damaged_installed_revision_is_not_served(serve, tiny):
    server = serve(tiny["a"])
    assert server.stop() == 0
    weights = next(pathlib.Path(server.data / "models").rglob("model.safetensors"))
    weights.chmod(0o644)
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    server.models = []
    server.start(ready=False)
    # One bit of one weight: the hash of the revision, or the fingerprint, must tell.
    code = server.wait()
    assert code == 1
    assert "damaged" in server.log() or "SHA-256" in server.log() or "fingerprint" in server.log()
