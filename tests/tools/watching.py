"""Steady load beside an event: what is counted, as docs/faults.md says for every fault.

    with Watch(server, tiny) as watch:
        watch.event()
        ...                      what must not be noticed

Each answer is checked. At the end nothing had failed, nothing was wrong, mixed or stale, and
memory, open files and processes are back. The figures are printed, and appended to the file that
MOULT_TEST_FIGURES names: tests/run shows them.
"""

import json
import os
import threading

from loading import assert_clean
from serving import until

MIB = 1 << 20


def name_of_test():
    return os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0].rpartition("/")[2]


class Watch:
    """`rate`: None asks without a pause. `processes`: how many there may be at the end (None: as
    many as before). `lossy`: the server is killed; each connection may break once, and what is
    answered must be right for all that."""

    def __init__(self, server, known, connections=8, rate=400, processes=None, lossy=False,
                 memory_slack=16 * MIB, **more):
        options = [*more.pop("options", ()), *(["--rate", str(rate)] if rate else [])]
        self.server, self.processes, self.lossy = server, processes, lossy
        self.memory_slack, self.connections = memory_slack, connections
        self.before = self._state()
        self.peak, self.ending = self.before["memory"], threading.Event()
        self.sampler = threading.Thread(target=self._sample)
        if lossy:
            options += ["--patient", "--allow", "503"]     # Until it is ready again.
        self.load = known.load(server, connections=connections, options=options, **more)

    def _state(self):
        server = self.server
        return {"memory": server.memory(), "descriptors": server.descriptors(),
                "processes": len(server.processes())}

    def _sample(self):
        """Now and then, the most that all processes take."""
        while not self.ending.wait(0.1):
            try:
                self.peak = max(self.peak, self.server.memory())
            except (OSError, ValueError):
                continue      # One of them has just ended.

    def __enter__(self):
        self.load.__enter__()
        self.sampler.start()
        self.load.wait_for_answers(20)
        self.load.tell("mark steady")
        self.load.wait_for_answers(100)
        return self

    def event(self):
        self.load.tell("mark event")

    def steady(self):
        """What was to be noticed is over; a further event may come."""
        self.load.tell("mark steady")

    def live(self, generation):
        """No older one may answer what begins from now on."""
        self.load.tell(f"min-generation {generation}")

    def wait_for_answers(self, count, **more):
        self.load.wait_for_answers(count, **more)

    def __exit__(self, kind, *exception):
        try:
            if not kind:
                self.load.tell("mark after")
                self.load.wait_for_answers(50)
                self.result = self.load.stop()
        finally:
            self.ending.set()
            self.sampler.join()
            self.load.__exit__(kind, *exception)
        if not kind:
            self._judge()

    def _judge(self):
        self.lost = 0
        if self.lossy:
            self.lost, self.result["failed"] = self.result["failed"], 0
            assert self.lost <= self.connections, self.result
        assert_clean(self.result, least=150)
        before, server = self.before, self.server
        processes = before["processes"] if self.processes is None else self.processes
        until(f"{processes} processes, not {server.processes()}",
              lambda: len(server.processes()) <= processes)
        until(f"at most {before['descriptors']} open files",
              lambda: server.descriptors() <= before["descriptors"] + max(0, processes
                                                                         - before["processes"]) * 8)
        until("the memory to come back", lambda: server.memory() < before["memory"]
              + self.memory_slack + max(0, processes - before["processes"]) * 64 * MIB)
        self._record(self._state())

    def _record(self, after):
        latency = self.result["latency_ms"]
        figures = {"test": name_of_test(), "answered": self.result["answered"], "lost": self.lost,
                   **{kind: self.result[kind] for kind in ("failed", "wrong", "mixed", "stale")},
                   "steady": latency["steady"], "event": latency.get("event", {"count": 0}),
                   "before": self.before, "peak": self.peak, "after": after}
        line = json.dumps(figures)
        print(line)
        if os.environ.get("MOULT_TEST_FIGURES"):
            with open(os.environ["MOULT_TEST_FIGURES"], "a", encoding="utf-8") as file:
                file.write(line + "\n")
