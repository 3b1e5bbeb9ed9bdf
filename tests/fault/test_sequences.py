"""Sequences of orders, deaths, restarts, leases and polls, drawn from a seed, against a model of
what must hold after each step. test_chaos.py lets things happen at once and asks for what must
never happen; here each step is known, and so is what must have come of it."""

import contextlib
import os
import random
import shutil
import signal
import time

import pytest

import models
from fixtures import SOAK
from loading import assert_clean
from serving import until

LETTERS = "abc"
CONNECTIONS = 4
SEEDS = range(40 if SOAK else 2)
STEPS = 80 if SOAK else 16
POLLED_SEEDS = range(8 if SOAK else 1)
POLLED_STEPS = 40 if SOAK else 8


class Model:
    """What is known of the slot. Where a race decides, `previous` has each that may be."""

    def __init__(self):
        self.current, self.previous, self.generation = "a", {None}, 1
        self.leases = {}             # Id to letter.
        self.rolled_back = set()     # Not to be taken again by polling alone.

    def goes_live(self, letter, generation, force=False):
        assert generation > self.generation or (letter == self.current and not force), generation
        if letter != self.current:
            self.previous = {self.current}
        self.current, self.generation = letter, max(self.generation, generation)

    def must_answer(self):
        known = self.previous if len(self.previous) == 1 else set()
        return ({self.current} | known | set(self.leases.values())) - {None}


