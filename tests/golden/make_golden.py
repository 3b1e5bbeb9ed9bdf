#!/usr/bin/env python3
"""Writes the golden vectors: what sentence-transformers makes of the texts of texts.py.

    MOULT_TEST_MODEL=FOLDER tests/golden/make_golden.py

Run by hand when the texts change, never by the tests: those only read what this wrote.
  minilm.json   the texts, the versions of all libraries, the SHA-256 of the model's files
  minilm.f32    [200][384] vectors, little-endian f32, in the order of the texts
  tiny.json     the same for the models of make_tiny.py: per model, prompt and text one vector
  tiny.f32
Every text is encoded alone (batch size 1), for the library's own result changes in the last
bits with the padding that its neighbours bring; largest_batch_noise in the file says how much.
"""

import hashlib
import json
import os
import pathlib
import platform

import numpy
import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer

from texts import texts
from tiny_texts import TINY_TEXTS

HERE = pathlib.Path(__file__).resolve().parent


def versions():
    return {
        "sentence_transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def load(folder):
    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encode_alone(model, list_of_texts, **options):
    rows = [model.encode([text], batch_size=1, **options)[0] for text in list_of_texts]
    return numpy.stack(rows).astype("<f4")


def write_json(name, value):
    path = HERE / name
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


def make_minilm(folder):
    model = load(folder)
    found = texts()
    vectors = encode_alone(model, found)
    noise = float(numpy.abs(vectors - model.encode(found, batch_size=32)).max())
    (HERE / "minilm.f32").write_bytes(vectors.tobytes())
    write_json("minilm.json", {
        "made_by": "tests/golden/make_golden.py",
        "versions": versions(),
        "model": "all-MiniLM-L6-v2",
        "sha256": {name: sha256(folder / name) for name in ("model.safetensors", "tokenizer.json")},
        "largest_batch_noise": noise,
        "dimensions": vectors.shape[1],
        "texts": found,
    })


def make_tiny():
    parts, models = [], []
    for folder in sorted(HERE.glob("tiny-*")):
        model = load(folder)
        for prompt, encode in (("none", model.encode), ("query", model.encode_query),
                               ("document", model.encode_document)):
            rows = numpy.stack([encode([text], batch_size=1)[0] for text in TINY_TEXTS])
            parts.append(rows.astype("<f4").tobytes())
            models.append({"folder": folder.name, "prompt": prompt, "dimensions": rows.shape[1]})
    (HERE / "tiny.f32").write_bytes(b"".join(parts))
    write_json("tiny.json", {
        "made_by": "tests/golden/make_golden.py",
        "versions": versions(),
        "models": models,
        "texts": TINY_TEXTS,
    })


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_minilm(pathlib.Path(os.environ["MOULT_TEST_MODEL"]))
    make_tiny()
