#!/usr/bin/env python3
"""Writes the folders tiny-*: models of random weights, a few tens of kilobytes each, that have what
the real model has not: other pooling, no normalisation, odd widths, 16-bit files, prompts,
and the layouts of other releases of sentence-transformers.

    tests/golden/make_tiny.py

Run by hand; then make_golden.py for their vectors. The weights are far larger than those of a
fresh model, so that attention is not flat and GELU not straight.
"""

import json
import pathlib
import shutil
import string

import safetensors.torch
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertModel

HERE = pathlib.Path(__file__).resolve().parent
WORDS = ("the model of and fox quick brown query document passage moult serves one two three four "
         "five search").split()


def vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += list(string.ascii_lowercase) + ["##" + letter for letter in string.ascii_lowercase]
    tokens += list(".,!?:;") + WORDS + ["##s", "##ing"]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def write_tokenizer(folder, tokens_max):
    ids = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "unk_token": "[UNK]",
              "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
              "mask_token": "[MASK]", "model_max_length": tokens_max}
    write_json(folder / "tokenizer_config.json", config)


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_model(folder, seed, dtype, *, masked=False, **sizes):
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(vocabulary()), initializer_range=0.25, **sizes)
    model = (BertForMaskedLM(config) if masked else BertModel(config, add_pooling_layer=False))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.uniform_(-0.2, 0.2)
            elif "LayerNorm.weight" in name:
                value.uniform_(0.7, 1.3)
    tensors = {name: value.detach().to(dtype).contiguous().clone()
               for name, value in model.state_dict().items() if not name.startswith("cls.")}
    safetensors.torch.save_file(tensors, str(folder / "model.safetensors"), {"format": "pt"})
    settings = config.to_dict()
    settings["architectures"] = [type(model).__name__]
    write_json(folder / "config.json", settings)


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def make_cls():
    """Release 2's layout: cls, not normalised, bf16, two prompts, heads of 20."""
    folder = fresh("tiny-cls")
    write_model(folder, 1, torch.bfloat16, hidden_size=40, num_attention_heads=2,
                num_hidden_layers=2, intermediate_size=37, max_position_embeddings=48)
    write_tokenizer(folder, 10**30)
    old = "sentence_transformers.models."
    write_json(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": old + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": old + "Pooling"}])
    write_json(folder / "1_Pooling/config.json", {
        "word_embedding_dimension": 40, "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": True})
    write_json(folder / "config_sentence_transformers.json", {
        "prompts": {"query": "query: ", "document": "document: "}, "default_prompt_name": None})


def make_max():
    """Release 6's layout: max, normalised, f16, names with "bert.", default prompt, heads of 16."""
    folder = fresh("tiny-max")
    write_model(folder, 2, torch.float16, masked=True, hidden_size=32, num_attention_heads=2,
                num_hidden_layers=2, intermediate_size=45, max_position_embeddings=40)
    write_tokenizer(folder, 32)
    new = "sentence_transformers."
    write_json(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": new + "base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
         "type": new + "sentence_transformer.modules.pooling.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize",
         "type": new + "base.modules.normalize.Normalize"}])
    write_json(folder / "1_Pooling/config.json", {
        "embedding_dimension": 32, "pooling_mode": "max", "include_prompt": True})
    write_json(folder / "2_Normalize/config.json", {
        "module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"})
    write_json(folder / "sentence_bert_config.json", {
        "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward",
                                     "method_output_name": "last_hidden_state"}}})
    write_json(folder / "config_sentence_transformers.json", {
        "model_type": "SentenceTransformer", "default_prompt_name": "search",
        "prompts": {"query": "", "document": "", "search": "search: "}})


def make_plain():
    """A bare BERT without modules.json: mean, not normalised, f32, heads of 12, one layer."""
    folder = fresh("tiny-plain")
    write_model(folder, 3, torch.float32, hidden_size=36, num_attention_heads=3,
                num_hidden_layers=1, intermediate_size=29, max_position_embeddings=24)
    write_tokenizer(folder, 512)


if __name__ == "__main__":
    make_cls()
    make_max()
    make_plain()
