"""What every simulated exchange is made of, whatever protocol it speaks; tests/wire/exchange.py puts it together."""
