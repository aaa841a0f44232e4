"""The mascot: an animated sprite that shows at a glance how things stand."""
