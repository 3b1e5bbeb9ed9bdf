"""Model folders for the tests: tiny ones of random weights, noisy copies, broken ones of each kind.

Nothing but the standard library, so that the tests need no packages for it."""

import array
import json
import math
import os
import pathlib
import random
import shutil
import struct

WORDS = """
    the of and to in a is was for on that with as it at by from his her an be this which or are
    had not but have were all their one you they we can if when what there more who out so said
    time about other into than its some only new could these two may first then do any like my now
    over such our man even most made after also did many before must through back years where much
    your way well down should because each just those people how too little state good very make
    world still own see men work long here get both between life being under never day same
    another know while last might us great old year off come since against go came right used
    london big how city model vector worker request answer server
    """.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = SPECIAL + list(LETTERS) + ["##" + letter for letter in LETTERS] + list(".,!?'-") \
    + [word for word in dict.fromkeys(WORDS) if len(word) > 1]


def texts(count, seed=1, words_most=12):
    """Distinct texts that any tokenizer of ours reads; nothing in them looks like JSON."""
    draw = random.Random(seed)
    return [f"{i} " + " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, words_most)))
            for i in range(count)]


# ---- Safetensors ----

def read_tensors(path):
    """The header, with its tensors' data: {name: (dtype, shape, bytes)}."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def write_tensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    write_safetensors(path, header, b"".join(data for _, _, data in tensors.values()))


def write_safetensors(path, header, data):
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)


# ---- Good folders ----

def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change_json(path, **changes):
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps(value))


def tokenizer_json(vocabulary):
    def special(word):
        return {"SpecialToken": {"id": word, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": word, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, word in enumerate(SPECIAL)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"),
                     {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {word: {"id": word, "ids": [SPECIAL.index(word)], "tokens": [word]}
                               for word in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {word: i for i, word in enumerate(vocabulary)}}}


def tiny_tensors(seed, width, layers, inner, positions, words):
    draw = random.Random(seed)
    pool = [draw.gauss(0, 0.1) for _ in range(8191)]
    tensors = {}

    def add(name, *shape, around=0.0):
        count = math.prod(shape)
        at = draw.randrange(len(pool))
        values = array.array("f", (around + value for value in pool[at:] + pool[:at]))
        values = values * (count // len(pool) + 1)
        tensors[name] = ("F32", list(shape), values[:count].tobytes())

    def norm(name):
        add(name + ".weight", width, around=1.0)
        add(name + ".bias", width)

    def dense(name, out, into):
        add(name + ".weight", out, into)
        add(name + ".bias", out)

    add("embeddings.word_embeddings.weight", words, width)
    add("embeddings.position_embeddings.weight", positions, width)
    add("embeddings.token_type_embeddings.weight", 2, width)
    norm("embeddings.LayerNorm")
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            dense(prefix + "attention.self." + part, width, width)
        dense(prefix + "attention.output.dense", width, width)
        norm(prefix + "attention.output.LayerNorm")
        dense(prefix + "intermediate.dense", inner, width)
        dense(prefix + "output.dense", width, inner)
        norm(prefix + "output.LayerNorm")
    return tensors


def make_tiny(folder, seed=1, width=32, layers=2, heads=4, inner=64, positions=64, words=0):
    """A whole model of some hundred kilobytes. Another seed is another model of the same shape."""
    folder = pathlib.Path(folder)
    vocabulary = VOCABULARY + [f"[unused{i}]" for i in range(words - len(VOCABULARY))]
    write_json(folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads,
        "num_hidden_layers": layers, "vocab_size": len(vocabulary), "type_vocab_size": 2,
        "max_position_embeddings": positions, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute"})
    write_json(folder / "tokenizer.json", tokenizer_json(vocabulary))
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True,
                                                  "tokenizer_class": "BertTokenizer"})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": positions,
                                                      "do_lower_case": False})
    write_json(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
         "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize",
         "type": "sentence_transformers.models.Normalize"}])
    write_json(folder / "1_Pooling/config.json", {
        "word_embedding_dimension": width, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_tensors(folder / "model.safetensors",
                  tiny_tensors(seed, width, layers, inner, positions, len(vocabulary)))
    return folder


def make_large(folder, seed=1):
    """The same with 113 MB of weights."""
    return make_tiny(folder, seed, width=768, layers=4, heads=12, inner=3072)


def make_base(folder, seed=1):
    """The same in the size of all-mpnet-base-v2: 12 layers of 768, 30,527 words, 438 MB."""
    return make_tiny(folder, seed, width=768, layers=12, heads=12, inner=3072, positions=514,
                     words=30527)


def copy(source, folder):
    """A copy whose files may be changed."""
    shutil.copytree(source, folder)
    for path in pathlib.Path(folder).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return pathlib.Path(folder)


def copy_with_noise(source, folder, amount=0.01, seed=7):
    """The same model with each weight changed by about 1 %: its vectors are near, never equal."""
    draw = random.Random(seed)
    factors = [1 + draw.gauss(0, amount) for _ in range(65537)]
    folder = copy(source, folder)
    tensors = read_tensors(folder / "model.safetensors")
    for at, (name, (dtype, shape, data)) in enumerate(tensors.items()):
        if dtype != "F32":
            continue
        values = array.array("f", data)
        turn = factors[at:] + factors[:at]
        turn = turn * (len(values) // len(turn) + 1)
        tensors[name] = (dtype, shape, array.array("f", map(float.__mul__, values, turn)).tobytes())
    write_tensors(folder / "model.safetensors", tensors)
    return folder


# ---- Broken folders ----
#
# Each function damages a copy of a good folder; the words are what the reason
# must say, so that a person knows which file, tensor or setting it is about.

BROKEN = {}


def breaks(name, *words):
    def keep(damage):
        BROKEN[name] = (damage, words)
        return damage
    return keep


def make_broken(source, folder, name):
    folder = copy(source, folder)
    BROKEN[name][0](folder)
    return folder


def weights(folder):
    return folder / "model.safetensors"


def change_tensor(folder, name, change):
    tensors = read_tensors(weights(folder))
    tensors[name] = change(*tensors[name])
    write_tensors(weights(folder), tensors)


def change_header(folder, change):
    raw = weights(folder).read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    change(header)
    write_safetensors(weights(folder), header, raw[8 + size:])


def poison(folder, value):
    def change(dtype, shape, data):
        values = array.array("f", data)
        values[len(values) // 2] = value
        return dtype, shape, values.tobytes()
    change_tensor(folder, "encoder.layer.1.output.dense.weight", change)


for file_name in ("config.json", "tokenizer.json", "model.safetensors"):
    breaks(f"without {file_name}", file_name)(
        lambda folder, name=file_name: (folder / name).unlink())


@breaks("pickle only", "pytorch_model.bin", "safetensors")
def _(folder):
    weights(folder).rename(folder / "pytorch_model.bin")


@breaks("empty folder", "config.json|model.safetensors|modules.json")
def _(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@breaks("half of the weights", "model.safetensors")
def _(folder):
    os.truncate(weights(folder), weights(folder).stat().st_size // 2)


@breaks("weights a byte short", "model.safetensors")
def _(folder):
    os.truncate(weights(folder), weights(folder).stat().st_size - 1)


@breaks("weights of 4 bytes", "model.safetensors")
def _(folder):
    os.truncate(weights(folder), 4)


@breaks("weights too long", "model.safetensors")
def _(folder):
    with open(weights(folder), "ab") as file:
        file.write(b"\0" * 64)


@breaks("NaN", "encoder.layer.1.output.dense.weight", "NaN|nan|finite")
def _(folder):
    poison(folder, float("nan"))


@breaks("infinity", "encoder.layer.1.output.dense.weight", "inf|Inf|finite")
def _(folder):
    poison(folder, float("-inf"))


@breaks("weights that overflow", "finite|self-check|overflow")
def _(folder):
    def change(dtype, shape, data):
        return dtype, shape, array.array("f", [3e38] * (len(data) // 4)).tobytes()
    change_tensor(folder, "encoder.layer.1.output.dense.weight", change)


@breaks("missing tensor", "encoder.layer.1.attention.self.query.weight")
def _(folder):
    tensors = read_tensors(weights(folder))
    del tensors["encoder.layer.1.attention.self.query.weight"]
    write_tensors(weights(folder), tensors)


@breaks("wrong shape", "encoder.layer.0.intermediate.dense.weight")
def _(folder):
    change_tensor(folder, "encoder.layer.0.intermediate.dense.weight",
                  lambda dtype, shape, data: (dtype, shape[::-1], data))


@breaks("wrong dimension", "hidden_size|embeddings", "48", "32")
def _(folder):
    change_json(folder / "config.json", hidden_size=48)
    change_json(folder / "1_Pooling/config.json", word_embedding_dimension=48)


@breaks("pooling of another dimension", "1_Pooling|word_embedding_dimension|dimension")
def _(folder):
    change_json(folder / "1_Pooling/config.json", word_embedding_dimension=48)


@breaks("another vocabulary", "tokenizer.json", "embeddings|vocabulary")
def _(folder):
    write_json(folder / "tokenizer.json",
               tokenizer_json(VOCABULARY + [f"other{i}" for i in range(100)]))


@breaks("unknown architecture", "llama")
def _(folder):
    change_json(folder / "config.json", model_type="llama", architectures=["LlamaModel"])


@breaks("unknown activation", "hidden_act|sine")
def _(folder):
    change_json(folder / "config.json", hidden_act="sine")


@breaks("unknown pooling", "ooling")
def _(folder):
    change_json(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=False,
                pooling_mode_mean_sqrt_len_tokens=True)


@breaks("unknown module", "Dense|2_Dense|module")
def _(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "2_Dense",
                    "type": "sentence_transformers.models.Dense"})
    write_json(folder / "modules.json", modules)


@breaks("module outside of the folder", "modules.json|\\.\\./")
def _(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "../../../etc"
    write_json(folder / "modules.json", modules)


@breaks("wrong dtype", "embeddings.LayerNorm.weight|I32")
def _(folder):
    change_tensor(folder, "embeddings.LayerNorm.weight",
                  lambda dtype, shape, data: ("I32", shape, data))


@breaks("unknown dtype", "embeddings.LayerNorm.weight|Q7")
def _(folder):
    change_tensor(folder, "embeddings.LayerNorm.weight",
                  lambda dtype, shape, data: ("Q7", shape, data))


@breaks("f16 of the length of f32", "embeddings.LayerNorm.weight")
def _(folder):
    change_tensor(folder, "embeddings.LayerNorm.weight",
                  lambda dtype, shape, data: ("F16", shape, data))


@breaks("header of 2^62 bytes", "model.safetensors", "header")
def _(folder):
    with open(weights(folder), "r+b") as file:
        file.write(struct.pack("<Q", 1 << 62))


@breaks("header that is no JSON", "model.safetensors")
def _(folder):
    with open(weights(folder), "r+b") as file:
        file.seek(8)
        file.write(b"[[[[[[[[")


@breaks("offsets behind the end", "model.safetensors|embeddings.LayerNorm.weight")
def _(folder):
    def change(header):
        begin, end = header["embeddings.LayerNorm.weight"]["data_offsets"]
        header["embeddings.LayerNorm.weight"]["data_offsets"] = [begin + (1 << 40), end + (1 << 40)]
    change_header(folder, change)


@breaks("offsets that overflow", "model.safetensors|embeddings.LayerNorm.weight")
def _(folder):
    def change(header):
        header["embeddings.LayerNorm.weight"]["data_offsets"] = [(1 << 64) - 64, (1 << 64) + 64]
    change_header(folder, change)


@breaks("negative shape", "model.safetensors|embeddings.LayerNorm.weight")
def _(folder):
    def change(header):
        header["embeddings.LayerNorm.weight"]["shape"] = [-32]
    change_header(folder, change)


@breaks("shape that overflows", "model.safetensors|embeddings.word_embeddings.weight")
def _(folder):
    def change(header):
        header["embeddings.word_embeddings.weight"]["shape"] = [1 << 33, 1 << 33]
    change_header(folder, change)


@breaks("tensors that overlap", "model.safetensors|encoder")
def _(folder):
    def change(header):
        one = header["encoder.layer.0.attention.self.query.weight"]
        header["encoder.layer.0.attention.self.key.weight"]["data_offsets"] = one["data_offsets"]
    change_header(folder, change)


@breaks("tokenizer that is no WordPiece", "BPE")
def _(folder):
    value = json.loads((folder / "tokenizer.json").read_text())
    value["model"] = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}
    write_json(folder / "tokenizer.json", value)


@breaks("tokenizer cut in the middle", "tokenizer.json")
def _(folder):
    os.truncate(folder / "tokenizer.json", (folder / "tokenizer.json").stat().st_size // 2)


@breaks("tokenizer without its unknown token", "\\[UNK\\]")
def _(folder):
    value = json.loads((folder / "tokenizer.json").read_text())
    value["model"]["vocab"]["nothing"] = value["model"]["vocab"].pop("[UNK]")
    value["added_tokens"] = [token for token in value["added_tokens"]
                             if token["content"] != "[UNK]"]
    write_json(folder / "tokenizer.json", value)


@breaks("vocab.txt alone", "tokenizer.json")
def _(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(word + "\n" for word in VOCABULARY))


@breaks("config that is no JSON", "config.json")
def _(folder):
    (folder / "config.json").write_text("{\"hidden_size\": 32,")


@breaks("config of 5 MB", "config.json")
def _(folder):
    change_json(folder / "config.json", filler="x" * (5 << 20))


@breaks("config nested 100,000 deep", "config.json")
def _(folder):
    (folder / "config.json").write_text("[" * 100000 + "]" * 100000)


@breaks("config that is a list", "config.json")
def _(folder):
    (folder / "config.json").write_text("[]")


# What the reason may say instead of the setting's own name: another check may find it first.
ELSEWHERE = {"num_hidden_layers": "layers|encoder.layer.2", "num_attention_heads": "heads",
             "hidden_size": "shape|word_embeddings", "intermediate_size": "intermediate",
             "vocab_size": "vocabulary|word_embeddings", "max_position_embeddings": "position"}

for key, value in [
        ("num_hidden_layers", 10 ** 9), ("num_hidden_layers", 0), ("num_hidden_layers", -1),
        ("num_hidden_layers", 3), ("num_attention_heads", 0), ("num_attention_heads", 5),
        ("hidden_size", 0), ("hidden_size", 2 ** 31), ("hidden_size", "32"),
        ("intermediate_size", 10 ** 18), ("vocab_size", 2 ** 40), ("max_position_embeddings", 0),
        ("layer_norm_eps", -1.0), ("layer_norm_eps", "small")]:
    breaks(f"{key} of {value}", f"{key}|{ELSEWHERE.get(key, key)}")(
        lambda folder, key=key, value=value: change_json(folder / "config.json", **{key: value}))


@breaks("link out of the folder", "tokenizer_config.json|config.json|link")
def _(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/passwd")


@breaks("pipe instead of a file", "config.json")
def _(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


@breaks("folder instead of the weights", "model.safetensors")
def _(folder):
    weights(folder).unlink()
    weights(folder).mkdir()
