"""Kinds of secrets that are found, and text that is none. The secrets are put together, so that this file has none."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from executor.stop_rules.content import find_secrets

ROOT = Path(__file__).resolve().parents[2]
LETTERS = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8cF0xR5uL7iO9"
HEX = "3f9a1c7e5b2d8f4a6c0e9b1d7f3a5c8e"


def filled(count: int, alphabet: str = LETTERS) -> str:
    return (alphabet * (count // len(alphabet) + 1))[:count]


SECRETS = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "openssh key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "AWS key id": "id = AKIA" + "QYLPMN5HHHFPZAM2",
    "AWS secret": "aws_secret_access_key = '" + filled(40) + "'",
    "GitHub": "token = 'ghp_" + filled(36) + "'",
    "GitHub fine-grained": "github_pat_" + filled(60),
    "GitLab": "glpat-" + filled(20),
    "Slack token": "xoxb-" + "123456789012-123456789012-" + filled(24),
    "Slack webhook": "https://hooks.slack.com/services/T" + "ABCDEF12/BABCDEF12/" + filled(24),
    "Stripe": "sk_live_" + filled(24),
    "Stripe webhook": "whsec_" + filled(32),
    "JWT": ".".join(["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", filled(43)]),
    "basic auth of a short name": "postgres://shop:" + "Kq8vT2mZ@h-prod/shop",
    "basic auth": "postgres://shop:" + "Kq8vT2mZ@db.internal/shop",
    "Twilio": "SK" + HEX,
    "SendGrid": "SG." + filled(22) + "." + filled(43),
    "npm": "//registry.npmjs.org/:_auth" + "Token=npm_" + filled(36),
    "PyPI": "pypi-AgEIcHlwaS5vcmc" + filled(80),
    "Azure": "AccountKey=" + filled(86) + "==",
    "Mailchimp": HEX + "-us12",
    "Square": "sq0csp-" + filled(43),
    "Telegram": "110201543:AAHdqTcvCH1v" + "GWJxfSeofSAs0K5PALDsaw1",
    "OpenAI": "sk-" + filled(20) + "T3BlbkFJ" + filled(20),
    "Anthropic": "sk-ant-" + filled(40),
    "Google": "AIza" + filled(35),
    "Hugging Face": "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "Discord": "MTk4NjIyNDgzNDcxOTI1MjQ4." + "Cl2FMQ." + "ZnCjm1XVW7vRze4b7Cq4se7kKWs",
    "Artifactory": "AKC" + filled(40, "a1B2c3D4e5"),
    "password": 'password = "' + 'kT9#vLq2Zr"',
    "api key": "API_KEY: '" + "83hf92kd02jf7s'",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_and_not_repeated(kind: str) -> None:
    line = SECRETS[kind]
    [(path, number, what)] = find_secrets([("a.py", 1, "nothing here at all"), ("b/ä.py", 7, line)])
    assert (path, number) == ("b/ä.py", 7)
    assert what
    words = {word for word in line.replace("'", " ").replace('"', " ").replace("=", " ").split() if len(word) > 8}
    assert not any(word in what for word in words if word != "PRIVATE")


@pytest.mark.parametrize(
    "line",
    [
        "password = input('password: ')",
        'password = "password"',
        'password = os.environ["DB_PASSWORD"]',
        'PASSWORD = "changeme"',
        'api_key = "<your api key here>"',
        'api_key = "${API_KEY_FROM_1PASSWORD}"',
        'secret = "{{ secret_2 }}"',
        "https://user:password@example.org/",
        "http://%60a1b2:%60c3d4e5@h/x",
        "https://user:pass%5B%7F@foo/bar",
        "https://user:${PASSWORD}@host/x",
        "postgres://postgres:postgres@localhost/shop",
        "key = sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "git commit 3f9a1c7e5b2d8f4a6c0e9b1d7f3a5c8e3f9a1c7e",
        "integrity sha512-" + "A" * 86 + "==",
        "id = '550e8400-e29b-41d4-a716-446655440000'",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "secret_name = 'projects/shop/secrets/db'",
        "def secret(): ...",
        'message = "the password has 8 letters or more"',
        "AKIAIOSFODNN7EXAMPLE",
        "",
    ],
)
def test_what_is_no_secret_is_left_alone(line: str) -> None:
    assert find_secrets([("a.py", 1, line)]) == []


def test_the_files_of_this_repository_give_no_finding() -> None:
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    lines = [
        (name.decode(), number, text)
        for name in filter(None, names)
        if (ROOT / name.decode()).is_file()
        for number, text in enumerate((ROOT / name.decode()).read_text("utf-8", "replace").splitlines(), 1)
    ]
    assert len(lines) > 5000
    assert find_secrets(lines) == []


def test_long_and_many_lines_are_looked_through_quickly() -> None:
    lines = [("a.js", number, "password = x; var a = {b: 1}; " * 660) for number in range(1, 20)]
    lines += [("b.py", number, f"    value = compute({number}, key='name')") for number in range(20_000)]
    began = time.process_time()
    assert find_secrets(lines) == []
    assert time.process_time() - began < 10
