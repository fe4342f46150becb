#!/bin/sh
# Bring .venv in line with a hashed lock: `sh requirements/install.sh run|dev`; PYTHON=... picks the interpreter.
#
# Quick when nothing has changed: .venv/.ready-<lock> keeps the checksum of the locks and the place of the checkout.
# The index to install from comes from the environment (UV_*, PIP_* or pip's own configuration), never from here.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

lock=${1:-}
case $lock in
run | dev) ;;
*) echo "usage: sh requirements/install.sh run|dev" >&2; exit 2 ;;
esac
python=.venv/bin/python
unfinished=.venv/.unfinished

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# What an environment depends on: change one of these, and it is brought up to date.
state_of() {
    cat requirements/uv.txt "requirements/$1.txt" pyproject.toml requirements/install.sh | cksum
    pwd -P
}
is_ready() { [ -f ".venv/.ready-$1" ] && [ "$(state_of "$1")" = "$(cat ".venv/.ready-$1")" ]; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# The first python that is new enough, or one line that says what is needed.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "Python 3.11 or newer is needed; PYTHON=$PYTHON is older, or does not run."
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and none is on the PATH; install one, or name it: make PYTHON=/path/to/python3."
}

make_environment() {
    base=$(find_python) || exit 1
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$base has no venv module; install it (on Debian and Ubuntu: apt-get install python3-venv)."
    say "Setting up .venv with $("$base" --version): on Linux 3.4 GB to download and 6.3 GB of disk, most of it"
    say "PyTorch with CUDA; a minute on a fast line, more on others. Later calls take no time."
    mkdir .venv
    echo $$ >"$unfinished"
    "$base" -m venv .venv
}

install_with_uv() {
    # uv does not read pip's settings; hand on those that say where packages come from.
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null)}}
    SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}}
    export UV_DEFAULT_INDEX SSL_CERT_FILE
    [ -n "$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX
    [ -n "$SSL_CERT_FILE" ] || unset SSL_CERT_FILE
    "$python" -m pip install --quiet --require-hashes -r requirements/uv.txt &&
        "$python" -m uv pip install --python "$python" --require-hashes -r "requirements/$lock.txt"
}

# The developers' lock holds every pin of the other (tests/test_requirements.py), so it serves both.
if is_new_enough "$python" && { is_ready "$lock" || is_ready dev; }; then
    exit 0
fi

if [ -f "$unfinished" ]; then
    worker=$(cat "$unfinished")
    if kill -0 "${worker:-0}" 2>/dev/null && [ -n "$worker" ]; then
        fail "Another set-up (process $worker) is at work in .venv; wait for it, or delete .venv if it is no set-up."
    fi
    say "The last set-up of .venv did not finish; starting afresh."
    rm -rf .venv
fi
[ ! -d .venv ] || is_new_enough "$python" || {
    say "The python of .venv is gone or too old; starting afresh."
    rm -rf .venv
}
if [ -d .venv ]; then
    echo $$ >"$unfinished"
    "$python" -m venv --without-pip .venv # where the checkout was moved, this corrects bin/activate
else
    make_environment
fi
# With this key uv writes launchers (torchrun, mlflow, ...) that find their python wherever the checkout is moved to.
echo "relocatable = true" >>.venv/pyvenv.cfg

(install_with_uv) || {
    say "uv could not install the lock; trying pip, which takes some five minutes."
    "$python" -m pip install --require-hashes -r "requirements/$lock.txt"
}
# setuptools, which builds the editable install, is in the lock; so nothing is fetched here.
"$python" -m pip install --quiet --no-deps --no-build-isolation --editable .
state_of "$lock" >".venv/.ready-$lock"
rm -f "$unfinished"
