import unittest

from pricing import total


class Total(unittest.TestCase):
    def test_without_a_discount(self) -> None:
        self.assertEqual(total([1000, 500]), 1500)

    def test_a_discount_makes_it_cheaper(self) -> None:
        self.assertEqual(total([1000], discount_percent=10), 900)


if __name__ == "__main__":
    unittest.main()
