#!/usr/bin/env bash
# Resolve everything afresh in an environment of its own and write the exact versions into constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet -e '.[dev]'
{
  echo "# Exact versions of everything that '.[dev]' installs; made by: make lock"
  echo "# torch without its build tag, so that the pin holds on every platform; mlx-metal is what mlx brings on a Mac."
  "$scratch/venv/bin/pip" freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' | grep -v ' @ '
  "$scratch/venv/bin/pip" freeze | sed -nE 's/^mlx==(.*)/mlx-metal==\1/p'
} | LC_ALL=C sort -f > constraints.txt
