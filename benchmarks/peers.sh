#!/usr/bin/env bash
# The peers of the benchmarks in an environment of their own, so that nothing of theirs reaches ours.
#
#   benchmarks/peers.sh [FOLDER]        default: build/peers beside this folder; prints the Python to use
#
# torch is installed first and pinned for everything after it. torchvision is taken out again: its
# build on the package index does not import beside a CPU torch, and while it is installed diffusers
# cannot be imported either. denoising-diffusion-pytorch needs it only for its trainer (files to
# images); step.py gives it an empty stand-in.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../build/peers}
python=$folder/bin/python
if [ ! -e "$folder/.ready" ]; then
    python3 -m venv "$folder"
    pins=$folder/pins.txt
    torch=$("${SFUMATO_PYTHON:-$here/../.venv/bin/python}" -c 'import torch; print(torch.__version__)' 2>/dev/null || echo 2.13.0)
    printf '%s\n' "torch==$torch" azula==0.11.1 diffusers==0.42.1 denoising-diffusion-pytorch==2.3.4 \
        pythae==0.1.2 vector-quantize-pytorch==1.32.0 >"$pins"
    "$python" -m pip install -q -c "$pins" "torch==$torch" numpy setuptools
    "$python" -m pip install -q -c "$pins" azula diffusers denoising-diffusion-pytorch pythae vector-quantize-pytorch
    "$python" -m pip uninstall -q -y torchvision
    touch "$folder/.ready"
fi
echo "$python"
