"""The command line: its commands, what they print, what they look at."""
