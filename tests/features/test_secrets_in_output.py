"""A key that an agent is given never reaches the disk through what it, or a check, prints."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tests.support import issue, require_sandbox

if TYPE_CHECKING:
    import pytest

    from tests.support import Repo


def test_a_key_is_given_by_name_only_and_is_in_no_log(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    require_sandbox()
    key = "k-5up3r-l0ng-and-private-value"
    monkeypatch.setenv("MODEL_KEY", key)
    monkeypatch.setenv("OTHER_KEY", "another-private-value")
    repo.write(
        "rules/agents.toml",
        '[agent.talker]\ncommand = ["sh", "-c", "{run}"]\nenv = ["MODEL_KEY"]\n',
    )
    says = "env; echo $MODEL_KEY; printf %s $MODEL_KEY | base64; printf '%s' $MODEL_KEY > a"
    body = issue("a", says, allow=["secrets", "known-secret"]).replace('agent = "script"', 'agent = "talker"')
    repo.milestone("m1", body + 'accept = [{ run = "cat a; exit 1" }]\n')
    repo.doit("milestone:m1").check(1)
    cache = repo.path / ".cache"
    texts = [path.read_bytes() for path in cache.rglob("*") if path.is_file() and "workspaces" not in path.parts]
    assert any(b"MODEL_KEY=[redacted]" in text for text in texts)
    assert not any(b"OTHER_KEY" in text for text in texts)
    for form in (key.encode(), base64.b64encode(key.encode())):
        assert not any(form in text for text in texts)
    assert key not in repo.doit("log", "m1/a").check().out
