#!/bin/sh
# Makes .venv and installs arch-bench with one of its extras: sh scripts/setup.sh all|dev
# Wants Python 3.11 or 3.12 and, for the server's Python backend, its shared library. Where a Debian or Ubuntu package
# is missing it is installed if this runs as root; otherwise the command to run is named.
set -eu
extra=$1
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

install_package() {
    command -v apt-get >/dev/null || fail "$2 is missing: install it with your system's package manager"
    [ "$(id -u)" = 0 ] || fail "$2 is missing: run  sudo apt-get install $1"
    echo "setup: installing $1"
    # A list that is old or empty is not known before it fails.
    apt-get install -y -qq "$1" >/dev/null 2>&1 ||
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null; } ||
        fail "$1 could not be installed"
}

python=
for candidate in "${PYTHON:-}" python3.11 python3.12 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3.11 or 3.12 is needed: install one, or name it with  make PYTHON=/path/to/python"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

"$python" -c 'import ensurepip, venv' 2>/dev/null || install_package "python$version-venv" "Python's venv module"
# The server's Python stub is linked against libpython; a distribution's own python3 is not.
"$python" - <<'END' || install_package "libpython$version" "libpython$version.so.1.0"
import ctypes, pathlib, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
if not pathlib.Path(sysconfig.get_config_var("LIBDIR") or "/", name).exists():
    try:
        ctypes.CDLL(name)
    except OSError:
        sys.exit(1)
END

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv
fi
echo "setup: installing arch-bench[$extra] into .venv with Python $version; the first time this takes minutes"
PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -q -c constraints.txt -e ".[$extra]" ||
    fail "pip could not install arch-bench[$extra]"
touch ".venv/installed-$extra"
