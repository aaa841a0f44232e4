"""The window: the only room with widgets. It knows link, SDK and domain, and shows a replica of the engine."""
