"""A model that cannot be served is refused with the exact reason; what serves notices nothing."""

import re

import pytest

import models
from fixtures import moult
from loading import assert_clean
from serving import HealthPoll, Server, free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="module")
def server(place, tiny):
    """One server for all: it must be the same after each."""
    with Server(place / "data", tiny["a"], options=["--allow-model-from", place]) as server:
        yield server


@pytest.fixture(scope="module")
def load(server, tiny):
    with tiny.load(server, connections=2, options=["--rate", "100"]) as load, HealthPoll(server):
        yield load
        assert_clean(load.stop())


@pytest.fixture(scope="module")
def folders(place, tiny):
    return {name: models.make_broken(tiny["a"], place / f"broken{i}", name)
            for i, name in enumerate(models.BROKEN)}


@pytest.mark.parametrize("name", models.BROKEN)
def test_broken_folder(server, load, tiny, folders, name):
    answer = server.update(folders[name])
    assert answer.status == 422 and answer.json["status"] == "refused", answer
    reason = answer.json["reason"]
    print(reason)
    for words in models.BROKEN[name][1]:
        assert re.search(words, reason), reason
    assert reason.endswith(".") and len(reason) > 20
    slot = server.slot()
    assert slot["generation"] == 1 and slot["fingerprint"] == tiny.fingerprints["a"]
    assert slot["update"] is None
    last = max(slot["history"], key=lambda entry: entry["id"])
    assert last["result"] == "refused" and last["reason"] == reason


def test_a_place_that_does_not_exist(server, load, place):
    answer = server.update(place / "nowhere")
    assert answer.status in (403, 422), answer
    assert "nowhere" in answer.body.decode()


def test_a_file_instead_of_a_folder(server, load, place):
    (place / "file").write_text("no model")
    answer = server.update(place / "file")
    assert answer.status == 422 and str(place / "file") in answer.json["reason"], answer


def test_nothing_is_left_of_refused_ones(server, load, folders):
    assert server.update(folders["NaN"]).status == 422
    assert len(list((server.data / "models").iterdir())) <= 2
    assert len(server.workers()) == 1


@pytest.mark.parametrize("name", ["without model.safetensors", "NaN", "unknown architecture"])
def test_the_first_model_cannot_be_served(folders, tmp_path, name):
    done = moult("serve", folders[name], "--data", tmp_path / "data", "--port",
                 free_port())
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    words = models.BROKEN[name][1]
    assert any(all(re.search(word, line) for word in words) for line in lines), lines
