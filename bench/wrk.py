"""The load of bench/server, bench/neighbour and bench/through: wrk with bench/server.lua, a text of
about 15 tokens a request."""

import pathlib
import re
import shutil
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent


def require():
    if not shutil.which("wrk"):
        sys.exit(f"bench/{pathlib.Path(sys.argv[0]).name} needs wrk: apt-get install wrk")


def run(name, port, clients, seconds):
    """What wrk says; ends the program where a request failed or none was answered."""
    said = subprocess.run(
        ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s",
         "--timeout", "30s", "--latency", "--script", BENCH / "server.lua",
         f"http://127.0.0.1:{port}/"],
        cwd=BENCH, text=True, capture_output=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"{name} failed at {clients} clients:\n{said}")
    if rate(said) == 0:
        sys.exit(f"{name} answered nothing in {seconds} s: is the machine busy?\n{said}")
    return said


def rate(said):
    """Requests/s."""
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


def count(said):
    return int(re.search(r"(\d+) requests in", said)[1])
