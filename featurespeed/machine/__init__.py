"""The machine that a process runs on: its devices, and locks between processes."""
