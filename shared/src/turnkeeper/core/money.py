"""Money is an integer number of nano-dollars (1 USD = 1,000,000,000), rounded up, and a decimal string in JSON."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

NANO = 1_000_000_000
#: No sum of such amounts has more digits than a table's number holds.
MOST_USD = 10**12


def parse_usd(text: str) -> int:
    """Nano-dollars of a decimal string such as ``"1.00"``; a fraction of a nano-dollar is rounded up.

    Raises:
        ValueError: not a decimal number, not finite, negative, or more than a table could keep.
    """
    try:
        amount = Decimal(text)
    except (InvalidOperation, TypeError) as error:
        raise ValueError(f"{text!r} is not an amount in dollars such as '1.00'") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{text!r} is not an amount in dollars such as '1.00'")
    if amount > MOST_USD:
        raise ValueError(f"{text!r} is more than the {MOST_USD} dollars that can be counted")
    return nano_of(amount)


def nano_of(amount_usd: Decimal) -> int:
    """Nano-dollars of an exact amount in dollars, rounded up: what is booked is never less than what is owed."""
    return int((amount_usd * NANO).to_integral_value(rounding=ROUND_CEILING))


def format_usd(nanousd: int) -> str:
    """The exact amount as a decimal string with six to nine places: ``"0.001234"``."""
    sign = "-" if nanousd < 0 else ""
    whole, fraction = divmod(abs(nanousd), NANO)
    places = f"{fraction:09d}"
    return f"{sign}{whole}.{places[:6]}{places[6:].rstrip('0')}"
