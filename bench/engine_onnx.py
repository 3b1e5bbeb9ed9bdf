"""A BERT encoder of safetensors as an ONNX graph, for bench/engine: the operators that PyTorch's
exporter writes for it, without several gigabytes of PyTorch. ONNX Runtime then fuses what it can,
as it would with an exported file."""

import json
import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Graph:
    def __init__(self, tensors):
        self.tensors = tensors
        self.nodes = []
        self.initializers = []
        self.names = set()

    def constant(self, name, value):
        if name not in self.names:
            self.names.add(name)
            self.initializers.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def weight(self, name):
        return self.constant(name, self.tensors[name])

    def add(self, operator, *inputs, **attributes):
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(self, x, name):
        transposed = self.constant(f"{name}.weight.T", self.tensors[f"{name}.weight"].T)
        return self.add("Add", self.weight(f"{name}.bias"), self.add("MatMul", x, transposed))

    def norm(self, x, name, epsilon):
        return self.add("LayerNormalization", x, self.weight(f"{name}.weight"),
                        self.weight(f"{name}.bias"), axis=-1, epsilon=epsilon)

    def gelu(self, x):
        erf = self.add("Erf", self.add("Div", x, self.constant("sqrt2", numpy.float32(2**0.5))))
        one = self.add("Add", erf, self.constant("one", numpy.float32(1)))
        return self.add("Mul", self.add("Mul", x, one), self.constant("half", numpy.float32(0.5)))

    def heads(self, x, heads, width, order):
        shape = self.constant("heads", numpy.array([0, 0, heads, width], numpy.int64))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=order)


def embed(graph, epsilon):
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    types = graph.add("Gather", graph.weight("embeddings.token_type_embeddings.weight"),
                      "token_type_ids")
    length = graph.add("Slice", graph.add("Shape", "input_ids"),
                       graph.constant("at1", numpy.array([1], numpy.int64)),
                       graph.constant("at2", numpy.array([2], numpy.int64)))
    places = graph.add("Slice", graph.weight("embeddings.position_embeddings.weight"),
                       graph.constant("at0", numpy.array([0], numpy.int64)), length, "at0")
    x = graph.add("Add", graph.add("Add", words, types), places)
    return graph.norm(x, "embeddings.LayerNorm", epsilon)


def make_mask(graph):
    """0 where there is a token, the lowest f32 where there is padding: [B, 1, 1, L]."""
    mask = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=TensorProto.FLOAT),
                     graph.constant("axes12", numpy.array([1, 2], numpy.int64)))
    lowest = numpy.float32(numpy.finfo(numpy.float32).min)
    return graph.add("Mul", graph.add("Sub", graph.constant("one", numpy.float32(1)), mask),
                     graph.constant("lowest", lowest))


def layer(graph, x, mask, i, config):
    name, epsilon = f"encoder.layer.{i}", config["layer_norm_eps"]
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    attention = f"{name}.attention.self"
    query = graph.heads(graph.linear(x, f"{attention}.query"), heads, width, [0, 2, 1, 3])
    key = graph.heads(graph.linear(x, f"{attention}.key"), heads, width, [0, 2, 3, 1])
    value = graph.heads(graph.linear(x, f"{attention}.value"), heads, width, [0, 2, 1, 3])
    scores = graph.add("Div", graph.add("MatMul", query, key),
                       graph.constant("scale", numpy.float32(width**0.5)))
    weights = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
    context = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", context,
                       graph.constant("joined", numpy.array([0, 0, heads * width], numpy.int64)))
    out = graph.linear(joined, f"{name}.attention.output.dense")
    x = graph.norm(graph.add("Add", out, x), f"{name}.attention.output.LayerNorm", epsilon)
    inner = graph.gelu(graph.linear(x, f"{name}.intermediate.dense"))
    out = graph.linear(inner, f"{name}.output.dense")
    return graph.norm(graph.add("Add", out, x), f"{name}.output.LayerNorm", epsilon)


def write(folder, path):
    """From the model in `folder` to an ONNX file."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    graph = Graph(load_file(str(folder / "model.safetensors")))
    x = embed(graph, config["layer_norm_eps"])
    mask = make_mask(graph)
    for i in range(config["num_hidden_layers"]):
        x = layer(graph, x, mask, i, config)
    graph.nodes[-1].output[0] = "last_hidden_state"
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
              for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT,
                                             ["b", "s", config["hidden_size"]])]
    made = helper.make_graph(graph.nodes, "bert", inputs, outputs, graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
