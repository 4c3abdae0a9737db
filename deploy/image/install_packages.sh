#!/bin/sh
# Installs locked packages into /opt/service, without what no service loads.
# usage: install_packages.sh requirements.txt
set -eu

python -m venv --without-pip /opt/service
pip --python /opt/service/bin/python install --quiet --require-hashes -r "$1"

# Arrow's RPC server and its own client of S3, headers, tests, and debugging symbols: a third of it all.
# Libraries that wheels bundle (*.libs) must not be stripped: they no longer load then.
cd /opt/service/lib/python3.*/site-packages
rm -rf pyarrow/include pyarrow/src pyarrow/*arrow_flight* pyarrow/*arrow_python_flight* pyarrow/_flight* \
    pyarrow/libarrow_s3* pyarrow/_s3fs* numpy/_core/include numpy/f2py
find . -depth -type d -name tests -exec rm -rf {} +
find . -path './*.libs' -prune -o -name '*.so' -exec strip --strip-debug {} +

# The proof that everything that was left still loads.
cd /
/opt/service/bin/python - <<'PROOF'
import ctypes
import sys
from pathlib import Path

for library in Path(sys.prefix).rglob("*.so"):
    ctypes.CDLL(str(library))
PROOF
