"""The timeframes that fields propose; others can be typed."""

TIMEFRAMES = ("1s", "5s", "15s", "1m", "5m", "15m", "1h", "4h", "1d")
