#!/usr/bin/env bash
# Fetches libtorch 2.11.0 (the pinned PyPI wheels, checksums verified) and prints the folder that LIBTORCH must name.
# Usage: export LIBTORCH=$(tools/libtorch.sh [FOLDER])      FOLDER: target/libtorch unless told
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${CARGO_TARGET_DIR:-target}/libtorch}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ -f "$folder/complete" ]; then echo "$folder/torch"; exit 0; fi
[ "$(uname -m)" = x86_64 ] || { echo "libtorch.sh: the pinned wheels are for x86_64; on $(uname -m) set LIBTORCH to an installed torch 2.11 folder" >&2; exit 1; }
for tool in pip unzip sha256sum; do
  command -v "$tool" >/dev/null || { echo "libtorch.sh: needs $tool (Debian: python3-pip unzip coreutils)" >&2; exit 1; }
done

# sha256, then the requirement pip is asked for
wheels="
7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a torch==2.11.0
9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650 nvidia-cuda-cupti==13.5.25
df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d nvidia-cuda-runtime==13.5.37
"
while read -r sum requirement; do
  [ -n "$sum" ] || continue
  fetched=$(mktemp -d "$folder/wheel.XXXXXX")
  echo "fetching $requirement" >&2
  # The tag is pinned so that the same file comes whatever Python runs pip; nothing of it is executed.
  pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    -d "$fetched" "$requirement" >&2
  echo "$sum  $(ls "$fetched"/*.whl)" | sha256sum --check --quiet >&2
  case "$requirement" in
    torch==*) unzip -q -o "$fetched"/*.whl 'torch/lib/*' 'torch/include/*' 'torch/share/*' -d "$folder" ;;
    *) unzip -q -o "$fetched"/*.whl -d "$folder" ;;
  esac
  rm -r "$fetched"
done <<< "$wheels"
touch "$folder/complete"
echo "$folder/torch"
