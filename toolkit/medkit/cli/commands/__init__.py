"""The commands, one module each: a command parses, makes one library call, and shows the result."""
