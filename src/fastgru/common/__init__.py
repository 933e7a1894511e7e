"""What every room may use: errors that a command prints as one line, files written whole, a lock, a process's rank."""
