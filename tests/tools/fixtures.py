"""Fixtures of tests/update and tests/fault: models whose vectors are known, and servers."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import models
from loading import BUILD, Load
from serving import Server, until

SOAK = os.environ.get("MOULT_TEST_SOAK") == "1"
FAULTS = BUILD / "faults/moult"


def moult(*arguments, binary=None, **more):
    """Runs a command of the program; returns the finished process."""
    return subprocess.run([str(binary or BUILD / "moult"), *map(str, arguments)],
                          capture_output=True, timeout=120, **more)


def fingerprint_of(folder):
    done = moult("info", folder, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["fingerprint"]


def shared(name, make, tmp_path_factory):
    """A folder that make(folder) fills once for all files of a tests/run; nobody changes it."""
    place = pathlib.Path(os.environ.get("MOULT_TEST_SHARED") or tmp_path_factory.mktemp("shared"))
    with open(place / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / name).exists():
            partial = place / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(place / name)
    return place / name


class Known:
    """Model folders by a letter, and the vectors that each gives for the texts. Where the folder
    has those of a letter already, they are taken."""

    def __init__(self, folder, precision="auto", **folders):
        self.precision = precision
        self.place = pathlib.Path(folder)
        self.place.mkdir(exist_ok=True)
        self.texts = models.texts(200)
        self.folders, self.fingerprints, self.expectations = {}, {}, {}
        for letter, source in folders.items():
            self.add(letter, source)

    def add(self, letter, source):
        vectors, name = self.place / f"{letter}.npy", self.place / f"{letter}.fingerprint"
        if not name.exists():
            text_file = self.place / "texts.txt"
            text_file.write_text("".join(text + "\n" for text in self.texts))
            done = moult("embed", source, "--precision", self.precision, "--input", text_file,
                         "--output", vectors)
            assert done.returncode == 0, done.stderr
            name.write_text(fingerprint_of(source))
        self.folders[letter] = pathlib.Path(source)
        self.fingerprints[letter] = name.read_text()
        self.expectations[self.fingerprints[letter]] = vectors

    def __getitem__(self, letter):
        return self.folders[letter]

    def load(self, server, **more):
        return Load(server.port, self.texts, self.expectations, **more)


def tiny_models(name, letters, first_seed, tmp_path_factory):
    """Of one shape, with other weights; the folder is this session's own."""
    def make(place):
        Known(place, **{letter: models.make_tiny(place / letter / "tiny", seed)
                        for seed, letter in enumerate(letters, first_seed)})
    place = tmp_path_factory.mktemp(name)
    shutil.copytree(shared(name, make, tmp_path_factory), place, dirs_exist_ok=True)
    return Known(place, **{letter: place / letter / "tiny" for letter in letters})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Three tiny models; b is also the second best of names."""
    return tiny_models("tiny", "abc", 1, tmp_path_factory)


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """The real model, and the same with 1 % noise on each weight."""
    source = os.environ.get("MOULT_TEST_MODEL")
    if not source:
        pytest.skip("MOULT_TEST_MODEL names no model folder")
    def make(place):
        place.mkdir()
        Known(place, a=source, b=models.copy_with_noise(source, place / "noise"))
    place = shared("real", make, tmp_path_factory)
    return Known(place, a=source, b=place / "noise")


@pytest.fixture
def serve(tmp_path):
    """serve(MODEL…, options=[…]) → a server that ends with the test."""
    servers = []

    def start(*folders, options=(), ready=True, **more):
        data = more.pop("data", tmp_path / f"data{len(servers)}")
        server = Server(data, *folders, options=options, **more)
        servers.append(server)
        return server.start(ready)

    yield start
    running = [server for server in servers if server.process and server.process.poll() is None]
    codes = [server.stop() for server in running]
    for server in servers:
        print(f"---- log of {server.data.name} ----\n{server.log()[-6000:]}")
    assert not any(codes), codes
    for server in servers:
        assert not re.search("Sanitizer|runtime error:|bug at ", server.log())


# Texts at which the program with fault points misbehaves.
DEADLY = "\x01moult-fault:crash london"
HELD = "\x01moult-fault:hold london"       # As long as Faults.hold() lasts.


def sleepy(milliseconds):
    return f"\x01moult-fault:sleep:{milliseconds} london"


class Faults:
    """The file that the program with fault points reads: what happens where."""

    def __init__(self, path):
        self.path = path
        self.environment = {"MOULT_FAULTS_FILE": str(path), "MOULT_FAULTS_WATCHDOG_S": "3",
                            "MOULT_FAULTS_STRAGGLER_S": "2"}

    def set(self, point=None, action=None):
        """set("loading", "crash"): from now on, at that point. Nothing: no faults."""
        partial = self.path.with_suffix(".new")
        partial.write_text(f"{point} {action}\n" if point else "")
        partial.rename(self.path)

    def hold(self, point=None, once=False):
        """Whoever comes to that point stands there, or only the first who does; texts, too."""
        self.path.with_suffix(".hold").touch()
        self.set(point, "once:hold" if once else "hold")

    def release(self):
        """All that stand go on, and nobody stands from now on."""
        self.set()
        self.path.with_suffix(".hold").unlink(missing_ok=True)

    def times(self, point):
        """How often some process has been at that point while there was something to do."""
        reached = self.path.with_suffix(".reached")
        return reached.read_text().split().count(point) if reached.exists() else 0

    def reached(self, point):
        return self.times(point) > 0

    def wait_for(self, point, times=1):
        until(f"{point} to be reached {times} times", lambda: self.times(point) >= times)


@pytest.fixture
def faults(tmp_path):
    if not FAULTS.exists():
        pytest.skip(f"{FAULTS} is not built")
    return Faults(tmp_path / "faults")


@pytest.fixture
def serve_with_faults(serve, faults):
    def start(*folders, **more):
        return serve(*folders, binary=FAULTS, environment=faults.environment, **more)
    return start
