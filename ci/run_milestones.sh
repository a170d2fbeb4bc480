#!/usr/bin/env bash
# Runs milestones in CI and writes their reports. Used by action.yml; works by hand as well.
#
# MILESTONES  ids, with spaces between
# PARALLEL    issues side by side (1)
# UNTIL       when to stop starting issues; empty: no limit
# BUDGET      US dollars; empty: the limits of rules/limits.toml
# REPORTS     folder for the reports
#
# The exit code is 0 also where a person (4) or time (75) is needed: a nightly run that waits has not failed.
set -uo pipefail
: "${MILESTONES:?names the milestones to run}"
reports=${REPORTS:-${RUNNER_TEMP:-/tmp}/milestone-reports}
mkdir -p "$reports"

options=(--plain -n "${PARALLEL:-1}")
[ -z "${UNTIL:-}" ] || options+=(--until "$UNTIL")
[ -z "${BUDGET:-}" ] || options+=(--budget "$BUDGET")

# Landings are commits: they need an author.
git config user.name > /dev/null || git config user.name "milestones"
git config user.email > /dev/null || git config user.email "milestones@users.noreply.invalid"

worst=0
weight() { case $1 in 0) echo 0 ;; 75) echo 1 ;; 4) echo 2 ;; 1) echo 3 ;; *) echo 4 ;; esac; }
for milestone in $MILESTONES; do
  code=0
  make-for-milestones "milestone:$milestone" "${options[@]}" || code=$?
  [ "$(weight "$code")" -le "$(weight "$worst")" ] || worst=$code
  for form in md:md html:html junit:xml sarif:sarif; do
    make-for-milestones report "$milestone" --format "${form%%:*}" --output "$reports/$milestone.${form##*:}" || true
  done
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$reports/$milestone.md" ]; then
    cat "$reports/$milestone.md" >> "$GITHUB_STEP_SUMMARY"
  fi
done
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  printf 'exit-code=%s\nreports=%s\n' "$worst" "$reports" >> "$GITHUB_OUTPUT"
fi
case $worst in
  4) echo "::warning::a person is needed; see the report" ;;
  75) echo "::notice::the rest waits for time: a limit, a deadline or another run" ;;
esac
case $worst in 0 | 4 | 75) exit 0 ;; *) exit "$worst" ;; esac
