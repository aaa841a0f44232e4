"""The child process that runs one strategy file which nobody has to trust."""
