"""The page: one file, inert, small enough for a mail, quiet in a real browser."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from executor.report.collect import AttemptReport, FindingReport, ForecastReport, IssueReport, MilestoneReport
from executor.report.html import page
from executor.report.snapshot import MoneyReport, SurvivalReport
from tests.report.test_report_text import a_report, an_issue

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</title></style></script><script>alert(3)</script>",
    "javascript:alert(4)",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- --><svg onload=alert(5)>",
    "</pre></details><iframe src=//example.org>",
    "&lt;b&gt; & ]]> \u202e \x1b[31m",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Outline(HTMLParser):
    """Counts what could act."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
            if name in {"src", "href", "action", "data", "xlink:href"} and not (value or "").startswith(
                ("#", "data:,")
            ):
                self.outside.append(f"{tag} {name}={value}")


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    return parser


def hostile_report() -> MilestoneReport:
    issues = []
    for number, text in enumerate(HOSTILE):
        attempt = AttemptReport(
            number=1,
            revision=1,
            agent=text,
            state="failed",
            kind=text,
            reason=text,
            started_at=f"2026-01-01T00:0{number}:00Z",
            seconds=30,
            cost_usd=1,
        )
        finding = FindingReport(description=text, score=90, file=text, line=1)
        issues.append(
            an_issue(
                str(number),
                "failed",
                title=text,
                needs=(f"m1/{number - 1}",),
                phase=text,
                reason=text,
                hint=text,
                log=text,
                paths=(text,),
                stop=text,
                stop_lines=(text,),
                attempts=(attempt, attempt),
                findings=(finding,),
            )
        )
    return a_report(*issues, title=HOSTILE[2], goal=HOSTILE[0], branch=HOSTILE[1])


def large_report(count: int) -> MilestoneReport:
    chance = random.Random(11)  # noqa: S311  (a fixture)
    issues: list[IssueReport] = []
    for number in range(count):
        status = chance.choices(["landed", "failed", "pending"], [8, 1, 1])[0]
        needs = tuple(f"m1/{chance.randrange(number)}" for _ in range(chance.randrange(3))) if number > 9 else ()
        attempt = AttemptReport(
            number=1,
            revision=1,
            agent="claude",
            state=status,
            kind="",
            reason="",
            started_at=f"2026-01-01T{number // 60 % 24:02}:{number % 60:02}:00Z",
            seconds=chance.lognormvariate(4, 1),
            cost_usd=0.1,
        )
        title = f"Issue {number} about one thing and another that has to be done"
        reason = "3 of 3 attempts failed: tests: 2 of 120 failed: test_settings, test_override"
        more = {} if status == "landed" else {"reason": reason}
        attempts = () if status == "pending" else (attempt,) * (1 if status == "landed" else 3)
        issues.append(
            an_issue(
                str(number),
                status,
                title=title,
                needs=tuple(dict.fromkeys(needs)),
                attempts=attempts,
                log="a line of output\n" * 18,
                **more,
            )
        )
    return a_report(*issues)


def test_nothing_that_others_wrote_acts_and_nothing_is_outside() -> None:
    text = page(hostile_report())
    plain, hostile = outline(page(a_report(an_issue("1", "failed")))), outline(text)
    assert hostile.outside == []
    assert hostile.handlers == []
    for tag in ("script", "style", "title", "link", "meta"):
        more = len(HOSTILE) * 3 if tag == "title" else 0
        assert hostile.tags.count(tag) in {plain.tags.count(tag) + more - 1, plain.tags.count(tag) + more}, tag
    assert not {"img", "iframe", "object", "embed", "form", "base"} & set(hostile.tags)
    assert "{{ 7 * 7 }}" in text


def test_a_policy_forbids_everything_but_the_own_style_and_script() -> None:
    text = page(a_report(an_issue("1")))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;") or policy[1].startswith("default-src 'none'")
    assert "unsafe" not in policy[1]


def test_a_thousand_issues_fit_into_a_mail() -> None:
    assert len(page(large_report(1000)).encode()) < 1_500_000


def test_the_time_line_shows_checks_and_landings_beside_the_work_of_agents() -> None:
    times = {"number": 1, "revision": 1, "agent": "claude", "kind": "", "reason": "", "cost_usd": 0.0}
    started, landed, red = "2026-01-01T00:00:00Z", "2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z"
    one = AttemptReport.model_validate(
        {**times, "state": "landed", "started_at": started, "ended_at": landed, "seconds": 10.0}
    )
    two = AttemptReport.model_validate(
        {**times, "state": "failed", "started_at": landed, "ended_at": red, "seconds": 5.0}
    )
    text = page(a_report(an_issue("1", attempts=(one,)), an_issue("2", "failed", attempts=(two,))))
    assert re.findall(r'class="(?:bar|wait) (\w+)" x="[\d.]+" y="\d+" width="([\d.]+)"', text) == [
        ("landed", "250.0"),
        ("landed", "250.0"),
        ("failed", "125.0"),
        ("failed", "375.0"),
    ]
    assert text.count('class="mark"') == 1
    assert "then 15 s of checks and queue" in text


