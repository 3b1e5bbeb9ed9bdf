"""Runs tests/tools/load.c beside a test: Load(port, texts, {fingerprint: vectors}) as a context."""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("MOULT_TEST_BUILD", "build")


def write_npy(path, rows):
    """Writes rows of equal length as a matrix of little-endian f32."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header = header.ljust(64 * ((len(header) + 74) // 64) - 11) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for row in rows:
            file.write(struct.pack(f"<{len(row)}f", *row))


class Load:
    """Connections that are kept busy, and every answer checked; see load.c for what is counted."""

    def __init__(self, port, texts, expectations, connections=16, texts_max=4, model=None,
                 options=()):
        self.texts_file = tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8")
        self.texts_file.write("".join(text + "\n" for text in texts))
        self.texts_file.flush()
        command = [str(BUILD / "tests/tools/load"), "--port", str(port),
                   "--texts", self.texts_file.name,
                   "--connections", str(connections), "--texts-max", str(texts_max)]
        for fingerprint, path in expectations.items():
            command += ["--expect", f"{fingerprint[:16]}={path}"]
        if model:
            command += ["--model", model]
        self.process = subprocess.Popen(command + list(options), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.texts_file.close()

    def _say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def tell(self, line):
        """`mark NAME` or `min-generation G`; holds for every request begun after this returned."""
        answer = self._say(line)
        assert answer == "ok", answer

    def report(self):
        return json.loads(self._say("report"))

    def wait_for_answers(self, count, timeout=60, generation=None):
        """Waits until so many more answers came (of one generation, where given)."""
        def answers():
            result = self.report()
            return result["answered"] if generation is None \
                else result["generations"].get(str(generation), 0)
        least, deadline = answers() + count, time.monotonic() + timeout
        while answers() < least:
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.01)

    def stop(self):
        """Ends the load after the answers in flight; returns the counts."""
        return json.loads(self._say("stop"))

    def result(self):
        """The counts of a load that ends by itself."""
        line = self.process.stdout.readline()
        self.process.wait()
        return json.loads(line)


def assert_clean(result, least=1):
    """Nothing failed, nothing was wrong, mixed or stale, and there were answers at all."""
    troubles = {kind: result[kind] for kind in ("failed", "wrong", "mixed", "stale")}
    assert not any(troubles.values()), (troubles, result["first_trouble"])
    assert result["answered"] >= least, result
