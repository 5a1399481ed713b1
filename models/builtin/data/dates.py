"""Dates: how people write them and what the date tools answer."""

import datetime

from .pools import DAYS, MONTHS


def iso(date):
    """`2024-03-05`."""
    y, m, d = date
    return f"{y}-{m:02}-{d:02}"


def ordinal(n):
    """`1st`, `2nd`, `23rd`."""
    tail = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{tail}"


def spoken(d, date):
    """A date in one of the ways people write it."""
    y, m, day = date
    month = MONTHS[m - 1]
    ways = [f"{month} {day}, {y}", f"{day} {month} {y}", iso(date), f"{month} {ordinal(day)}, {y}", f"the {ordinal(day)} of {month} {y}", f"{month[:3]} {day}, {y}"]
    return d.pick(ways)


def long(date):
    """The form used in answers: `March 5, 2024`."""
    y, m, day = date
    return f"{MONTHS[m - 1]} {day}, {y}"


def days_between(a, b):
    """Days from `a` to `b`; negative when `b` is earlier."""
    return (datetime.date(*b) - datetime.date(*a)).days


def weekday(date):
    """The English name of the day."""
    return DAYS[datetime.date(*date).weekday()]


def shift(date, days):
    """The date that many days later."""
    moved = datetime.date(*date) + datetime.timedelta(days=days)
    return moved.year, moved.month, moved.day
