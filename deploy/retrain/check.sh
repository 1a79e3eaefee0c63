#!/bin/sh
# Roll back a champion that breaks a guardrail: on exit code 20 of the check, and on no other.
# Reads GOALRANK_MODELS, GOALRANK_STORE and GOALRANK_EXPERIMENTS.
set -u
goalrank models check --experiments "$GOALRANK_EXPERIMENTS"
code=$?
[ "$code" -eq 20 ] || exit "$code"
# Only the champion is rolled back; a canary that turned bad ends with the next promotion.
if goalrank models check --experiments "$GOALRANK_EXPERIMENTS" --json |
    python3 -c 'import json, sys; sys.exit(not any(each["breaches"] and each["pointer"] == "champion" for each in json.load(sys.stdin)))'
then
    goalrank models rollback --reason "a guardrail was broken"
fi
exit 20
