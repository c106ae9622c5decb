#!/bin/sh
# use-current-context.sh FILE: asks whether the current kubeconfig context may
# be used, and copies just that context to FILE. From then on only the copy is
# used, so switching contexts elsewhere cannot redirect what was agreed to.
# BACKSTOP_YES=1 answers for scripts.
set -eu
out=$1
kubectl=${KUBECTL:-kubectl}

command -v "$kubectl" >/dev/null || {
  echo "CLUSTER=current needs kubectl: install it, or set KUBECTL to one" >&2
  exit 1
}
context=$("$kubectl" config current-context) || {
  echo "CLUSTER=current needs a current context: kubectl config use-context NAME" >&2
  exit 1
}
server=$("$kubectl" config view --minify --output 'jsonpath={.clusters[0].cluster.server}')

if [ "${BACKSTOP_YES:-}" != 1 ]; then
  if ! { : >/dev/tty; } 2>/dev/null; then
    echo "CLUSTER=current: no terminal to ask whether context $context ($server) may be used; BACKSTOP_YES=1 says yes" >&2
    exit 1
  fi
  cat >/dev/tty <<EOF
In context $context ($server):
  - the demo creates the namespaces shop, shop-first-release, shop-argocd, shop-config, shop-restart, shop-backstop,
    shop-naive and demo-models, and breaks workloads in them; those of an earlier run (label backstop.dev/demo=true) it deletes first
  - its second act runs a careless agent with every right in the namespace shop-naive, and nowhere else (ACT=1 leaves it out)
  - it installs Backstop into the namespace backstop-system, with its definitions (CRDs), cluster roles and admission policies
  - make demo-clean deletes all these namespaces and that Backstop again, its definitions with every object of them included
    (unless definitions of Backstop are here already)
  - what exists under these names without that label is neither replaced nor deleted
EOF
  printf 'Type the name of the context to agree: ' >/dev/tty
  IFS= read -r answer </dev/tty
  if [ "$answer" != "$context" ]; then
    echo "CLUSTER=current: not confirmed, nothing was done" >&2
    exit 1
  fi
fi

mkdir -p "$(dirname "$out")"
umask 077
"$kubectl" config view --minify --flatten --raw >"$out.new"
mv "$out.new" "$out"
echo "using context $context ($server)"
