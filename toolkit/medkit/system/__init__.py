"""The machine: its cores, its memory, and what native libraries print."""
