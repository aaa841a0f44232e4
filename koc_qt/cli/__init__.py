"""The command line: each command is a module that registers its parser cheaply and imports the rest when it runs."""
