"""Verify the attested landings of a branch. Needs Python, git and ssh-keygen; imports nothing of the executor.

    python verify_landings.py --branch milestone/m4 --signers allowed_signers [--repository PATH] [--milestone m4]

`allowed_signers` is the file of ssh-keygen(1), one key a line:
``identity namespaces="make-for-milestones-landing" ssh-ed25519 AAAA...``.
For each landing on the first-parent history: a statement exists under refs/attestations/<milestone>/<issue>/<revision>,
an allowed key signed exactly its bytes, it is about this commit and this tree, its keys are those of the commit's
trailers, every check was green on exactly that tree, and it names the previous statement. Exit code 0: all of this
holds; 1: it does not, with one line per problem; 2: git or ssh-keygen could not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

NAMESPACE = "make-for-milestones-landing"
PREDICATE = "urn:make-for-milestones:landing:1"
UNPROVED = "unproved"
FIELDS = ("Milestone", "Issue", "Revision", "Spec-Key", "Result-Key", "Check-Key", "Proved-With")
FORM = "%H%x1f%T" + "".join(f"%x1f%(trailers:key={name},valueonly,separator=%x1e)" for name in FIELDS) + "%x00"
KEYS = {
    "milestone", "issue", "revision", "position", "specKey", "resultKey", "checkKey", "checks", "agent", "approvals",
    "previous", "at",
}  # fmt: skip
CHECK_KEYS = {"name", "command", "key", "tool", "verdict", "tree"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify the attested landings of a branch.")
    parser.add_argument("--repository", default=".")
    parser.add_argument("--branch", required=True)
    parser.add_argument("--signers", required=True)
    parser.add_argument("--milestone", help="only landings of this milestone")
    options = parser.parse_args()
    try:
        landings = landings_on(options.repository, options.branch, options.milestone)
        problems = verified(options.repository, landings, options.signers)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", b"") or b""
        print(f"cannot verify: {error} {output.decode(errors='replace')}".strip(), file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    print(f"{len(landings)} landings, {len(problems)} problems")
    return 1 if problems else 0


def landings_on(repository: str, branch: str, milestone: str | None = None) -> list[dict[str, str]]:
    """Return the landings of a branch, oldest first: commit, tree and trailers."""
    out = git(repository, "log", "--first-parent", "--reverse", f"--format={FORM}", branch, "--").decode()
    found = []
    for record in out.split("\0"):
        values = record.strip("\n").split("\x1f")
        if len(values) == len(FIELDS) + 2 and all(values[2:7]):
            item = dict(zip(("commit", "tree", *FIELDS), values, strict=True))
            if milestone in {None, item["Milestone"]}:
                found.append(item)
    return found


def verified(repository: str, landings: list[dict[str, str]], signers: str) -> list[str]:
    """Return the problems, one sentence each."""
    problems: list[str] = []
    before: dict[str, tuple[int, str]] = {}
    for place, landing in enumerate(landings):
        # Several landings of one push share the proof of the last one, whose tree comes later in the history.
        proved = landing["Proved-With"]
        if proved and proved not in {later["tree"] for later in landings[place:]}:
            problems.append(f"{landing['Milestone']}/{landing['Issue']}: no later landing has the tree {proved}")
        name = f"{landing['Milestone']}/{landing['Issue']}/{landing['Revision']}"
        ref = f"refs/attestations/{name}"
        data, signature = blob(repository, f"{ref}:statement.json"), blob(repository, f"{ref}:statement.json.sig")
        position, previous = before.get(landing["Milestone"], (-1, ""))
        if data is None or signature is None:
            problems.append(f"{name}: no statement under {ref}")
            found = ""
        else:
            wrong = signature_problems(data, signature, signers)
            wrong += statement_problems(data, landing, position + 1, previous)
            problems += (f"{name}: {text}" for text in wrong)
            found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        before[landing["Milestone"]] = (position + 1, found)
    return problems


def signature_problems(data: bytes, signature: bytes, signers: str) -> list[str]:
    """Return why no allowed key signed exactly these bytes; empty if one did."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statement.json.sig"
        path.write_bytes(signature)
        who = signer_of(path, signers)
        if not who:
            return ["the key that signed it is not in the allowed signers"]
        return [] if fits(data, path, who, signers) else ["its signature does not match its bytes"]


def signer_of(signature: Path, signers: str) -> str:
    """Return the allowed signer whose key made a signature; empty for none."""
    words = ["ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", signers]
    found = subprocess.run(words, capture_output=True, check=False).stdout.decode(errors="replace").splitlines()
    return found[0] if found else ""


def fits(data: bytes, signature: Path, who: str, signers: str) -> bool:
    """Return whether a signer signed exactly these bytes."""
    words = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", who, "-n", NAMESPACE, "-s", str(signature)]
    return subprocess.run(words, input=data, capture_output=True, check=False).returncode == 0


def statement_problems(data: bytes, landing: dict[str, str], position: int, previous: str) -> list[str]:
    """Return the wrong claims of a statement; empty if all of them match the landing."""
    try:
        value = json.loads(data)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        predicate = value["predicate"]
        subject = {item["name"]: item["digest"] for item in value["subject"]}
        claimed = {
            "commit": subject["commit"]["gitCommit"],
            "tree": subject["tree"]["gitTree"],
            "Milestone": predicate["milestone"],
            "Issue": predicate["issue"],
            "Revision": str(predicate["revision"]),
            "Spec-Key": predicate["specKey"],
            "Result-Key": predicate["resultKey"],
        }
        checks = predicate["checks"]
        shaped = set(predicate) == KEYS and all(set(item) == CHECK_KEYS for item in checks)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [f"it is not a statement of a landing ({type(error).__name__})"]
    problems = [] if canonical == data else ["it is not in canonical form"]
    if value.get("predicateType") != PREDICATE or value.get("_type") != "https://in-toto.io/Statement/v1" or not shaped:
        problems.append("it has another type")
    problems += (
        f"{key} is {claimed[key]}, the commit says {landing[key]}" for key in claimed if claimed[key] != landing[key]
    )
    problems += check_problems(checks, landing, predicate["checkKey"])
    if predicate["position"] != position:
        problems.append(f"it says position {predicate['position']}, the branch says {position}")
    if predicate["previous"] != previous:
        problems.append("it does not name the statement of the previous landing")
    return problems


def check_problems(checks: list[dict[str, object]], landing: dict[str, str], check_key: str) -> list[str]:
    """Return the problems of a statement's checks."""
    problems = []
    if check_key == UNPROVED:
        problems.append("the landed tree differs from the checked one")
    elif landing["Check-Key"] not in {"", check_key}:
        problems.append(f"Check-Key is {check_key}, the commit says {landing['Check-Key']}")
    for item in checks:
        if item["verdict"] != "green":
            problems.append(f"the check {item['name']} was {item['verdict']}")
        if item["tree"] != (landing["Proved-With"] or landing["tree"]):
            problems.append(f"the check {item['name']} ran on another tree ({item['tree']})")
    return problems


def blob(repository: str, name: str) -> bytes | None:
    """Return a file at a ref; None if it does not exist."""
    words = ["git", "-C", repository, "cat-file", "blob", name]
    done = subprocess.run(words, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def git(repository: str, *arguments: str) -> bytes:
    """Return git's output; raises an error if git fails."""
    return subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
