"""A run signs a statement for each landing; the verifier needs git, ssh-keygen and no state of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.forge import verify_landings
from executor.forge.attest import NAMESPACE
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


def make_key(folder: Path, passphrase: str = "") -> Path:
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "bot", "-f", str(key)], check=True)
    kind, public, _ = key.with_name("key.pub").read_text().split()
    (folder / "signers").write_text(f'bot@example.org namespaces="{NAMESPACE}" {kind} {public}\n')
    return key


def verified(repo: Repo, signers: Path) -> tuple[int, str]:
    words = [sys.executable, "-I", verify_landings.__file__, "--branch", BRANCH, "--signers", str(signers)]
    done = subprocess.run(words, cwd=repo.path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("mode", ["each", "batch"])
def test_each_landing_has_a_signed_statement_that_holds_without_the_state_folder(
    repo: Repo, tmp_path: Path, mode: str
) -> None:
    key = make_key(tmp_path)
    repo.write("rules/landing.toml", f'mode = "{mode}"\nattest_key = "{key}"\n')
    more = issue("b", "echo b > b") + issue("c", "echo c > c", accept=[{"file": "c", "contains": "c"}])
    repo.milestone("m1", issue("a", "echo a > a", accept=[{"run": "test -e a"}], body="one") + more)
    repo.doit("milestone:m1", "-n", "3").check()
    repo.milestone("m1", issue("a", "echo aa > a", accept=[{"run": "grep aa a"}], body="two") + more)
    repo.doit("milestone:m1").check()
    shutil.rmtree(repo.path / ".cache")
    assert verified(repo, tmp_path / "signers") == (0, "4 landings, 0 problems\n")
    ref = "refs/attestations/m1/b/1"
    repo.git("update-ref", "-d", ref)
    code, out = verified(repo, tmp_path / "signers")
    assert (code, f"no statement under {ref}" in out) == (1, True)
    assert "note" not in repo.doit("milestone:m1").check().out  # a gap before a later statement stays visible
    assert verified(repo, tmp_path / "signers")[0] == 1


def test_a_key_that_wants_a_passphrase_is_named_and_the_work_lands(repo: Repo, tmp_path: Path) -> None:
    key = make_key(tmp_path, "secret words")
    repo.write("rules/landing.toml", f'attest_key = "{key}"\n')
    repo.milestone("m1", issue("a", "echo a > a"))
    out = repo.doit("milestone:m1").check().out
    assert f"note: rules/landing.toml: attest_key: ssh-keygen cannot sign with {key}" in out
    assert repo.landed(BRANCH) == ["a@1"]
