# The agent of the tests of workflows: does every step of every workflow there, and writes down which.
echo "$EXECUTOR_ISSUE $EXECUTOR_STEP" >> @beside@/steps.log
hold() { [ -e @beside@/hold.$1 ] && touch @beside@/held && sleep 60; return 0; }
hold $EXECUTOR_STEP
md() { printf '# %s\n\ntext about %s\n' "$2" "$EXECUTOR_ISSUE" > "$EXECUTOR_OUT/$1"; }
sections() { f=$1; shift; for s in "$@"; do printf '## %s\n\nsome text\n' "$s"; done > "$EXECUTOR_OUT/$f"; }
handoff() {
    printf '## Task %s Complete\n\nbuilt %s\n' "$EXECUTOR_ISSUE" "$EXECUTOR_ISSUE" > "$EXECUTOR_OUT/handoff.md"
}
decisions() { echo '{"decisions": ["x"], "reasons": ["y"], "architecture": "z"}' > "$EXECUTOR_OUT/$1"; }
covered() { sed -n '/^## Accepted when/,/^## /p' "$EXECUTOR_BRIEF" | sed -n 's/^- //p'; }
case $EXECUTOR_STEP in
design.sketch) md sketch.md Sketch;;
design.plan) echo '{"plan": 1}' > $EXECUTOR_OUT/plan.json;;
build.code) cat $EXECUTOR_IN/design.sketch/sketch.md > $EXECUTOR_ISSUE.txt; handoff;;
setup.plan) md plan.md Plan;;
research.context) md research.md Research;;
implement.tests) printf 'from code_%s import f\n\n\ndef test_f():\n    assert f() == 1\n\n\ntest_f()\n' ${EXECUTOR_ISSUE#*.} > test_${EXECUTOR_ISSUE#*.}.py;;
implement.code) printf 'def f():\n    return 1\n' > code_${EXECUTOR_ISSUE#*.}.py;;
implement.validation) md validation.md V; echo validated > e2e-$EXECUTOR_ISSUE.txt;;
implement.findings) md findings.md F; echo found > found-$EXECUTOR_ISSUE.txt;;
verify.acceptance) md verify.md Verified; covered >> $EXECUTOR_OUT/verify.md;;
complete.handoff) handoff;;
design.*) decisions ${EXECUTOR_STEP#*.}.json;;
spec.contracts) sections contracts.md Interfaces Errors;;
spec.data) sections data.md Entities Constraints;;
spec.integration) sections integration.md Integration Failures;;
spec.acceptance) md acceptance.md A; covered >> $EXECUTOR_OUT/acceptance.md;;
spec.validation) sections validation.md Scenarios "Edge cases";;
task.breakdown) covered | python3 -c 'import json,sys; json.dump({"tasks": sys.stdin.read().splitlines() or [1]}, sys.stdout)' > $EXECUTOR_OUT/tasks.json;;
task.dependencies) echo '{"dependencies": {"a": []}, "critical_path": ["a"]}' > $EXECUTOR_OUT/dependencies.json;;
task.roadmap) echo '{"batches": [["a"]], "gates": ["tests"]}' > $EXECUTOR_OUT/roadmap.json;;
execute.implementation) sections implementation.md Implemented; echo done > $EXECUTOR_ISSUE.txt;;
execute.tests) sections tests.md Tests; echo tested > test-$EXECUTOR_ISSUE.txt;;
execute.quality) sections quality.md Quality;;
execute.documentation) sections documentation.md Documentation; echo doc > doc-$EXECUTOR_ISSUE.txt; handoff;;
esac
