"""What moult is compared with: one process serves HTTP, another holds the model, and
sentence-transformers does the work, one query after the other. It is the shape of program that
people write first, and that the question behind this project asked about.

    python server_peer.py MODEL PORT

GET /?q=TEXT embeds the text, sleeps SEARCH_SECONDS in the place of a search, and says "ok".
GET /update_model has the worker take its model anew before its next query.
"""

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import sys

import fastapi
import uvicorn

SEARCH_SECONDS = float(os.environ.get("SEARCH_SECONDS", "0.005"))

# The worker's own.
model = None
model_iteration = 0
wanted = None


def start_worker(shared):
    global wanted
    wanted = shared
    take_model()


def take_model():
    global model, model_iteration
    import sentence_transformers
    model_iteration = wanted.iteration
    model = sentence_transformers.SentenceTransformer(wanted.folder, device="cpu")


def embed(text):
    if wanted.iteration > model_iteration:
        take_model()
    return model.encode(text)


@contextlib.asynccontextmanager
async def lifespan(application):
    with multiprocessing.Manager() as manager:
        shared = manager.Namespace()
        shared.folder, shared.iteration = sys.argv[1], 0
        with concurrent.futures.ProcessPoolExecutor(1, initializer=start_worker,
                                                    initargs=(shared,)) as pool:
            application.state.shared, application.state.pool = shared, pool
            yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/")
async def entrypoint(request: fastapi.Request, q: str):
    await asyncio.get_running_loop().run_in_executor(request.app.state.pool, embed, q)
    await asyncio.sleep(SEARCH_SECONDS)
    return "ok"


@app.get("/update_model")
async def update_model(request: fastapi.Request):
    request.app.state.shared.iteration += 1
    return {}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning",
                access_log=False)
