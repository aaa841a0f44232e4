"""Fractions as sentences and terminals show them: one way everywhere, with a space before the sign."""

from __future__ import annotations


def percentage(fraction: float, decimals: int = 0, *, signed: bool = False) -> str:
    """Give a fraction (0.01) as a percentage (1 %); with `signed` its sign is always there."""
    return f"{fraction:{'+' if signed else ''},.{decimals}%}".replace("%", " %")
