#!/usr/bin/env bash
# One call of `convoy retrain`, for schedulers that bring no time limit and no log of their own.
#
#   bash infra/schedule/retrain.sh [OPTION...]        # options of `convoy retrain`
#
# It prints nothing unless a person is needed, so that cron, which mails what a command prints, mails
# only then. Exit codes 3 (nothing to do) and 4 (refused by the gate) become 0, so that no scheduler
# takes them for failures. All others are kept; 124 and 137 are the time limit's.
#
# The environment, or CONVOY_ENV_FILE (where there is one: /etc/convoy/retrain.env), may set
#   CONVOY_TIME_LIMIT  12h, as `timeout` takes it. A call that it ends loses nothing: the next one goes on
#   CONVOY_LOGS        a folder, with one file for each call of the last 90 days: .convoy/logs.
#                      Empty: everything is printed, for schedulers that keep what a command prints
#   CONVOY_WEBHOOK_URL, CONVOY_WEBHOOK_SECRET, MLFLOW_TRACKING_URI, AWS_...   and other secrets
set -uo pipefail

fail() {
  echo "retrain.sh: $2 (exit code $1, $HOSTNAME, $PWD)"
  # No CONVOY_MAILTO: cron mails what is printed.
  CONVOY_MAILTO='' python3 "$here/notify.py" "$1" "$2"
  exit "$1"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.." || exit 1
export PATH="$PWD/.venv/bin:$PATH"

secrets=${CONVOY_ENV_FILE-/etc/convoy/retrain.env}
if [ -e "$secrets" ] || [ -n "${CONVOY_ENV_FILE-}" ]; then
  [ -r "$secrets" ] || fail 2 "cannot read $secrets: it must be there, and readable by $(id -un)"
  [ -z "$(find -L "$secrets" -perm /007)" ] || fail 2 "others may use $secrets: chmod o= $secrets"
  set -a
  # shellcheck disable=SC1090
  source "$secrets" || fail 2 "$secrets: need lines NAME=VALUE"
  set +a
fi

limit=${CONVOY_TIME_LIMIT:-12h}
logs=${CONVOY_LOGS-.convoy/logs}
log=/dev/stdout
if [ -n "$logs" ]; then
  log=$logs/$(date +%Y-%m-%dT%H%M%S)-$$.log
  # A full disk must not keep the call from saying that it failed.
  if ! { mkdir -p "$logs" && true >"$log"; }; then
    logs='' log=/dev/stdout
  fi
fi

# `timeout` signals the process group of the command: TERM, and KILL when ten minutes later something
# is left. It has a group of its own, so a signal to this script is handed on.
timeout --kill-after=10m "$limit" convoy retrain "$@" >>"$log" 2>&1 &
job=$!
trap 'kill -TERM "$job"' TERM INT HUP
while
  wait "$job"
  code=$?
  kill -0 "$job" 2>/dev/null # a signal ended `wait`, not the job
do :; done

if [ -n "$logs" ]; then
  echo "exit code $code" >>"$log"
  find "$logs" -name '*.log' -mtime +90 -delete
  case $code in 0 | 3 | 4) ;; *) echo "$log ends with:" && tail -n 50 "$log" ;; esac
fi
case $code in
  0 | 3 | 4) exit 0 ;;
  2) fail 2 "params or arguments are wrong" ;;
  5) fail 5 "held back: a person must decide" ;;
  124 | 137) fail "$code" "ended after the time limit of $limit, or killed; the next call goes on" ;;
  126 | 127) fail "$code" "convoy cannot be run" ;;
  *) fail "$code" "failed; the next call goes on" ;;
esac
