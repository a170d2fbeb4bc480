"""What the words of agents and of their services mean, as far as that is common to all; a profile has its own too."""

from __future__ import annotations

__all__ = ["COMMON", "GAVE_UP", "QUESTION", "REFUSAL"]

COMMON: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "authentication",
        (
            r"\b401\b.{0,20}unauthori[sz]ed|unauthori[sz]ed.{0,20}\b401\b",
            r"status(?: code)?:? 40[13]\b|\bAuthenticationError\b|\bPermissionDeniedError\b",
            r"(?:invalid|incorrect|missing|no) (?:x-)?api[- ]?key",
            r"api key (?:not|is not|is missing|is invalid|was not)",
            r"please (?:run /login|log ?in|sign ?in|authenticate)|not (?:logged|signed) in",
            r"OAuth token (?:has )?(?:expired|revoked)|authentication[_ ](?:error|failed)|set an auth method",
            r"could not (?:load|find) (?:the )?(?:default )?credentials",
        ),
    ),
    (
        "limit",
        (
            r"(?:usage|session|weekly|hour|hourly|daily|rate|quota|spend)[ -]limits? (?:was |is |has been )?reached",
            r"(?:usage|session|weekly|hour|hourly|daily|rate|quota|spend)[ -]limits? (?:was |is |has been )?exceeded",
            r"(?:hit|reached|exceeded) (?:your|the|a) (?:[\w-]+ ){0,3}(?:limit|quota)",
            r"\blimit (?:reached|exceeded|hit)\b|too many requests|status:? 429\b",
            r"\bRateLimitError\b|rate[_ ]limit[_ ](?:error|exceeded)|RESOURCE_EXHAUSTED",
            r"insufficient[_ ]quota|quota (?:exceeded|exhausted)|exceeded your current quota",
            r"credit balance is too low|out of (?:extra )?(?:usage|credits)",
        ),
    ),
    (
        "transient",
        (
            r"overloaded|internal server error|bad gateway|service unavailable|gateway time-?out",
            r"currently experiencing high demand|status:? 5\d\d\b",
            r"\b(?:InternalServerError|ServiceUnavailableError|APIConnectionError|BadGatewayError)\b",
            r"\bECONN(?:RESET|REFUSED|ABORTED)\b|\bETIMEDOUT\b|\bENOTFOUND\b|\bEAI_AGAIN\b",
            r"connection (?:reset|refused|error|closed)|socket hang ?up|network error|fetch failed",
            r"stream (?:disconnected|error|closed)|request timed out|unable to connect",
        ),
    ),
    (
        "resource",
        (
            r"no space left on device|\bENOSPC\b|cannot allocate memory|\bENOMEM\b|out of memory|heap limit",
            r"too many open files|\bEMFILE\b|resource temporarily unavailable",
        ),
    ),
    (
        "input",
        (
            r"input is not a (?:terminal|tty)|not a tty|stdin is not a|EOFError|EOF when reading a line",
            r"prompt(?:ing)? is not (?:available|supported)|requires (?:approval|confirmation|interactive)",
        ),
    ),
)
"""Class and the expressions that show it; the first that fits a line decides."""

REFUSAL = (
    r"\b(?:I|we) (?:cannot|can't|can not|won't|will not) (?:help|assist|comply|do (?:that|this)|provide|continue)",
    r"\b(?:I am|I'm|we are) (?:unable|not able) to (?:help|assist|comply|do (?:that|this)|provide|continue)",
    r"(?:violates?|against) (?:our|the|my) (?:usage |content |safety )?(?:polic(?:y|ies)|guidelines)",
    r"content[_ ]filter",
)
"""What a model says that will not do it."""

GAVE_UP = (
    r"\b(?:I|we) (?:give|am giving|gave) up",
    r"\b(?:I|we) (?:was|were|am|are) (?:not able|unable) to (?:finish|solve|make|find|fix|implement)",
    r"\bI (?:could not|couldn't) (?:finish|solve|complete|implement|make)",
    r"cannot be (?:done|completed|solved|implemented)",
)
"""What a model says that tried and did not get there."""

QUESTION = (
    r"(?:\[[yY]/[nN]\]|\([yY](?:es)?/[nN]o?\)|\(Y\)es/\(N\)o.*|press (?:enter|any key).*"
    r"|(?:password|token|continue|proceed|name|choice|select\w*|confirm\w*|allow\w*)[^\n]{0,60}[?:>])\s*[:>]?\s*$"
)
"""A last line behind which an answer is waited for."""
