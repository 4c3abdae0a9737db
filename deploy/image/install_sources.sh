#!/bin/sh
# Installs packages of this repository beside the locked ones, and proves that the service's code loads.
# usage: install_sources.sh module source-folder…
set -eu
module=$1
shift

pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheels "$@"
uv pip install --python /opt/service/bin/python --quiet --no-deps --no-index --compile-bytecode /wheels/*.whl
/opt/service/bin/python -c "import $module"
