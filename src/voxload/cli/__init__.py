"""The command line: one file a command group; `main` turns errors into messages and exit codes."""
