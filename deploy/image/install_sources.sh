#!/bin/sh
# Installs packages of this repository beside the locked ones, and proves that the service's code loads.
# usage: install_sources.sh 'module…' source-folder…          (of a package: every module)
set -eu
modules=$1
shift

pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheels "$@"
uv pip install --python /opt/service/bin/python --quiet --no-deps --no-index /wheels/*.whl
# This also leaves byte code beside everything that it loads. Byte code of the rest would be 15 MB of export-service.
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
