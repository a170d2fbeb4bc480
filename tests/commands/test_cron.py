"""The entry as text: one line that a shell takes apart again as it was meant, and other lines left alone."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.commands.admin.cron import MOST, cron_line, marker, ours, spliced, systemd_units

printable = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=30).filter(
    str.isprintable
)


def as_cron_runs_it(line: str, fields: int = 5) -> str:
    """What cron gives to the shell: the command with `\\%` as `%`; an unescaped one would end it."""
    command = line.split(" ", fields)[fields]
    assert "%" not in command.replace(r"\%", "")
    return command.replace(r"\%", "%")


def test_a_line_goes_to_the_folder_and_runs_the_program_with_the_environment_given() -> None:
    line = cron_line("30 1 * * *", "/my repo", {"PATH": "/a:/b", "PYTHONUTF8": "1"}, ["/py", "-m", "doit", "x y"])
    assert line == (
        "30 1 * * * cd '/my repo' && PATH=/a:/b PYTHONUTF8=1 /py -m doit 'x y' # make-for-milestones: /my repo"
    )


@given(folder=printable, value=printable, word=printable)
def test_whatever_a_name_has_in_it_the_shell_gets_it_back(folder: str, value: str, word: str) -> None:
    line = cron_line("30 1 * * *", f"/{folder}", {"A": value}, ["/py", word])
    command = as_cron_runs_it(line).removesuffix(f"# make-for-milestones: /{folder}")
    assert shlex.split(command) == ["cd", f"/{folder}", "&&", f"A={value}", "/py", word]
    assert ours(f"# x\n{line}\n", f"/{folder}") == [line]
    assert spliced(spliced("", f"/{folder}", [line]), f"/{folder}", []) == ""


@pytest.mark.parametrize(("folder", "path"), [("/a\nb", "/bin"), ("/a", "/bin\x07"), ("/a", "/x" * MOST)])
def test_what_cannot_be_one_line_is_refused(folder: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"a crontab cannot contain control|are safe in a crontab"):
        cron_line("@reboot", folder, {"PATH": path}, ["/py"])


OTHERS = 'MAILTO=""\n\n# mine   \n0  5 * *\t*  echo "a  b" # tail\n#30 1 * * * off # make-for-milestones: /r\n'


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        ("", ["x # make-for-milestones: /r"], "x # make-for-milestones: /r\n"),
        ("", [], ""),
        (OTHERS, [], OTHERS),
        (OTHERS, ["x # make-for-milestones: /r"], OTHERS + "x # make-for-milestones: /r\n"),
        (OTHERS.rstrip("\n"), ["x # make-for-milestones: /r"], OTHERS + "x # make-for-milestones: /r\n"),
        (
            "a\nold # make-for-milestones: /r\nb\n",
            ["new # make-for-milestones: /r"],
            "a\nb\nnew # make-for-milestones: /r\n",
        ),
        ("old # make-for-milestones: /r2\n", [], "old # make-for-milestones: /r2\n"),
        ("old # make-for-milestones: /x/r\n", [], "old # make-for-milestones: /x/r\n"),
    ],
)
def test_only_the_lines_of_this_repository_are_replaced(text: str, lines: list[str], expected: str) -> None:
    assert spliced(text, "/r", lines) == expected
    assert spliced(expected, "/r", lines) == expected


def test_a_per_cent_sign_in_a_folder_does_not_end_the_command() -> None:
    assert marker("/50%") == r"# make-for-milestones: /50\%"
    line = cron_line("30 1 * * *", "/50%", {}, ["/py"])
    assert ours(line, "/50%") == [line]


def test_the_units_of_systemd_quote_what_it_would_expand() -> None:
    text = systemd_units("01:30", "/50%", {"A": 'x"$y%'}, ["/py", "a b"])
    assert 'Environment="A=x\\"$$y%%"\n' in text
    assert 'ExecStart="/py" "a b"\n' in text
    assert "WorkingDirectory=/50%%\n" in text
    assert "OnCalendar=*-*-* 01:30:00\nPersistent=true\n" in text
    assert "SuccessExitStatus=75\n" in text
