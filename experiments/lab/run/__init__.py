"""From a configuration to the records of a run: command line, devices, sweep, run folder."""
