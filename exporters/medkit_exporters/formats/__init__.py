"""The formats of exported files: an exporter for each, and a registry that knows them."""