class Machine:
    """A server, and steps that keep the model true."""

    def __init__(self, server, tiny, load, seed):
        self.server, self.tiny, self.load = server, tiny, load
        self.draw, self.model = random.Random(seed), Model()
        self.source = None
        self.breaks = 0              # Times that each connection may have broken.
        self.kills = 0
        self.done = []               # The steps, for who reads of a failure.

    def run(self, steps):
        for _ in range(steps):
            step = self.draw.choice(self.steps())
            self.done.append(step.__name__)
            step()
            self.check()

    def steps(self):
        return [self.update, self.update, self.update_by_force, self.broken_update, self.roll_back,
                self.roll_back, self.cancel, self.two_at_once, self.by_hand, self.kill_a_worker,
                self.kill_the_server, self.kill_in_mid_update, self.stop_and_start,
                self.ask_exactly, self.take_a_lease, self.end_a_lease]

    # ---- What must hold ----

    def check(self):
        slot = until("updates to end", self.settled)
        letter = self.letter_of(slot["fingerprint"])
        assert letter == self.model.current, (letter, self.model.current)
        assert slot["generation"] == self.model.generation, (slot, self.model.generation)
        self.load.tell(f"min-generation {slot['generation']}")
        ids = [entry["id"] for entry in slot["history"]]
        assert len(set(ids)) == len(ids) and all(entry["result"] != "running"
                                                 for entry in slot["history"]), slot["history"]

    def settled(self):
        slot = self.server.slot()
        return slot if slot["update"] is None and slot["next"] is None else None

    def letter_of(self, fingerprint):
        return next(letter for letter in LETTERS
                    if self.tiny.fingerprints[letter].startswith(fingerprint))

    def label(self, letter):
        return f"tiny@{self.tiny.fingerprints[letter][:8]}"

    def other_letter(self):
        return self.draw.choice(LETTERS)

    # ---- Orders, one after the other ----

    def took(self, letter, answer, force=False):
        if letter == self.model.current and not force:
            assert answer.json["status"] == "unchanged", answer
        else:
            assert answer.json["status"] == "live", answer
            self.model.goes_live(letter, answer.json["generation"], force)

    def update(self):
        letter = self.other_letter()
        self.took(letter, self.server.update(self.tiny[letter], cutover="auto"))

    def update_by_force(self):
        letter = self.other_letter()
        self.took(letter, self.server.update(self.tiny[letter], force=True), force=True)

    def broken_update(self):
        answer = self.server.update(self.tiny.place / "nowhere")
        assert answer.status == 422 and "nowhere" in answer.json["reason"], answer

    def roll_back(self):
        answer = self.server.post("/rollback", {"wait": True})
        if answer.status == 409:
            assert None in self.model.previous, answer
            self.model.previous = {None}
            return
        assert answer.json["status"] == "live", answer
        letter = self.letter_of(self.server.fingerprint())
        assert letter in self.model.previous, (letter, self.model.previous)
        self.model.rolled_back.add(self.model.current)
        self.model.goes_live(letter, answer.json["generation"])

    def by_hand(self):
        """Ready, and then a person says yes, or no, or something else."""
        letter = self.other_letter()
        answer = self.server.update(self.tiny[letter], cutover="manual")
        if letter == self.model.current:
            assert answer.json["status"] == "unchanged", answer
            return
        assert answer.status == 200 and answer.json["status"] == "ready", answer
        update = answer.json["id"]
        assert self.letter_of(self.server.fingerprint()) == self.model.current
        end = self.draw.choice(["yes", "no", "restart", "back"])
        if end == "yes":
            answer = self.server.post(f"/update_model/{update}/cutover", {"wait": True})
            self.took(letter, answer)
        elif end == "no":
            assert self.server.call("DELETE", f"/update_model/{update}").status == 200
        elif end == "restart":
            self.kill_the_server()
        else:
            self.roll_back()
            if self.server.slot()["update"]:     # There is no previous model: it still waits.
                assert self.server.call("DELETE", f"/update_model/{update}").status == 200

    # ---- Orders that meet ----

    def cancel(self):
        letter = self.other_letter()
        answer = self.server.update(self.tiny[letter], wait=False)
        update = answer.json["id"]
        time.sleep(self.draw.choice([0, 0.002, 0.01, 0.03]))
        said = self.server.call("DELETE", f"/update_model/{update}")
        end = self.server.wait_for_end(update)
        if end["status"] == "cancelled":
            return
        assert said.status in (404, 409), (said, end)
        if end["status"] == "live":
            self.model.goes_live(letter, end["generation"])
        else:
            assert end["status"] == "unchanged" and letter == self.model.current, end

    def two_at_once(self):
        """The newer one wins; what the older one did before that, is open."""
        old = self.model.current
        letters = [self.other_letter(), self.other_letter()]
        orders = []
        for letter in letters:
            orders.append(self.server.update(self.tiny[letter], wait=False).json["id"])
            time.sleep(self.draw.choice([0, 0.002, 0.01]))
        ends = [self.server.wait_for_end(order) for order in orders]
        assert ends[0]["status"] in ("live", "unchanged", "superseded"), ends
        assert ends[1]["status"] in ("live", "unchanged"), ends
        before = self.model.previous
        generations = [end["generation"] for end in ends if end["status"] == "live"]
        if ends[0]["status"] == "live" and orders[0] != orders[1]:
            self.model.goes_live(letters[0], ends[0]["generation"])
        if ends[1]["status"] == "live":
            self.model.goes_live(letters[1], ends[1]["generation"])
        assert generations == sorted(generations), ends
        if letters[1] == old:
            self.model.previous |= before

    # ---- Deaths ----

    def kill_a_worker(self):
        """Five deaths of a young one would be a rollback: another test's."""
        workers = self.server.workers()
        if workers and self.kills < 3:
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.draw.choice(workers), signal.SIGKILL)

    def kill_the_server(self):
        self.server.kill()
        self.start_again()

    def stop_and_start(self):
        assert self.server.stop() == 0
        self.start_again()

    def start_again(self):
        self.breaks, self.kills = self.breaks + 1, 0
        at = self.server.options.index("--keep-warm")
        self.server.options[at + 1] = self.draw.choice(["0", "1s", "10m"])
        self.server.start()

    def kill_in_mid_update(self):
        letter, old = self.other_letter(), self.model.current
        self.server.update(self.tiny[letter], wait=False)
        time.sleep(self.draw.choice([0, 0.002, 0.005, 0.01, 0.02, 0.05]))
        self.kill_the_server()
        slot = self.server.slot()
        found = self.letter_of(slot["fingerprint"])
        assert found in (letter, old), (found, letter, old)
        if found != old:
            self.model.goes_live(found, slot["generation"])

    # ---- Exact names ----

    def ask_exactly(self):
        letter = self.other_letter()
        answer = self.server.embed("how big is london", self.label(letter))
        if letter in self.model.must_answer():
            assert answer.status == 200, (letter, answer)
        assert answer.status in (200, 404), answer
        if answer.status == 200:
            assert self.letter_of(answer.headers["x-moult-fingerprint"]) == letter, answer

    def take_a_lease(self):
        letter = self.other_letter()
        answer = self.server.post("/leases", {"model": self.label(letter), "ttl": "1h"})
        if letter in self.model.must_answer():
            assert answer.status == 201, answer
        assert answer.status in (201, 404), answer
        if answer.status == 201:
            self.model.leases[answer.json["id"]] = letter

    def end_a_lease(self):
        held = {lease["id"] for lease in self.server.get("/leases").json["leases"]}
        assert held == set(self.model.leases), (held, self.model.leases)
        if held:
            lease = self.draw.choice(sorted(held))
            assert self.server.call("DELETE", f"/leases/{lease}").status == 200
            del self.model.leases[lease]


