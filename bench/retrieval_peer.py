"""Encodes texts with sentence-transformers, for bench/retrieval.

    retrieval_peer.py MODEL TEXTS.jsonl VECTORS.npy     each line {"text": …}; f32 [texts][C]
"""

import json
import pathlib
import sys

import numpy
import sentence_transformers

BATCH = 32


def main():
    folder, source, target = sys.argv[1:]
    lines = pathlib.Path(source).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    vectors = model.encode(texts, batch_size=BATCH, normalize_embeddings=True,
                           show_progress_bar=sys.stderr.isatty())
    numpy.save(target, numpy.asarray(vectors, dtype=numpy.float32))


if __name__ == "__main__":
    main()
