"""Which level runs where, and that the levels share no code that only one of them may run."""

import os
import pathlib
import platform
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("MOULT_TEST_BUILD", "build")
PROGRAM = BUILD / "tests/kernels/test_kernels"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="These are levels of x86.")


def level(wish=None, cpu=None):
    environment = {name: value for name, value in os.environ.items() if name != "MOULT_CPU"}
    if wish:
        environment["MOULT_CPU"] = wish
    emulator = ["qemu-x86_64", "-cpu", cpu] if cpu else []
    run = subprocess.run([*emulator, PROGRAM, "--level"], env=environment, timeout=120,
                         capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_wish_is_granted_and_never_exceeded():
    best = level()
    names = ["c", "avx2", "avx512", "avx512vnni"]
    for wish in names:
        assert level(wish) == names[min(names.index(wish), names.index(best))]
    assert level("no-such-level") == best


@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="qemu-user is not installed.")
@pytest.mark.skipif("san" in BUILD.parts, reason="Sanitizers do not run in an emulator.")
def test_other_cpus_get_what_they_can_run():
    assert level(cpu="Nehalem") == "c"
    assert level(cpu="Haswell") == "avx2"
    assert level("avx512", cpu="Haswell") == "avx2"
    assert level("c", cpu="Haswell") == "c"


@pytest.mark.parametrize("name", ["avx2", "avx512", "avx512vnni"])
def test_a_level_defines_nothing_but_its_table(name):
    listing = subprocess.run(["nm", "-g", "--defined-only", BUILD / f"src/kernels/x86/{name}.o"],
                             capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    ours = [symbol for symbol in symbols if not symbol.startswith("__")]
    assert ours == [f"moult_kernels_{name}"]


@pytest.mark.parametrize("name", ["avx2", "avx512", "avx512vnni"])
def test_a_scan_defines_nothing_else(name):
    listing = subprocess.run(["nm", "-g", "--defined-only",
                              BUILD / f"src/kernels/x86/scan_{name}.o"],
                             capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    ours = [symbol for symbol in symbols if not symbol.startswith("__")]
    assert sorted(ours) == [f"moult_scan_{name}", f"moult_scan_row_{name}"]
