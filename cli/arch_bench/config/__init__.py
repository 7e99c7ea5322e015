"""The file of `arch bench -f`: its keys, how it is read, how a command line becomes one, and what follows the run."""
