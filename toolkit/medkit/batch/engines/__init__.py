"""Engines: one module for each way to spread the work over cores or machines."""
