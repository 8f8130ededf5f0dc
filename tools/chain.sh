#!/usr/bin/env bash
# The whole chain of training on a machine that has torch 2.11 but neither Rust nor a network (or, with DEVICE=cpu, on any).
#
#   tools/chain.sh pack CHAIN          where Rust and the network are: puts into the folder CHAIN, within 60 MiB, all that the others need
#   tools/chain.sh coders CHAIN OUT    the text encoder and, beside it, the autoencoder
#   tools/chain.sh denoiser CHAIN OUT  the denoiser
#   tools/chain.sh student CHAIN OUT   its student of one to four steps
#   tools/chain.sh home OUT PARTS      the weights as f16, the logs and the records in parts of at most 15 MiB (optimiser states stay behind)
#   tools/chain.sh fetch PARTS OUT     the parts together again
#   tools/chain.sh words OUT           where Rust and the network are: other words and descriptions for OUT/text, in OUT/words and OUT/read
#
# DEVICE (cuda), CODER_SECONDS (150), DENOISER_SECONDS (345), STUDENT_SECONDS (160): each command ends by the clock, so that it fits a
# slice of ten minutes. BATCH (1024). With DEVICE=cpu runs go by steps instead, and a command that was stopped goes on when it is given again.
# OUT/text and OUT/ae, where they are there, give text encoder and autoencoder to the others; else the model in the repository does. FROM: the
# weights of an earlier denoiser, to go on from. SCENES (240000, on the CPU 20000), COMPOSED (0.6), COPIES (6), STATE_NOISE (0.2): see `train denoiser --help`.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
part=15m

packed() { # FILE NAME: FILE, compressed, as CHAIN/NAME.xz
  xz -T0 -9 --keep --stdout "$1" > "$chain/$2.xz"
}

