#!/bin/bash
# The main job, from a bare machine: a lab of real parts, the operator, one object, and kcat on a virtual machine that
# reaches floating IPs only. Run it again as often as you like; `cargo lab down` ends everything.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

say "building the operator"
cargo build
program=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/kafka-external-access
say "starting the lab (the first time builds Kubernetes: about ten minutes)"
cargo lab up
kubectl() { cargo lab kubectl "$@"; }

say "installing the CRD, the credential and the object of examples/smallest.yaml"
kubectl apply --server-side -f crds/
kubectl wait --for=condition=Established crd/kafkaexternalaccesses.kafkaaccess.dev --timeout=30s
cargo lab clouds-yaml | kubectl -n ydata create secret generic openstack --from-file=clouds.yaml=/dev/stdin --dry-run=client -o yaml | kubectl apply -f -
kubectl apply -f examples/smallest.yaml

say "starting the operator in the lab's network; its log is operator.log"
if [ -f operator.pid ] && kill -0 "$(cat operator.pid)" 2>/dev/null; then kill "$(cat operator.pid)"; sleep 2; fi
nohup cargo lab exec -- "$program" run --log-format text --listen 127.0.0.1:18080 >operator.log 2>&1 </dev/null &
echo $! >operator.pid

say "waiting until every broker is reachable"
kubectl -n ydata wait --for=condition=Reachable kea/kafka --timeout=120s
say "kubectl get kea -o wide"
kubectl -n ydata get kea -o wide
say "kubectl describe kea kafka"
kubectl -n ydata describe kea kafka

bootstrap=$(kubectl -n ydata get kea kafka -o jsonpath='{.status.bootstrapServers}')
say "on the virtual machine: kcat lists, produces and consumes through $bootstrap"
cargo lab vm -- kcat -L -b "$bootstrap" | head -6
echo "hello from outside, $(date -u +%T)" | cargo lab vm -- kcat -P -b "$bootstrap" -t demo
cargo lab vm -- kcat -C -b "$bootstrap" -t demo -o beginning -e -q
say "on the virtual machine: kafka-external-access check"
cargo lab vm -- "$program" check --bootstrap "$bootstrap"

say "look around"
cat <<'T'
  cargo lab kubectl -n ydata get kea,pods -o wide   what Kubernetes knows
  cargo lab kubectl -n ydata delete pod kafka-1     move a broker: its address stays
  cargo lab vm -- kcat -L -b BOOTSTRAP                 as a client on the virtual machine
  tail -f operator.log                                 what the operator does
stop
  kill $(cat operator.pid); cargo lab down
T
