"""asyncio services, each the sole owner of its part of the state."""
