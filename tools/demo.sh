#!/usr/bin/env bash
# The real outage, replayed on the lab: the embedding service dead with a stale PID file, the standby stopped.
set -euo pipefail
started=$SECONDS
headline() { printf '\n[%3d s] %s\n' $((SECONDS - started)) "$1"; }

headline "Start the lab: ALPHA, BETA, AIR and the embedding service"
aya lab up
headline "Break it as the outage did"
aya lab break stale-pid
aya lab break beta-down
headline "aya run restore"
aya run restore | tee "${TMPDIR:-/tmp}/aya-demo-restore.$$"
headline "aya run verify_replication"
aya run verify_replication | tee "${TMPDIR:-/tmp}/aya-demo-verify.$$"
headline "Done. The two executed notebooks:"
tail -qn 1 "${TMPDIR:-/tmp}"/aya-demo-{restore,verify}.$$
rm -f "${TMPDIR:-/tmp}"/aya-demo-{restore,verify}.$$
printf '\nRead or step through the runbooks in JupyterLab:  make jupyter\nStop the lab:  make lab-down\n'
