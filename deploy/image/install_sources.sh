#!/bin/sh
# Installs packages of this repository beside the locked ones, and proves that the service's code loads.
# usage: install_sources.sh 'module…' source-folder…          (of a package: every module)
set -eu
modules=$1
shift

pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheels "$@"
uv pip install --python /opt/service/bin/python --quiet --no-deps --no-index /wheels/*.whl
# Byte code saves each start a second: here that of what is loaded by name, below the proof leaves it beside all
# that it loads. That of the rest would be 11 MB of export-service.
cd /opt/service/lib/python3.*/site-packages
for package in click httptools pyarrow teleop_* uvicorn uvloop websockets; do
    if [ -d "$package" ]; then python -m compileall -q "$package"; fi
done
# shellcheck disable=SC2086
/opt/service/bin/python - $modules <<'LOAD'
import pkgutil
import sys
from importlib import import_module

for name in sys.argv[1:]:
    module = import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
        if not found.name.endswith(".__main__"):
            import_module(found.name)
LOAD
