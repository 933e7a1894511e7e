"""What every room may use: errors that a command prints as one line, atomic writes, a lock, a process's rank."""
