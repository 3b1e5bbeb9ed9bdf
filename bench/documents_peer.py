"""Encodes texts with sentence-transformers in batches of 32, and says how long that takes, for
bench/documents: {"seconds": …} for each line of standard input, which names a file of JSON
strings, one a line.

    documents_peer.py MODEL [THREADS]
"""

import json
import pathlib
import sys
import time

import sentence_transformers
import torch

BATCH = 32


def main():
    if len(sys.argv) > 2:
        torch.set_num_threads(int(sys.argv[2]))
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    model.encode(["warm up"] * BATCH, batch_size=BATCH, show_progress_bar=False)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        texts = [json.loads(text) for text in
                 pathlib.Path(line.strip()).read_text(encoding="utf-8").splitlines()]
        began = time.monotonic()
        vectors = model.encode(texts, batch_size=BATCH, normalize_embeddings=True,
                               show_progress_bar=False)
        print(json.dumps({"seconds": time.monotonic() - began, "count": len(vectors)}),
              flush=True)


if __name__ == "__main__":
    main()
