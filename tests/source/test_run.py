"""What `make run` serves: tools/choose-model."""

import os
import pathlib
import subprocess

import pytest

from fixtures import BUILD
from test_serve import QUESTION

ROOT = pathlib.Path(__file__).resolve().parents[2]


def chosen(puller, data, model="", **environment):
    done = subprocess.run([ROOT / "tools/choose-model", model, data], text=True,
                          capture_output=True, timeout=300,
                          env={**puller.environment, "MOULT": str(BUILD / "moult"),
                               "MOULT_PROBE_SECONDS": "60", **environment})
    assert done.returncode == 0, done
    return done.stdout.strip(), done.stderr


def test_what_a_person_names(puller, tmp_path):
    assert chosen(puller, tmp_path, "./mine") == ("./mine", "")


def test_the_question_s_own_where_a_hub_answers(hub, puller, serve, tiny):
    hub.publish(QUESTION, tiny["a"])
    model, _ = chosen(puller, puller.data)
    assert model == QUESTION and not hub.asked("/resolve/")
    server = serve(model, data=puller.data, environment=puller.environment)
    assert server.fingerprint() == tiny.fingerprints["a"]
    # The next time, that is what the data folder has; no hub is needed for it.
    assert chosen(puller, puller.data, HF_ENDPOINT="http://127.0.0.1:9") == ("", "")


def test_one_of_the_package_index_where_no_hub_answers(puller, tmp_path):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    if not (cache / "moult/all-MiniLM-L6-v2").is_dir():
        pytest.skip("that model has not been fetched here")
    model, said = chosen(puller, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert model == str(cache / "moult/all-MiniLM-L6-v2") and "No hub answers" in said
