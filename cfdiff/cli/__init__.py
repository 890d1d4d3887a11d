"""The command line: one file a command; parses, calls one function of a task, prints."""
