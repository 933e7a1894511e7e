#!/bin/sh
# tests/wheel/try.sh PYTHON FOLDER: installs the folder's wheel for this Python into an empty environment, and tests it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$2" && pwd)
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"$1" -m venv "$environment"
pip="$environment/bin/python -m pip --disable-pip-version-check --quiet install"
$pip numpy safetensors pytest
$pip --no-index --find-links "$folder" fastgru
cd "$environment"
bin/python -c 'import fastgru, sys; print(sys.version.split()[0], fastgru.__file__)'
bin/python -m pytest --quiet -c "$here/pytest.ini" -p no:cacheprovider "$here"