pack() {
  chain=$1
  mkdir -p "$chain"
  local target=${CARGO_TARGET_DIR:-target} data=${DATA:-data/stickers.safetensors} teacher nouns
  [ -f "$data" ] || { echo "chain.sh: no $data; make it with \`undiffuse-tools dataset\`, or set DATA" >&2; exit 1; }
  read -r _ teacher _ nouns < <(bash tools/teachers.sh "${TEACHERS:-$target/teachers}")
  strip -o "$chain/undiffuse-tools" "$target/release/undiffuse-tools"
  packed "$chain/undiffuse-tools" undiffuse-tools && rm "$chain/undiffuse-tools"
  packed "$data" stickers.safetensors
  packed "$nouns" nouns
  cp "$teacher/tokenizer.json" "$chain/teacher-tokenizer.json"
  "${PYTHON:-python3}" tools/python/slim.py "$teacher" models/sticker-64/tokenizer/tokenizer.json "$chain/teacher.safetensors"
  packed "$chain/teacher.safetensors" teacher.safetensors && rm "$chain/teacher.safetensors"
  mkdir -p "$chain/model" && cp -r models/sticker-64/{text_encoder,vae_encoder,vae_decoder,tokenizer,records,model_index.json} "$chain/model"
  local size
  size=$(du -cbs "$chain"/* | tail -1 | cut -f1)
  echo "$chain: $((size >> 20)) MiB"
  [ "$size" -le $((60 << 20)) ] || { echo "chain.sh: more than 60 MiB; leave teacher.safetensors.xz and nouns.xz out where only denoisers are trained" >&2; exit 1; }
}

# Unpacks once, beside OUT, and finds libtorch.
prepare() {
  chain=$(realpath "$1") out=$2
  work="$out/unpacked"
  mkdir -p "$work/teacher"
  if [ ! -f "$work/complete" ]; then
    for file in stickers.safetensors undiffuse-tools; do xz -dc "$chain/$file.xz" > "$work/$file"; done
    chmod +x "$work/undiffuse-tools"
    # The denoisers need no teacher of text: a lighter load can leave it out.
    if [ -f "$chain/teacher.safetensors.xz" ]; then
      xz -dc "$chain/nouns.xz" > "$work/nouns"
      xz -dc "$chain/teacher.safetensors.xz" > "$work/teacher/model.safetensors"
      cp "$chain/teacher-tokenizer.json" "$work/teacher/tokenizer.json"
    fi
    touch "$work/complete"
  fi
  local torch=${LIBTORCH:-$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))')}
  export LD_LIBRARY_PATH="$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  tools=("$work/undiffuse-tools")
  # The program was linked on a machine without CUDA: the loader brings in its half of libtorch.
  [ "$device" = cpu ] || tools=(env "LD_PRELOAD=$torch/lib/libtorch_cuda.so" "${tools[@]}")
}

# SECONDS-LIMIT STEPS: how long a run goes.
for_how_long() {
  if [ "$device" = cpu ]; then echo "--steps $2"; else echo "--steps 1000000 --seconds $1 --checkpoint-every 1000000"; fi
}

coders() {
  local seconds=${CODER_SECONDS:-150} data="$work/stickers.safetensors" failed=0
  # shellcheck disable=SC2046
  "${tools[@]}" train text --data "$data" --teacher "$work/teacher" --wordnet "$work/nouns" --from "$chain/model" --out "$out/text" \
    --device "$device" --batch "${TEXT_BATCH:-1024}" --rate 1.5e-3 $(for_how_long "$seconds" 4000) --report-every 2000 > "$out/text.log" 2>&1 &
  local text=$!
  # shellcheck disable=SC2046
  "${tools[@]}" train autoencoder --data "$data" --out "$out/ae" --device "$device" --precision "${PRECISION:-bf16}" --batch "${AE_BATCH:-256}" \
    --rate 2e-3 $(for_how_long "$seconds" 3000) --report-every 2000 > "$out/ae.log" 2>&1 || failed=1
  wait $text || failed=1
  tail -n 4 "$out/text.log" "$out/ae.log"
  return $failed
}

# Sets what both denoisers are made from.
find_sources() {
  local text="$chain/model" ae="$chain/model"
  [ -d "$out/text" ] && text="$out/text"
  [ -d "$out/ae" ] && ae="$out/ae/weights.safetensors"
  sources=(--data "$work/stickers.safetensors" --autoencoder "$ae" --text "$text" --device "$device" --precision "${PRECISION:-bf16}")
  local scenes=240000
  # Two cores would encode so many for an hour.
  [ "$device" != cpu ] || scenes=20000
  sources+=(--scenes "${SCENES:-$scenes}" --composed "${COMPOSED:-0.6}" --copies "${COPIES:-6}" --state-noise "${STATE_NOISE:-0.2}")
}

denoiser() {
  find_sources
  local from=()
  [ -z "${FROM:-}" ] || from=(--from "$FROM")
  # shellcheck disable=SC2046
  "${tools[@]}" train denoiser "${sources[@]}" "${from[@]}" --out "$out/denoiser" --batch "${BATCH:-1024}" --rate "${RATE:-1.5e-3}" --average 0.9995 --warmup 500 \
    $(for_how_long "${DENOISER_SECONDS:-345}" 12000) --report-every "${REPORT:-4000}" 2>&1 | tee "$out/denoiser.log" | tail -n 5
}

student() {
  find_sources
  # shellcheck disable=SC2046
  "${tools[@]}" train student "${sources[@]}" --teacher "$out/denoiser" --out "$out/student" --batch "${STUDENT_BATCH:-1280}" --rate 4e-4 \
    --average 0.998 --warmup 50 $(for_how_long "${STUDENT_SECONDS:-160}" 4000) --report-every "${REPORT:-4000}" 2>&1 | tee "$out/student.log" | tail -n 5
}

# The weights as f16, logs, records (which slim.py tells the checksum of what it wrote), curves and sheets.
home() {
  local out=$1 parts=$2 run
  mkdir -p "$parts"
  for run in ${RUNS:-text ae denoiser student}; do
    [ -f "$out/$run/weights.safetensors" ] || continue
    "${PYTHON:-python3}" tools/python/slim.py --half "$out/$run/weights.safetensors" "$parts/$run.safetensors"
    if [ "$(stat -c %s "$parts/$run.safetensors")" -gt $((15 << 20)) ]; then
      split -b $part -d -a 1 "$parts/$run.safetensors" "$parts/$run.safetensors." && rm "$parts/$run.safetensors"
    fi
  done
  (cd "$out" && tar -czf "$parts/runs.tar.gz" --exclude='*.safetensors' --exclude=unpacked .)
}

fetch() {
  local parts=$1 out=$2 run
  mkdir -p "$out"
  tar -xzf "$parts/runs.tar.gz" -C "$out"
  for run in text ae denoiser student; do
    if compgen -G "$parts/$run.safetensors*" > /dev/null; then mkdir -p "$out/$run" && cat "$parts/$run.safetensors"* > "$out/$run/weights.safetensors"; fi
  done
}

# The teacher is whole here: CHAIN holds no more of it than `train text` needs. 
words() {
  local out=$1 target=${CARGO_TARGET_DIR:-target} data=${DATA:-data/stickers.safetensors} taught
  read -r -a taught < <(bash tools/teachers.sh "${TEACHERS:-$target/teachers}")
  taught+=(--data "$data")
  "$target/release/undiffuse-tools" train synonyms "${taught[@]}" --from "$out/text" --out "$out/words" --add 0 --batch 192 --steps 400 --rate 1e-2 --warmup 10
  "$target/release/undiffuse-tools" train reader "${taught[@]}" --from "$out/words" --out "$out/read" --batch 768 --steps 1500 --rate 3e-3 --warmup 10
}

command=${1:-}
case "$command" in
  pack) pack "$2" ;;
  coders | denoiser | student) prepare "$2" "$3" && $command ;;
  words) words "$(realpath -m "$2")" ;;
  home | fetch) $command "$(realpath -m "$2")" "$(realpath -m "$3")" ;;
  *) sed -n '2,16p' "$0" | cut -c3-; exit 2 ;;
esac
