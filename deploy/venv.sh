#!/bin/sh
# Usage: deploy/venv.sh VENV LOCK
# Makes the virtual environment VENV if it is missing, brings it to what the lock file LOCK says, and installs this
# checkout into it. uv does the work, for speed; it is told of pip's configuration (index, local wheels, certificate).
set -eu

venv=$1 lock=$2
python=${PYTHON:-python3}
tools=.moodstream/tools

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "moodstream needs Python 3.11 or newer, $python is $("$python" --version 2>&1): say make PYTHON=python3.12 …" >&2
    exit 2
}

pip="$python -m pip"
if ! $pip --version >/dev/null 2>&1; then # Debian's python3 comes without
    [ -x "$tools-venv/bin/pip" ] || "$python" -m venv "$tools-venv"
    pip="$tools-venv/bin/python -m pip"
fi
[ -x "$tools/bin/uv" ] || $pip install --quiet --root-user-action ignore --disable-pip-version-check --target "$tools" 'uv==0.13.9'

setting() { # one of pip's, from the environment or its files; empty if unset
    $pip config get ":env:.$1" 2>/dev/null || $pip config get "global.$1" 2>/dev/null || true
}

index=$(setting index-url) extra=$(setting extra-index-url) wheels=$(setting find-links) certificate=$(setting cert)
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
[ -z "$extra" ] || export UV_INDEX="$extra"
[ -z "$wheels" ] || export UV_FIND_LINKS="$wheels"
[ -z "$certificate" ] || export SSL_CERT_FILE="$certificate"
export UV_HTTP_TIMEOUT=180

# The environment lives inside this checkout; hard links to uv's cache save both time and room where they work.
[ -x "$venv/bin/python" ] || "$tools/bin/uv" venv --quiet --python "$(command -v "$python")" "$venv"
"$tools/bin/uv" pip sync --quiet --python "$venv/bin/python" "$lock"
"$tools/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .
