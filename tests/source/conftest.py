import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))

from fixtures import *  # noqa: E402, F401, F403
from fixtures import BUILD, FAULTS  # noqa: E402
from hub import Hub, ModelServer  # noqa: E402

PROXIES = [name for name in os.environ if name.lower().endswith("_proxy")]


class Puller:
    """`moult pull` into one data folder, with an environment of its own."""

    def __init__(self, place):
        self.data, self.home = place / "data", place / "hf"
        self.environment = {name: value for name, value in os.environ.items()
                            if name not in PROXIES and not name.startswith("HF_")}
        self.environment.update(HF_HOME=str(self.home), MOULT_FAULTS_STALL_S="1")

    def run(self, source, binary=None, more=(), **environment):
        return subprocess.run([str(binary or BUILD / "moult"), "pull", "--data", str(self.data),
                               *more, str(source)], capture_output=True, text=True, timeout=120,
                              env={**self.environment, **environment})

    def start(self, source, data=None, **environment):
        """The child of a server, which this process is for it."""
        return subprocess.Popen([str(BUILD / "moult"), "pull", f"--parent={os.getpid()}",
                                 f"--data={data or self.data}", "--", str(source)], text=True,
                                env={**self.environment, **environment}, stdout=subprocess.PIPE)

    def pulled(self, source, **more):
        """The folder of what must have been installed."""
        done = self.run(source, **more)
        assert done.returncode == 0, done
        return pathlib.Path(done.stdout.strip())

    def refused(self, source, *parts, **more):
        """One sentence with these parts, and nothing installed that was not there before."""
        before = self.revisions()
        done = self.run(source, **more)
        assert done.returncode == 1 and done.stdout == "", done
        for part in parts:
            assert part in done.stderr, done
        assert self.revisions() == before
        return done.stderr

    def revisions(self):
        models = self.data / "models"
        return sorted(path.name for path in models.glob("*") if path.name != ".partial") \
            if models.exists() else []

    def partials(self):
        return sorted((self.data / "models/.partial").glob("*"))


@pytest.fixture
def hub(puller):
    with Hub() as server:
        puller.environment["HF_ENDPOINT"] = server.url
        yield server


@pytest.fixture
def puller(tmp_path):
    return Puller(tmp_path)


@pytest.fixture
def patient():
    """The program that gives up on silence after a second."""
    if not FAULTS.exists():
        pytest.skip(f"{FAULTS} is not built")
    return FAULTS


@pytest.fixture
def model_server(tmp_path):
    with ModelServer(tmp_path / "www") as server:
        yield server


@pytest.fixture
def certificates(tmp_path):
    """certificates(name) → key and certificate in one file; as .crt, the latter alone."""
    def make(name):
        both, alone = tmp_path / f"{name}.pem", tmp_path / f"{name}.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", both, "-out", alone], check=True, capture_output=True)
        with open(both, "a") as file:
            file.write(alone.read_text())
        return both
    return make
