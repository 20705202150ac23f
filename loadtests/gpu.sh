#!/usr/bin/env bash
# What this service makes of a GPU, on a machine without network. Needs Python with torch and
# transformers; the other wheels and the model come from a folder:
#   loadtests/gpu.sh FOLDER [options of python -m loadtests gpu, such as --small]
# FOLDER/*.whl are installed beside, not into, that Python; a FOLDER/model is the model.
set -euo pipefail
folder=$(realpath "${1:?the folder with the wheels and the model}")
shift
cd "$(dirname "$0")/.."
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
if compgen -G "$folder/*.whl" > /dev/null; then
  "${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps --target "$wheels" "$folder"/*.whl
fi
model=()
if [ -d "$folder/model" ]; then model=(--model "$folder/model"); fi
PYTHONPATH="$PWD:$wheels${PYTHONPATH:+:$PYTHONPATH}" \
  timeout --kill-after=5 "${GPU_SH_SECONDS:-535}" "${PYTHON:-python3}" -m loadtests gpu "${model[@]}" "$@"
