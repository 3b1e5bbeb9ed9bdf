"""Which level runs where, that the program starts there, and that the levels share no code that
only one of them may run. With MOULT_TEST_EMULATOR this is about the levels of ARM64."""

import json
import math
import os
import pathlib
import platform
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("MOULT_TEST_BUILD", "build")
EMULATOR = os.environ.get("MOULT_TEST_EMULATOR", "").split()
SOAK = os.environ.get("MOULT_TEST_SOAK") == "1"
X86 = not EMULATOR and platform.machine() == "x86_64"
PROGRAM = BUILD / "tests/kernels/test_kernels"
NAMES = ["c", "avx2", "avxvnni", "avx512", "avx512vnni"] if X86 else \
    ["c", "neon", "neondot", "neoni8mm"]
FOLDER = BUILD / "src/kernels" / ("x86" if X86 else "arm")
SCANS = ["avx2", "avx512", "avx512vnni"] if X86 else ["neon", "neondot"]
# What an emulator can play, and the highest level that runs there.
CPUS = {"qemu64": "c", "Nehalem": "c", "Haswell": "avx2"} if X86 else \
    {"cortex-a53": "neon", "cortex-a76": "neondot", "max": "neoni8mm"}

pytestmark = pytest.mark.skipif(not X86 and not EMULATOR, reason="These are levels of x86.")
emulated = [
    pytest.mark.skipif(not EMULATOR and not shutil.which("qemu-x86_64"),
                       reason="qemu-user is not installed."),
    pytest.mark.skipif("san" in BUILD.parts, reason="Sanitizers do not run in an emulator."),
]


def run(words, wish=None, cpu=None, text=None):
    environment = {name: value for name, value in os.environ.items() if name != "MOULT_CPU"}
    if wish:
        environment["MOULT_CPU"] = wish
    emulator = EMULATOR or (["qemu-x86_64"] if cpu else [])
    done = subprocess.run([*emulator, *(["-cpu", cpu] if cpu else []), *words], env=environment,
                          cwd=ROOT, input=text, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def best(wish=None, cpu=None):
    return run([PROGRAM, "--level"], wish, cpu).strip()


def levels(cpu=None):
    return run([PROGRAM, "--levels"], cpu=cpu).split()


@pytest.mark.parametrize("cpu", [None, *(pytest.param(cpu, marks=emulated) for cpu in CPUS)])
def test_a_wish_is_granted_and_never_exceeded(cpu):
    """Of the levels up to the one wished for, the highest that the CPU has."""
    here = levels(cpu)
    assert here == [name for name in NAMES if name in here]
    assert best(cpu=cpu) == here[-1]
    for wish in NAMES:
        allowed = NAMES[:NAMES.index(wish) + 1]
        assert best(wish, cpu) == [name for name in here if name in allowed][-1]
    assert best("no-such-level", cpu) == here[-1]


@pytest.mark.parametrize("cpu", [pytest.param(cpu, marks=emulated) for cpu in CPUS])
def test_other_cpus_get_what_they_can_run(cpu):
    assert best(cpu=cpu) == CPUS[cpu]


@pytest.fixture(scope="session")
def moult():
    path = BUILD / "moult"
    done = subprocess.run(["make", "--no-print-directory", f"CC={os.environ.get('CC', 'gcc')}",
                           f"SAN={os.environ.get('SAN', '')}", path.relative_to(ROOT)],
                          cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.mark.parametrize("cpu", [pytest.param(cpu, marks=emulated) for cpu in CPUS])
def test_the_program_starts_on_other_cpus(moult, cpu):
    """And its vectors are those of plain C, which every CPU has."""
    def embed(wish):
        words = [moult, "embed", "tests/golden/tiny-plain", "--precision", "f32", "--threads", "1"]
        lines = run(words, wish, cpu, "How many people live in London?\nok\n").splitlines()
        return [json.loads(line)["embedding"] for line in lines]

    for found, plain in zip(embed(None), embed("c"), strict=True):
        lengths = math.hypot(*found) * math.hypot(*plain)
        assert sum(a * b for a, b in zip(found, plain)) / lengths > 0.999999


@pytest.mark.skipif(not SOAK or not X86, reason="Takes a minute each; soak does it.")
@pytest.mark.parametrize("cpu", [pytest.param(cpu, marks=emulated) for cpu in CPUS])
def test_the_encoder_is_right_on_other_cpus(cpu):
    run([BUILD / "tests/golden/test_vectors", "tiny*"], cpu=cpu)


def symbols_of(name):
    listing = subprocess.run(["nm", "-g", "--defined-only", FOLDER / f"{name}.o"],
                             capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    return sorted(symbol for symbol in symbols if not symbol.startswith("__"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_level_defines_nothing_but_its_table(name):
    assert symbols_of(name) == [f"moult_kernels_{name}"]


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_defines_nothing_else(name):
    assert symbols_of(f"scan_{name}") == [f"moult_scan_{name}", f"moult_scan_row_{name}"]
