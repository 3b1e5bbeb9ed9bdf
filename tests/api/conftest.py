"""Servers for the tests of HTTP: one with the real model in f32, one with a tiny one, for all tests
of a file; `serve` starts another with options of its own."""

import array
import json
import os
import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))

import models  # noqa: E402
from fixtures import serve  # noqa: E402, F401
from serving import Server  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def real_model():
    folder = os.environ.get("MOULT_TEST_MODEL")
    if not folder:
        pytest.skip("MOULT_TEST_MODEL names no model folder")
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A tiny model with prompts, in a folder named tiny."""
    folder = models.make_tiny(tmp_path_factory.mktemp("tiny") / "tiny")
    models.write_json(folder / "config_sentence_transformers.json",
                      {"prompts": {"query": "question: ", "document": "passage: "},
                       "default_prompt_name": None})
    return folder


@pytest.fixture(scope="module")
def real(real_model, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("real") / "data", f"minilm={real_model}",
                options=["--precision", "f32"]) as server:
        yield server


@pytest.fixture(scope="module")
def tiny(tiny_model, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("served") / "data", tiny_model) as server:
        yield server


@pytest.fixture(scope="session")
def golden():
    """[(text, vector)] as sentence-transformers gave them, for texts that are not empty."""
    record = json.loads((GOLDEN / "minilm.json").read_text())
    numbers = array.array("f", (GOLDEN / "minilm.f32").read_bytes())
    width = record["dimensions"]
    rows = [numbers[i:i + width] for i in range(0, len(numbers), width)]
    assert len(rows) == len(record["texts"])
    return [pair for pair in zip(record["texts"], rows) if pair[0]]


@pytest.fixture
def name():
    """A collection that no other test has."""
    return "c" + random.randbytes(8).hex()
