"""One outside thing a module: venues, bar files, journal, sandbox, worker processes."""
