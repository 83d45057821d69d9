#!/bin/sh
# Usage: deploy/lock.sh [--upgrade]
# Compiles pyproject.toml's ranges into the three lock files, for Python 3.11 and newer on every platform.
set -eu

compile() { # OUTPUT OPTIONS…
    output=$1
    shift
    .moodstream/tools/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
        --no-header --no-emit-index-url --no-emit-find-links --no-annotate --output-file "$output" "$@"
}

compile requirements.txt --extra local "$@"
compile requirements-dev.txt --extra local --extra tracing --extra ocr --extra dev --constraint requirements.txt
compile requirements-train.txt --extra local --extra tracing --extra dev --extra train --constraint requirements-dev.txt
