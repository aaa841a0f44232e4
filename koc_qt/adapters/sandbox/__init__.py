"""Locking a worker process down, one module an operating system."""
