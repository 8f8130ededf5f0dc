#!/usr/bin/env bash
# The test command: installs what Debian and PyPI must provide, then formats, lints, documents and tests everything, in release.
# Prints the seconds of each phase. Needs root only where a Debian package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
started=$SECONDS

phase() { # NAME COMMAND...
  local name=$1 from=$SECONDS
  shift
  echo "== $name"
  "$@" || { echo "== $name FAILED after $((SECONDS - from)) s" >&2; exit 1; }
  echo "== $name: $((SECONDS - from)) s"
}

packages() {
  local missing=()
  command -v unzip >/dev/null || missing+=(unzip)
  command -v pip >/dev/null || missing+=(python3-pip)
  command -v npm >/dev/null || missing+=(npm)
  command -v cc >/dev/null || missing+=(gcc)
  command -v c++ >/dev/null || missing+=(g++)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  # Vulkan on the CPU, and the layer that checks how it is used.
  ls /usr/share/vulkan/icd.d/lvp_icd.*.json >/dev/null 2>&1 || missing+=(mesa-vulkan-drivers)
  [ -e /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json ] || missing+=(vulkan-validationlayers)
  ldconfig -p | grep -q libvulkan.so.1 || missing+=(libvulkan1)
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages; run: sudo apt-get install -y ${missing[*]}" >&2
    return 1
  fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
}

libtorch() { LIBTORCH=${LIBTORCH:-$(bash tools/libtorch.sh)}; export LIBTORCH; }

everything=(--release --workspace --features undiffuse-tools/train)

no_std() {
  [ -d tests/no_std ] || return 0
  cargo run --release --manifest-path tests/no_std/Cargo.toml
}

phase "packages" packages
phase "libtorch" libtorch
phase "format" cargo fmt --all --check
phase "lint" cargo clippy "${everything[@]}" --all-targets -- -D warnings
phase "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc "${everything[@]}" --no-deps
phase "no_std" no_std
phase "conformance data" python3 tools/python/onnx_conformance.py
phase "tests" cargo test "${everything[@]}"
vulkan() {
  export UNDIFFUSE_DEVICE=llvmpipe UNDIFFUSE_VULKAN_VALIDATION=1
  cargo test "${everything[@]}" --lib vulkan -- --ignored --test-threads 1 &&
    cargo test "${everything[@]}" --test vulkan --test auto --test bad_driver --test quantized -- --ignored --test-threads 1
}

phase "vulkan" vulkan
phase "conformance" env UNDIFFUSE_DEVICE=llvmpipe cargo test "${everything[@]}" --test conformance -- --ignored
echo "== all: $((SECONDS - started)) s"
