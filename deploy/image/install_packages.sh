#!/bin/sh
# Installs locked packages into /opt/service, without what no service loads.
# usage: install_packages.sh requirements.txt [library…]      (encoders of FFmpeg that the service makes video with)
set -eu
image=$(dirname "$0")
requirements=$1
shift

python -m venv --without-pip /opt/service
uv pip install --python /opt/service/bin/python --quiet --require-hashes -r "$requirements"
cd /opt/service/lib/python3.*/site-packages

# What one compiles against, tests and what only they call: 25 MB. Random numbers: 4. What only PyPy loads: 1.
# Ruff (banned-api) keeps sources from what is left out here and below.
find . -depth -type d -name tests -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.c' -o -name '*.h' -o -name '*.hpp' -o -name '*.p[yx][xd]' \) -delete
rm -rf pyarrow/include pyarrow/src pyarrow/_pyarrow_cpp_tests* numpy/_core/include numpy/_core/_simd* numpy/f2py \
    numpy/random zstandard/_cffi*

# Arrow's RPC server, its own client of S3, and what runs queries over folders of files: 70 MB; one library of it
# under names that only linkers read: 5.
if [ -d pyarrow ]; then
    rm -f pyarrow/*arrow_flight* pyarrow/*arrow_python_flight* pyarrow/_flight* pyarrow/libarrow_s3* pyarrow/_s3fs* \
        pyarrow/_acero* pyarrow/_dataset* pyarrow/_substrait* \
        pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*.*
    python "$image/stand_in.py" pyarrow libarrow_acero libarrow_dataset libarrow_substrait
fi

# What FFmpeg reaches networks and loudspeakers with: 12 MB; encoders of what no dataset holds: 11, and those that
# the service has no use for: 29. It decodes all that it did before (AV1 is libdav1d's).
if [ -d av ]; then
    unused=
    for library in libasound libgnutls libsrt libaom libvorbisenc libvpx libwebp libSvtAv1Enc libx265; do
        case " $* " in *" $library "*) ;; *) unused="$unused $library" ;; esac
    done
    # shellcheck disable=SC2086
    python "$image/stand_in.py" av.libs $unused
fi

# How the source of other languages than Python is coloured: 7 MB.
if [ -d pygments ]; then
    find pygments/lexers -name '*.py' ! -name __init__.py ! -name _mapping.py ! -name python.py -delete
fi

# Symbols that only linkers and debuggers read: 25 MB. Libraries that wheels bundle (*.libs) must not be stripped:
# they no longer load then.
find . -path './*.libs' -prune -o -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} +

# The proof that everything that was left still loads.
cd /
/opt/service/bin/python - <<'PROOF'
import ctypes
import sys
from pathlib import Path

for library in Path(sys.prefix).rglob("*.so*"):
    ctypes.CDLL(str(library))
PROOF
