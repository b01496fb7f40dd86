"""The command line: one module per command. The only part of the library that prints."""
