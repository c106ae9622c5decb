#!/bin/sh
# debian-packages.sh PACKAGE...: installs those that are missing. The package
# lists are only fetched when something is.
set -eu

missing=
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q ' ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "The Debian packages$missing are missing: run make as root, or install them with apt-get." >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
# shellcheck disable=SC2086 # one word for each package
apt-get install --yes --no-install-recommends $missing
