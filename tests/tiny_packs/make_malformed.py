"""Makes tests/tiny_packs/malformed: ONNX files that a bad export leaves, each for the place of the clip pack's
image tower (pixels [1, 3, 24, 24] -> projected [1, 16]). whole.onnx is the same graph without a fault.

    python3 tests/tiny_packs/make_malformed.py
"""

import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "malformed"
PIXELS = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 24, 24])
PROJECTED = helper.make_tensor_value_info("projected", TensorProto.FLOAT, [1, 16])
WEIGHT = numpy_helper.from_array(np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16), "weight")


def nodes(output="projected"):
    return [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], [output]),
    ]


def model(made=None, weights=(WEIGHT,), pixels=PIXELS, outputs=(PROJECTED,), opsets=(13,)):
    graph = helper.make_graph(made or nodes(), "tower", [pixels], list(outputs), list(weights))
    imports = [helper.make_opsetid("", version) for version in opsets]
    made = helper.make_model(graph, opset_imports=imports or [helper.make_opsetid("other", 1)])
    made.ir_version = 8
    return made


def external(location):
    """The weight in another file."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, 16])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "192"}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return weight


def inside_a_branch(location):
    """An external weight in a graph within a node."""
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["mean", "weight"], ["chosen"])], "branch", [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [1, 16])], [external(location)],
    )  # fmt: skip
    yes = numpy_helper.from_array(np.array(True), "yes")
    made = [nodes()[0], helper.make_node("If", ["yes"], ["projected"], then_branch=branch, else_branch=branch)]
    return model(made, weights=[yes])


def of_any_length():
    """An output whose length depends on the picture's values."""
    made = [
        helper.make_node("NonZero", ["pixels"], ["places"]),
        helper.make_node("Cast", ["places"], ["projected"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info("projected", TensorProto.FLOAT, [4, "places"])
    return model(made, weights=[], outputs=[value])


FILES = {
    "whole": model(),
    "external": model(weights=[external("weights.bin")]),
    "external_escape": model(weights=[external("../../../etc/passwd")]),
    "external_absolute": model(weights=[external("/etc/passwd")]),
    "external_in_branch": inside_a_branch("/dev/zero"),
    "opset_8": model(opsets=[8]),
    "opset_99": model(opsets=[99]),
    "opset_none": model(opsets=[]),
    "output_renamed": model(nodes("embedding"), outputs=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 16])]),
    "output_unmade": model(nodes("elsewhere")),
    "output_of_any_length": of_any_length(),
    # Fine: what the graph leaves open, the pack fixes.
    "input_open": model(pixels=helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, "height", "width"])),
    "input_fixed_otherwise": model(pixels=helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 32, 32])),
    "input_of_bytes": model(pixels=helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 3, 24, 24])),
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, made in FILES.items():
        (FOLDER / f"{name}.onnx").write_bytes(made.SerializeToString())
