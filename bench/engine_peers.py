"""The engines that bench/engine compares with, each in f32 and in its int8. All take lists of token
ids, pad them to the longest, pool as the model does and scale to length 1; what an engine needs
is made once, of the model's own safetensors, in a folder of the caller's."""

import json
import pathlib

import numpy

import engine_onnx

CALIBRATION_TEXTS = 300


def pad(sequences):
    ids = numpy.zeros((len(sequences), max(map(len, sequences))), numpy.int64)
    mask = numpy.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, :len(sequence)] = sequence
        mask[row, :len(sequence)] = 1
    return ids, mask


def feed(sequences):
    ids, mask = pad(sequences)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}


def pool(hidden, mask, first_token):
    if first_token:
        pooled = hidden[:, 0]
    else:
        weights = mask[..., None].astype(numpy.float32)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
    return pooled / numpy.linalg.norm(pooled, axis=1, keepdims=True)


class Model:
    """A folder of sentence-transformers, and what was made of it."""

    def __init__(self, folder, made, texts):
        self.folder, self.made, self.texts = folder, made, texts
        made.mkdir(parents=True, exist_ok=True)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pooling = folder / "1_Pooling/config.json"
        self.first_token = pooling.exists() and json.loads(
            pooling.read_text(encoding="utf-8")).get("pooling_mode_cls_token", False)

    def make(self, name, write):
        path = self.made / name
        if not path.exists():
            write(path)
        return path

    def onnx(self):
        return self.make("model.onnx", lambda path: engine_onnx.write(self.folder, path))

    def sequences(self, texts):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(128)
        return [tokenizer.encode(text).ids for text in texts]


class OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, model, precision, threads):
        import onnxruntime

        path = model.onnx() if precision == "f32" else model.make("int8.onnx", self.quantize(model))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options,
                                                    providers=["CPUExecutionProvider"])
        self.model = model

    @staticmethod
    def quantize(model):
        """Weights per output, activations when they are there: its way without calibration."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        return lambda path: quantize_dynamic(model.onnx(), path, weight_type=QuantType.QInt8,
                                             per_channel=True)

    def vectors(self, sequences):
        inputs = feed(sequences)
        hidden = self.session.run(None, inputs)[0]
        return pool(hidden, inputs["attention_mask"], self.model.first_token)


class OpenVino:
    name = "openvino"

    def __init__(self, model, precision, threads):
        import openvino

        path = model.onnx() if precision == "f32" else model.make("int8.xml", self.quantize(model))
        compiled = openvino.Core().compile_model(str(path), "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False})
        self.request = compiled.create_infer_request()
        self.names = [port.get_any_name() for port in compiled.inputs]
        self.output = compiled.output(0)
        self.model = model

    @staticmethod
    def quantize(model):
        """Post-training quantisation by nncf, calibrated with texts, smoothed: all its defaults for
        transformers."""
        if not model.texts:
            raise ValueError("its int8 needs texts for calibration: --texts FILE")

        def write(path):
            import nncf
            import openvino

            read = openvino.Core().read_model(str(model.onnx()))
            rows = model.sequences(model.texts[:CALIBRATION_TEXTS])
            data = nncf.Dataset(rows, lambda row: feed([row]))
            made = nncf.quantize(read, data, model_type=nncf.ModelType.TRANSFORMER,
                                 subset_size=CALIBRATION_TEXTS)
            openvino.save_model(made, str(path))
        return write

    def vectors(self, sequences):
        inputs = feed(sequences)
        result = self.request.infer({name: inputs[name] for name in self.names})
        return pool(numpy.array(result[self.output]), inputs["attention_mask"],
                    self.model.first_token)


class CTranslate2:
    name = "ctranslate2"

    def __init__(self, model, precision, threads):
        import ctranslate2

        path = model.make("ctranslate2", lambda path: write_ctranslate2(model, path))
        self.encoder = ctranslate2.Encoder(
            str(path), device="cpu", intra_threads=threads, inter_threads=1,
            compute_type="float32" if precision == "f32" else "int8_float32")
        self.model = model

    def vectors(self, sequences):
        hidden = numpy.array(self.encoder.forward_batch(sequences).last_hidden_state)
        return pool(hidden, pad(sequences)[1], self.model.first_token)


def write_ctranslate2(model, path):
    """The model as its converter writes it, without the gigabytes that the converter needs."""
    from ctranslate2.specs import common_spec, transformer_spec
    from ctranslate2.converters import utils
    from safetensors.numpy import load_file

    tensors = load_file(str(model.folder / "model.safetensors"))

    def linear(spec, name):
        spec.weight = tensors[f"{name}.weight"]
        spec.bias = tensors[f"{name}.bias"]
        return spec

    def norm(spec, name):
        spec.gamma = tensors[f"{name}.weight"]
        spec.beta = tensors[f"{name}.bias"]

    config = model.config
    encoder = transformer_spec.TransformerEncoderSpec(
        config["num_hidden_layers"], config["num_attention_heads"], pre_norm=False,
        activation=common_spec.Activation.GELU, layernorm_embedding=True,
        num_source_embeddings=2, embeddings_merge=common_spec.EmbeddingsMerge.ADD)
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = tensors["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = tensors["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = tensors["embeddings.position_embeddings.weight"]
    norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    for i, spec in enumerate(encoder.layer):
        layer = f"encoder.layer.{i}"
        heads = [linear(common_spec.LinearSpec(), f"{layer}.attention.self.{part}")
                 for part in ("query", "key", "value")]
        utils.fuse_linear(spec.self_attention.linear[0], heads)
        linear(spec.self_attention.linear[1], f"{layer}.attention.output.dense")
        norm(spec.self_attention.layer_norm, f"{layer}.attention.output.LayerNorm")
        linear(spec.ffn.linear_0, f"{layer}.intermediate.dense")
        linear(spec.ffn.linear_1, f"{layer}.output.dense")
        norm(spec.ffn.layer_norm, f"{layer}.output.LayerNorm")
    whole = transformer_spec.TransformerEncoderModelSpec(encoder)
    vocabulary = json.loads((model.folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = sorted(vocabulary["model"]["vocab"].items(), key=lambda item: item[1])
    names = [token for token, _ in tokens]
    names += [f"<extra_id_{i}>" for i in range(config["vocab_size"] - len(names))]
    whole.register_vocabulary(names)
    whole.config.unk_token = "[UNK]"
    whole.config.layer_norm_epsilon = config["layer_norm_eps"]
    whole.validate()
    path.mkdir(parents=True)
    try:
        whole.save(str(path))
    except Exception:
        for part in path.iterdir():
            part.unlink()
        pathlib.Path(path).rmdir()
        raise


PEERS = {peer.name: peer for peer in (OnnxRuntime, OpenVino, CTranslate2)}
