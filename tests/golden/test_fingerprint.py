"""The fingerprint, computed a second time from docs/fingerprint.md, and what leaves it alone."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess

import numpy
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests/golden"
BUILD = os.environ.get("MOULT_TEST_BUILD", "build")
EMULATOR = os.environ.get("MOULT_TEST_EMULATOR", "").split()
TINY = ["tiny-cls", "tiny-max", "tiny-plain"]
WIDEN = {
    "I64": lambda data: numpy.frombuffer(data, "<i8"),
    "F32": lambda data: numpy.frombuffer(data, "<f4"),
    "F16": lambda data: numpy.frombuffer(data, "<f2").astype("<f4"),
    "BF16": lambda data: (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4"),
}


@pytest.fixture(scope="session")
def moult():
    path = f"{BUILD}/moult"
    done = subprocess.run(["make", "--no-print-directory", f"CC={os.environ.get('CC', 'gcc')}",
                           f"SAN={os.environ.get('SAN', '')}", path],
                          cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr

    def info(folder):
        done = subprocess.run([*EMULATOR, ROOT / path, "info", "--json", str(folder)],
                              capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return info


def read_json(folder, name):
    path = folder / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_tensors(folder):
    data = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = WIDEN[entry["dtype"]](data[begin:end])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_tensors(folder, tensors):
    header, data = {"__metadata__": {"note": "written by a test"}}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape,
                        "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.astype("<f4").tobytes()
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(packed)) + packed + data)


def digest_of_tokenizer(folder):
    tables = (ROOT / "src/tokenizer/unicode_tables.c").read_text(encoding="utf-8")
    unicode_digest = re.search(r'moult_unicode_digest[^"]*"([0-9a-f]{64})"', tables)[1]
    tokenizer = read_json(folder, "tokenizer.json")
    model, normalizer = tokenizer["model"], tokenizer["normalizer"]

    def number(value, size=4):
        return value.to_bytes(size, "little")

    def string(value):
        return number(len(value.encode())) + value.encode()

    accents = normalizer["strip_accents"]
    flags = [normalizer["clean_text"], normalizer["handle_chinese_chars"],
             normalizer["lowercase"] if accents is None else accents, normalizer["lowercase"]]
    out = b"moult wordpiece 1" + unicode_digest.encode() + bytes(map(int, flags))
    out += string(model["continuing_subword_prefix"]) + number(model["vocab"][model["unk_token"]])
    out += number(model["max_input_chars_per_word"], 8) + number(len(model["vocab"]))
    for token, at in sorted(model["vocab"].items(), key=lambda item: item[1]):
        out += number(at) + string(token)
    out += number(len(tokenizer["added_tokens"]))
    for token in sorted(tokenizer["added_tokens"], key=lambda entry: entry["id"]):
        bits = sum(bit for bit, name in ((1, "single_word"), (2, "lstrip"), (4, "rstrip"),
                                         (8, "normalized")) if token[name])
        out += number(token["id"]) + number(bits, 1) + string(token["content"])
    special = tokenizer["post_processor"]["special_tokens"]
    sides = [[], []]
    side = 0
    for piece in tokenizer["post_processor"]["single"]:
        if "Sequence" in piece:
            side = 1
        else:
            sides[side] += special[piece["SpecialToken"]["id"]]["ids"]
    for ids in sides:
        out += number(len(ids)) + b"".join(map(number, ids))
    return hashlib.sha256(out).hexdigest()


def fingerprint_of(folder, facts):
    """As docs/fingerprint.md says; pooling and lengths are what `moult info` found."""
    config = read_json(folder, "config.json")
    prompts = read_json(folder, "config_sentence_transformers.json")
    named = prompts.get("prompts", {})
    default = named.get(prompts.get("default_prompt_name"), "")
    epsilon = struct.unpack("<I", struct.pack("<f", config["layer_norm_eps"]))[0]
    lines = ["moult fingerprint 1", "encoder bert 1", f"heads {config['num_attention_heads']}",
             "activation gelu", f"layer_norm_eps {epsilon:08x}", f"pooling {facts['pooling']}",
             f"normalize {int(facts['normalized'])}", f"tokens_max {facts['tokens_max']}"]
    for name, prompt in (("document", named.get("document", "")), ("default", default)):
        lines.append(f"{name}_prompt {len(prompt.encode())}:{prompt}")
    lines.append(f"tokenizer {digest_of_tokenizer(folder)}")
    tensors = {re.sub("^bert[.]", "", name): values
               for name, values in read_tensors(folder).items()}
    for name in sorted(tensors):
        if name.startswith(("embeddings.", "encoder.")) and not name.endswith("position_ids"):
            shape = ",".join(map(str, tensors[name].shape))
            digest = hashlib.sha256(tensors[name].astype("<f4").tobytes()).hexdigest()
            lines.append(f"tensor {name} [{shape}] {digest}")
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


@pytest.fixture
def copy(tmp_path):
    def make(name):
        folder = tmp_path / name
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
        return folder

    return make


def change_json(folder, name, **values):
    path = folder / name
    changed = {**read_json(folder, name), **values}
    path.write_text(json.dumps(changed), encoding="utf-8")


@pytest.mark.parametrize("name", TINY)
def test_it_is_what_the_document_says(moult, name):
    facts = moult(HERE / name)
    assert facts["fingerprint"] == fingerprint_of(HERE / name, facts)


def test_it_is_what_the_document_says_of_the_real_model(moult):
    folder = os.environ.get("MOULT_TEST_MODEL")
    assert folder, "MOULT_TEST_MODEL does not name the real model's folder; `make test` sets it."
    facts = moult(folder)
    assert facts["fingerprint"] == fingerprint_of(pathlib.Path(folder), facts)


@pytest.mark.parametrize("name", TINY)
def test_saving_anew_leaves_it(moult, copy, name):
    """In f32, in another order, with other metadata and with, or without, the prefix."""
    folder = copy(name)
    tensors = read_tensors(folder)
    prefixed = any(key.startswith("bert.") for key in tensors)
    tensors = {key[5:] if prefixed else "bert." + key: tensors[key]
               for key in sorted(tensors, reverse=True)}
    write_tensors(folder, tensors)
    change_json(folder, "tokenizer.json", truncation=None, padding=None)
    assert moult(folder)["fingerprint"] == moult(HERE / name)["fingerprint"]


def test_the_query_prompt_leaves_it_and_the_others_do_not(moult, copy):
    found = {}
    for role, prompts in (("query", {"query": "find: ", "document": "document: "}),
                          ("document", {"query": "query: ", "document": "text: "})):
        folder = copy("tiny-cls")
        change_json(folder, "config_sentence_transformers.json", prompts=prompts)
        found[role] = moult(folder)["fingerprint"]
    change_json(folder, "config_sentence_transformers.json",
                prompts={"query": "query: ", "document": "document: "}, default_prompt_name="query")
    found["default"] = moult(folder)["fingerprint"]
    before = moult(HERE / "tiny-cls")["fingerprint"]
    assert found["query"] == before
    assert len({before, found["document"], found["default"]}) == 3


def test_each_part_of_the_space_changes_it(moult, copy):
    found = {moult(HERE / "tiny-cls")["fingerprint"]}
    for name, values in (("sentence_bert_config.json", {"max_seq_length": 23}),
                         ("1_Pooling/config.json", {"pooling_mode": "mean"}),
                         ("config.json", {"layer_norm_eps": 1e-6}),
                         ("config.json", {"num_attention_heads": 4})):
        folder = copy("tiny-cls")
        change_json(folder, name, **values)
        found.add(moult(folder)["fingerprint"])
    folder = copy("tiny-cls")
    tensors = read_tensors(folder)
    values = tensors["encoder.layer.1.output.dense.bias"] = \
        tensors["encoder.layer.1.output.dense.bias"].copy()
    values[0] = numpy.nextafter(values[0], numpy.float32(1))
    write_tensors(folder, tensors)
    found.add(moult(folder)["fingerprint"])
    assert len(found) == 6
