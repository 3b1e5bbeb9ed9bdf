"""`moult pull` as a person sees it: a bar on a terminal, broken off by Ctrl-C, and resumed."""

import os
import signal

from hub import behaves, hangs_after
from serving import until
from terminal import Terminal
from test_hub import NAME, is_what


def test_a_bar_that_is_broken_off_and_goes_on(hub, puller, tiny):
    hub.publish(NAME, tiny["a"])
    hub.misbehave("model.safetensors", hangs_after(5000))
    arguments = ["pull", "--data", puller.data, NAME]
    first = Terminal(arguments, puller.environment)
    first.wait_for(" MB")
    until("some bytes to arrive",
          lambda: [path.stat().st_size for path in puller.partials()] == [5000])
    assert "org/tiny [" in first.said
    os.kill(first.pid, signal.SIGINT)
    assert os.WTERMSIG(first.end()) == signal.SIGINT
    assert "the same command goes on from here." in first.said
    hub.forget()
    hub.misbehave("model.safetensors", behaves)
    second = Terminal(arguments, puller.environment)
    assert second.end() == 0
    installed = second.said.rpartition("\x1b[K")[2].strip()
    is_what(tiny["a"], puller.data / "models" / os.path.basename(installed))
    assert [headers.get("Range") for headers in hub.asked("model.safetensors")] \
        == ["bytes=5000-"]
    assert puller.revisions() == [os.path.basename(installed)]   # Nothing is left of the first.
