"""What tests share: running guests through Python and through the command, watching processes, a terminal."""
