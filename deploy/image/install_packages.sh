#!/bin/sh
# Installs locked packages into /opt/service, without what no service loads.
# usage: install_packages.sh requirements.txt
set -eu

python -m venv --without-pip /opt/service
uv pip install --python /opt/service/bin/python --quiet --require-hashes -r "$1"

# Arrow's RPC server and its own client of S3, what one compiles against, tests, and symbols that only
# linkers and debuggers read: a third of it all. Libraries that wheels bundle (*.libs) must not be stripped: they
# no longer load then.
cd /opt/service/lib/python3.*/site-packages
rm -rf pyarrow/include pyarrow/src pyarrow/*arrow_flight* pyarrow/*arrow_python_flight* pyarrow/_flight* \
    pyarrow/libarrow_s3* pyarrow/_s3fs* pyarrow/_pyarrow_cpp_tests* \
    pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.*.* numpy/_core/include numpy/f2py
find . -depth -type d -name tests -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.c' -o -name '*.h' -o -name '*.p[yx][xdi]' \) ! -name '*.pyi' -delete
find . -path './*.libs' -prune -o -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} +
python -m compileall -q -j 0 .

# The proof that everything that was left still loads.
cd /
/opt/service/bin/python - <<'PROOF'
import ctypes
import sys
from pathlib import Path

for library in Path(sys.prefix).rglob("*.so"):
    ctypes.CDLL(str(library))
PROOF