class PolledMachine(Machine):
    """The same, where the source is looked at all the time, and moves."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.source = self.server.models[0]

    def steps(self):
        return [*super().steps(), *[self.publish] * 6, *[self.publish_what_is_broken] * 2,
                *[self.publish_by_halves] * 2]

    def settled(self):
        slot = super().settled()
        if slot and slot["poll"]["state"] in ("unchanged", "refused") and slot["poll"]["next_at"]:
            return slot
        return None

    def replace_source(self, folder, damage=None):
        new = models.copy(folder, self.source + ".new")
        if damage:
            damage(new)
        old = self.source + ".old"
        os.rename(self.source, old)
        os.rename(new, self.source)
        shutil.rmtree(old)

    def publish(self):
        """What was rolled back is taken or not, once the source has had something else."""
        letter = self.other_letter()
        self.replace_source(self.tiny[letter])
        # A look that had begun before may end in this second or in the next one.
        replaced_at = int(time.time())

        def seen():
            slot = self.settled()
            return slot if slot and slot["poll"]["last_at"] > replaced_at + 1 else None
        slot = until("the source to be looked at", seen)
        if self.letter_of(slot["fingerprint"]) == letter:
            self.model.goes_live(letter, slot["generation"])
        else:
            assert letter in self.model.rolled_back, (letter, slot)

    def publish_what_is_broken(self):
        before = max(entry["id"] for entry in self.server.slot()["history"])
        # Never the same twice: what was refused is not tried again.
        self.replace_source(self.tiny[self.other_letter()], lambda folder: models.change_json(
            folder / "config.json", hidden_act="sine", step=len(self.done)))

        def refused():
            slot = self.server.slot()
            last = max(slot["history"], key=lambda entry: entry["id"])
            return last["id"] > before and last["result"] == "refused" and slot["poll"]["state"] \
                == "refused" and "hidden_act" in last["reason"]
        until("it to be refused", refused)

    def publish_by_halves(self):
        self.replace_source(self.tiny[self.other_letter()],
                            models.BROKEN["half of the weights"][0])
        until("it to be waited for", lambda: self.server.slot()["poll"]["state"] == "incomplete")
        self.publish()


def check_what_is_left(server, model, descriptors):
    until("old workers to go", lambda: len(server.workers()) <= 3)
    until("open files to be closed", lambda: server.descriptors() <= descriptors + 3 * 8)
    installed = [entry.name for entry in (server.data / "models").iterdir()]
    assert not [name for name in installed if name.startswith(".incoming")], installed
    assert len(installed) <= 2 + len(LETTERS), installed


def run(kind, server, tiny, seed, steps):
    descriptors = server.descriptors()
    with tiny.load(server, connections=CONNECTIONS,
                   options=["--rate", "100", "--patient", "--allow", "503"]) as load:
        machine = kind(server, tiny, load, seed)
        try:
            load.wait_for_answers(10)
            machine.run(steps)
        except BaseException:
            print(f"seed {seed!r}: {' '.join(machine.done)}")
            print(vars(machine.model), server.process.poll() is None and server.slot())
            raise
        load.wait_for_answers(10)
        result = load.stop()
    assert result["failed"] <= CONNECTIONS * machine.breaks, result
    assert_clean(dict(result, failed=0))
    check_what_is_left(server, machine.model, descriptors)


@pytest.mark.parametrize("seed", SEEDS)
def test_sequences(serve, tiny, seed):
    server = serve(tiny["a"], options=["--keep-warm", "10m", "--allow-model-from", tiny.place])
    run(Machine, server, tiny, f"sequence {seed}", STEPS)


@pytest.mark.parametrize("seed", POLLED_SEEDS)
def test_sequences_with_a_source_that_moves(serve, tiny, tmp_path, seed):
    source = models.copy(tiny["a"], tmp_path / "source" / "tiny")
    server = serve(source, options=["--keep-warm", "10m", "--update-every", "1",
                                    "--allow-model-from", tiny.place])
    run(PolledMachine, server, tiny, f"polled {seed}", POLLED_STEPS)
