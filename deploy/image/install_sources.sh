#!/bin/sh
# Installs a package of this repository beside the locked ones, with those in /wheels that it needs, and proves
# that its code loads.
# usage: install_sources.sh package module…          (of a package: every module)
set -eu
package=$1
shift

uv pip install --python /opt/service/bin/python --quiet --no-index --find-links /wheels "$package"
# Byte code saves each start a second: here that of what is loaded by name, below the proof leaves it beside all
# that it loads. That of the rest would be 11 MB of export-service.
cd /opt/service/lib/python3.*/site-packages
for folder in click httptools pyarrow teleop_* uvicorn uvloop websockets; do
    if [ -d "$folder" ]; then python -m compileall -q "$folder"; fi
done
/opt/service/bin/python - "$@" <<'LOAD'
import pkgutil
import sys
from importlib import import_module

for name in sys.argv[1:]:
    module = import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
        if not found.name.endswith(".__main__"):
            import_module(found.name)
LOAD
