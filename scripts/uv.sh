#!/bin/sh
# Runs uv with the given arguments; installs it into .uv/ first when the machine has none that works.
# (A pyenv shim answers `command -v uv` and then refuses to run: so ask for the version, not for the path.)
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

if uv --version >/dev/null 2>&1; then
    exec uv "$@"
fi
if ! "$root/.uv/bin/uv" --version >/dev/null 2>&1; then
    echo "uv is not on this machine: installing it into $root/.uv" >&2
    if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        # Debian and Ubuntu ship python3 without venv.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            echo "python3 has no venv module: installing the package python3-venv" >&2
            { apt-get update -qq && apt-get install -y -qq python3-venv; } >&2
        else
            echo "error: python3 has no venv module; install it with: sudo apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    rm -rf "$root/.uv"
    python3 -m venv "$root/.uv"
    "$root/.uv/bin/pip" install --quiet --disable-pip-version-check uv
fi
exec "$root/.uv/bin/uv" "$@"
