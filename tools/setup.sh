#!/usr/bin/env bash
# Make .venv from the pinned, hashed requirements and put skex into it, editable.
#
# Needs nothing but bash and coreutils: what else is missing is installed when run as root on a
# Debian-like system, and named otherwise. A stamp makes the second run instant.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh

venv=${VENV:-.venv}
stamp=$venv/skex-stamp
log=$venv.log
# Of pyproject.toml only what is installed counts: settings of linters and tests need no new environment.
wanted=$({ pwd; cat requirements/dev.txt tools/setup.sh; sed '/^# ── ruff/,$d' pyproject.toml; } | sha256sum)

if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

# A shim may exist for a version that is not installed, so each candidate is run, not looked up.
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if is_recent "$candidate" && has_venv "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

python=$(find_python) || {
    install_packages 'Python 3.11 or later with the venv module' "$log" python3 python3-venv
    python=$(find_python) || {
        echo "skex needs Python 3.11 or later with the venv module; this system's packages have no such." >&2
        exit 2
    }
}

echo "── setting up $venv with $("$python" --version)"
{
    "$python" -m venv --clear "$venv"
    # Wheels only: building a source archive would fetch a build backend that nobody pinned.
    "$venv/bin/python" -m pip --no-input --disable-pip-version-check install \
        --require-hashes --only-binary :all: -r requirements/dev.txt
    "$venv/bin/python" -m pip --no-input --disable-pip-version-check install \
        --no-index --no-deps --no-build-isolation --editable .
} >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -f "$log"
printf '%s\n' "$wanted" >"$stamp"
