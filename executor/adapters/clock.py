"""The present moment and the zone of this machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["LOCAL", "utcnow"]


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class _Local(tzinfo):
    """The zone that the system is set to, with its changes between summer and winter, past and to come."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Difference from UTC when a local clock shows this."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Unknown; nothing here needs it."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Name of the offset."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """What a local clock shows at a moment given in UTC."""
        local = moment.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)


LOCAL = _Local()
"""The machine's own zone."""
