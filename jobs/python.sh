#!/usr/bin/env bash
# Makes a Python environment outside the repository with what reads our exports: onnx, onnxruntime, tensorboard,
# safetensors. For the tests, and for jobs/verify_onnx.py.
#   . jobs/python.sh     leaves GLASSES_PYTHON set to its interpreter, or unset where it cannot be had
#   ./jobs/python.sh     makes it and prints the interpreter
# Knobs: GLASSES_PYTHON (an interpreter that has the packages: used as it is), GLASSES_VENV (where to make it),
# NO_INSTALL=1 (use what is there, install nothing).

python_venv=${GLASSES_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/glasses/python}
python_packages=("onnx>=1.16" "onnxruntime>=1.18" "tensorboard>=2.16" "pillow>=10" "safetensors>=0.4" "numpy>=1.26")

python_say() { echo "python: $*" >&2; }

python_works() { "$1" -c 'import onnx, onnxruntime, PIL, tensorboard, safetensors.numpy' >/dev/null 2>&1; }

# The folder `extra` has safetensors by itself, for a PyTorch that lives elsewhere (GLASSES_TORCH) and lacks it.
make_python() {
    local python=$python_venv/bin/python
    if python_works "$python" && [ -d "$python_venv/extra/safetensors" ]; then return; fi
    if [ -n "${NO_INSTALL-}" ]; then
        python_say "no environment in $python_venv, and NO_INSTALL is set"
        return 1
    fi
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv; } </dev/null >/dev/null 2>&1 || true
    fi
    python_say "making $python_venv"
    mkdir -p "$python_venv" &&
        python3 -m venv --clear "$python_venv" &&
        "$python" -m pip install --quiet --disable-pip-version-check "${python_packages[@]}" >&2 &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$python_venv/extra" "safetensors>=0.4" >&2 &&
        python_works "$python"
}

if [ -n "${GLASSES_PYTHON-}" ]; then
    python_works "$GLASSES_PYTHON" || python_say "GLASSES_PYTHON=$GLASSES_PYTHON lacks one of: ${python_packages[*]}"
elif make_python; then
    export GLASSES_PYTHON=$python_venv/bin/python
else
    python_say "no environment with: ${python_packages[*]}"
fi
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    [ -n "${GLASSES_PYTHON-}" ] || exit 1
    echo "$GLASSES_PYTHON"
fi
