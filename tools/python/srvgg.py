"""SRVGGNetCompact as ONNX (Wang et al. 2021, "Real-ESRGAN"; the class is basicsr's): 3x3 convolutions with PReLU on the small picture, one last
convolution whose channels become pixels, and the small picture itself, repeated, added to that.

Pictures `sample` (batch, 3, height, width), RGB from 0 to 1, to `out_sample` (batch, 3, upscale height, upscale width), in which a value may lie a
little outside.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
RANGE = [0.0, 1.0]


def graph(convolutions, slopes, upscale):
    """The model of `convolutions`, (weight, bias) each, and the `slopes` of the PReLU behind all of them but the last.

    Weights are initialisers in f16 with a Cast to f32, biases and slopes f32.
    """
    nodes, initialisers = [], []

    def constant(name, values):
        initialisers.append(numpy_helper.from_array(values, name))
        return name

    def weight(name, values):
        nodes.append(helper.make_node("Cast", [constant(name, values.astype(np.float16))], [f"{name}/f32"], f"{name}/f32", to=TensorProto.FLOAT))
        return f"{name}/f32"

    def node(op, inputs, name, **attributes):
        nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    x = "sample"
    for i, (kernel, bias) in enumerate(convolutions):
        name = f"body.{i}"
        inputs = [x, weight(f"{name}.weight", kernel), constant(f"{name}.bias", bias.astype(np.float32))]
        x = node("Conv", inputs, f"{name}/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if i < len(slopes):
            slope = constant(f"{name}.slope", slopes[i].astype(np.float32).reshape(-1, 1, 1))
            x = node("PRelu", [x, slope], f"{name}/PRelu")
    x = node("DepthToSpace", [x], "pixels", blocksize=upscale, mode="CRD")
    scales = constant("scales", np.array([1, 1, upscale, upscale], np.float32))
    repeated = node("Resize", ["sample", "", scales], "repeated", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    node("Add", [x, repeated], "out_sample")

    def picture(name, height, width):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, height, width])

    ports = [picture("sample", "height", "width")], [picture("out_sample", f"{upscale}*height", f"{upscale}*width")]
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(helper.make_graph(nodes, "upscaler", *ports, initialisers), opset_imports=opset, ir_version=8, producer_name="undiffuse-tools")
    onnx.checker.check_model(model, full_check=True)
    return model


def config(convolutions, upscale):
    """basicsr's arguments of the class, and the values that a picture of the graph has from black to white."""
    return {"_class_name": "SRVGGNetCompact", "act_type": "prelu", "num_conv": len(convolutions) - 2, "num_feat": len(convolutions[0][1]),
            "num_in_ch": 3, "num_out_ch": 3, "upscale": upscale, "value_range": RANGE}


def write(folder, convolutions, slopes, upscale):
    """`model.onnx` and `config.json` of an `upscaler/`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(convolutions, slopes, upscale), folder / "model.onnx")
    text = json.dumps(config(convolutions, upscale), indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