def times_of(*spans: tuple[str, str]) -> tuple[AttemptReport, ...]:
    fixed = {"revision": 1, "agent": "a", "kind": "", "reason": "", "cost_usd": 0.0, "state": "failed", "seconds": 9.0}
    rows = [{"number": n, "started_at": begin, "ended_at": end} for n, (begin, end) in enumerate(spans, 1)]
    return tuple(AttemptReport.model_validate({**fixed, **row}) for row in rows)


def test_nights_are_cut_out_of_the_time_line_and_each_issue_has_a_labelled_lane() -> None:
    nights = [(f"2026-01-0{day}T01:00:00Z", f"2026-01-0{day}T01:10:00Z") for day in (1, 2)]
    text = page(a_report(an_issue("one", attempts=times_of(*nights)), an_issue("two", attempts=times_of(nights[1]))))
    assert text.count('class="cut"') == 1
    bars = [(float(x), int(y)) for x, y in re.findall(r'class="bar failed" x="([\d.]+)" y="(\d+)"', text)]
    assert bars == [(2.0, 2), (522.0, 2), (522.0, 18)], "the day between them takes 4 % of the busy time"
    assert re.findall(r'<li><a class="landed" href="#i\d">(\w+)</a>', text) == ["one", "two"]
    assert len(re.findall(r'<text x="[\d.]+%"', text)) == 2


def test_attempts_of_one_issue_at_the_same_time_share_no_lane() -> None:
    text = page(a_report(an_issue("1", attempts=times_of(*[("2026-01-01T01:00:00Z", "2026-01-01T01:10:00Z")] * 2))))
    assert "labels" not in text.partition("</style>")[2]
    assert set(re.findall(r'class="bar failed" x="[\d.]+" y="(\d+)"', text)) == {"2", "18"}


def test_the_graph_has_only_issues_with_lines() -> None:
    one, two, loose = an_issue("1"), an_issue("2", needs=("m1/1", "m9/elsewhere")), an_issue("3")
    assert 'class="graph"' not in page(a_report(one, loose))
    text = page(a_report(one, two, loose))
    assert text.count('class="t"') == 2
    assert "the issue without needs and dependents" in text


def test_an_empty_milestone_has_a_page() -> None:
    text = page(a_report())
    assert "Issues" in text
    assert 'id="money"' not in text
    assert 'id="survival"' not in text


def test_money_and_the_lines_that_stayed_have_their_tables() -> None:
    money = MoneyReport(attempts=5, landed=3, reused=7, skipped=1, reverted=2, spent_usd=1.25, unlanded_usd=0.5)
    stayed = SurvivalReport(agent="<b>", type="docs", days=30, landings=4, lines=90, alive=61, reverted=1)
    rest = ForecastReport(p50_s=60, p80_s=120, known=3, milestones=10, inside_p80=9)
    text = page(a_report().model_copy(update={"money": money, "survival": (stayed,), "forecast": rest}))
    for row in (money.cells(), ["&lt;b&gt;", *stayed.cells()[1:]]):
        assert "".join(f"<td>{cell}</td>" for cell in row) in text
    assert "at most 1 min 0 s in half of the simulated runs, at most 2 min 0 s in four of five (p80)" in text
    assert "9 of 10 past milestones ended within their p80" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("report", [hostile_report(), large_report(1000)], ids=["hostile", "thousand"])
def test_a_real_browser_shows_it_without_a_word_or_a_request(report: MilestoneReport, tmp_path: Path) -> None:
    file, net = tmp_path / "report.html", tmp_path / "net.json"
    file.write_text(page(report), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        f"--log-net-log={net}",
        "--virtual-time-budget=2000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *options, f"file://{file}#i3"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    shown = re.search(r'<details class="issue [^"]*" id="i3"[^>]*>', done.stdout)
    assert shown is not None
    assert "open" in shown[0].split('id="i3"')[1], "the issue that a link names is opened"
    assert f"{len(report.issues)} of {len(report.issues)} issues" in done.stdout
    requests = re.findall(r'"initiator":"([^"]*)"[^{}]*"url":"(https?:[^"]+)"', net.read_text(errors="replace"))
    assert [url for initiator, url in requests if initiator != "not an origin"] == [], "others are the browser's own"
