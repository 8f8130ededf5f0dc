#!/usr/bin/env python3
"""Fetches ONNX's node conformance data: the pinned PyPI wheel of `onnx`, its checksum verified, of which only the data is kept.

    python3 tools/python/onnx_conformance.py [FOLDER]     # FOLDER: target/onnx-conformance unless told; prints FOLDER/node
    python3 tools/python/onnx_conformance.py --golden     # copies the cases that are committed to tests/golden/onnx

Needs pip only. `cargo test --release --test conformance -- --ignored` plays the whole set and compares it with tests/CONFORMANCE.md.
"""

import argparse
import shutil
import sys
from pathlib import Path

import wheel

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENT = "onnx==1.22.0"
# One wheel, whatever Python runs pip: nothing of it is executed.
TAGS = "--python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64"
SHA256 = "1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5"
NODE = "onnx/backend/test/data/node/"

# One or two cases of each operator that the networks of this project's fixtures and benches hold.
GOLDEN = """
add_bcast argmax_keepdims_example averagepool_2d_pads_count_include_pad cast_FLOAT_to_DOUBLE clip concat_2d_axis_1 constant
conv_with_strides_and_asymmetric_padding conv_with_autopad_same cos_example depthtospace_crd_mode_example dequantizelinear dequantizelinear_axis div_bcast
einsum_batch_matmul equal_bcast erf expand_dim_changed flatten_axis2 gather_1 gathernd_example_float32 gelu_tanh_1
gemm_all_attributes identity instancenorm_example isnan layer_normalization_3d_axis1_epsilon layer_normalization_4d_axis3
less_equal_bcast matmul_3d matmul_1d_3d mul_bcast neg_example not_2d constant_pad reflect_pad pow_bcast_scalar pow_types_float32_int64
pow_types_int32_float32 range_float_type_positive_delta
reduce_mean_keepdims_example relu reshape_zero_and_negative_dim resize_upsample_scales_nearest resize_downsample_scales_linear
rms_normalization_2d_axis1 shape_start_1 sigmoid_example sin_example slice slice_neg_steps softmax_axis_1 split_variable_parts_2d_opset18
sqrt_example squeeze sub_bcast swish tanh_example transpose_all_permutations_3 tril_neg unsqueeze_two_axes where_example xor_bcast3v1d
""".split()
MOST_BYTES = 64 * 1024


def commit(folder):
    """Copies the committed cases, model and first data set."""
    golden = ROOT / "tests/golden/onnx"
    shutil.rmtree(golden, ignore_errors=True)
    for name in GOLDEN:
        case = folder / "node" / f"test_{name}"
        for file in [case / "model.onnx", *sorted(case.glob("test_data_set_0/*.pb"))]:
            if file.stat().st_size > MOST_BYTES:
                sys.exit(f"onnx_conformance.py: {file} is too large to be committed")
            to = golden / case.name / file.relative_to(case)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "target/onnx-conformance")
    parser.add_argument("--golden", action="store_true", help="copy the committed cases to tests/golden/onnx")
    args = parser.parse_args()
    wheel.unpack(REQUIREMENT, SHA256, args.folder / "node", NODE, TAGS.split())
    if args.golden:
        commit(args.folder)
    print(args.folder.resolve() / "node")


if __name__ == "__main__":
    main()
