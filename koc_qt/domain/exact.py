"""Decimal arithmetic that rounds nowhere, whatever the thread's own decimal context says.

Orders are limited to 18 digits before the point (domain/orders.py), so sums of price times quantity need far fewer
digits than PRECISION. Divisions have no exact result: they go through `quotient`, which states its rounding.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, DivisionByZero, InvalidOperation, Overflow

PRECISION = 160  # significant digits

EXACT = Context(prec=PRECISION, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
# To look one of these up takes as long as it does.
add, subtract, multiply, minus, remainder = EXACT.add, EXACT.subtract, EXACT.multiply, EXACT.minus, EXACT.remainder
_SHOWN = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])

quotient = _SHOWN.divide
"""Divide, rounding once, half to even, to 28 significant digits."""
