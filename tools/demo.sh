#!/usr/bin/env bash
# Everything that the demonstration needs, then the demonstration: what it prints is all there is on stdout.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh

{
    has curl openssl || install_packages 'curl and openssl for its demonstration' "${VENV:-.venv}.log" curl openssl
    tools/setup.sh
} >&2

# The lying hub is a test double, so it is not in the product: the demonstration is told how to start it.
python=$(pwd)/${VENV:-.venv}/bin/python
exec "${VENV:-.venv}/bin/skex" demo --liar "$(printf %q "$python") -m simulation.lying_hub" "$@"
