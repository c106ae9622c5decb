#!/bin/sh
# Usage: modfile.sh VERSION FOLDER
#
# Writes FOLDER/go.mod and go.sum to build this module with Kubernetes VERSION:
# copies of the committed ones for the committed version, derived ones for any
# other. k8s.io/kubernetes replaces its staging modules by folders that only its
# own repository has; each is published under the same minor and patch version.
set -eu

version=$1
folder=$2
here=$(dirname "$0")

mkdir -p "$folder"
cp "$here/go.mod" "$here/go.sum" "$folder/"
committed=$(cd "$here" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
if [ "$version" = "$committed" ]; then
	exit 0
fi

cd "$here"
modfile=$folder/go.mod
source=$(go mod download -modfile="$modfile" -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
staging=v0.${version#v1.}
go mod edit -require="k8s.io/kubernetes@$version" "$modfile"
sed -n 's/^\t\(k8s.io\/[a-z0-9-]*\) => .\/staging.*/\1/p' "$source" | while read -r module; do
	go mod edit -replace="$module=$module@$staging" "$modfile"
done
# etcd comes in the version that this Kubernetes was tested with.
sed -n 's/^\t\(go.etcd.io\/etcd\/[a-z/]*v3\) \(v[0-9.]*\).*/\1@\2/p' "$source" | while read -r requirement; do
	go mod edit -require="$requirement" "$modfile"
done
# `go mod tidy` also drops what only the committed version needs.
go mod tidy -modfile="$modfile"
