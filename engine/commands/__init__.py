"""The commands of the command line, one a file; each is a thin layer over the Python interface."""
