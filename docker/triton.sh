#!/bin/sh
# Starts Triton in NVIDIA's image as `arch serve` starts it: every model of MODELS by name, what does not load does not
# end the rest, and the calls that change the server are closed to all who do not know a secret made here. Arguments go to
# tritonserver: TLS (--grpc-use-ssl ...), say.
set -eu
models=${MODELS:-/models}
for config in "$models"/*/config.pbtxt; do
    [ -f "$config" ] || { echo "triton.sh: no model in $models: export one first" >&2; exit 1; }
    model=${config%/config.pbtxt}
    set -- "--load-model=${model##*/}" "$@"
done
closed=shared-memory,model-repository,trace,logging
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
exec tritonserver \
    "--model-repository=$models" \
    --model-control-mode=explicit \
    --disable-auto-complete-config \
    --exit-on-error=false \
    "--http-restricted-api=$closed:arch-admin=$secret" \
    "--grpc-restricted-protocol=$closed:arch-admin=$secret" \
    "$@"
