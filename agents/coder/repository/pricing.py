"""What an order costs."""


def total(prices: list[int], discount_percent: int = 0) -> int:
    """In cents, rounded down in the customer's favour."""
    return sum(prices) * (100 + discount_percent) // 100
