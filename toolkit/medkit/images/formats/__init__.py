"""Image formats: one module for each decoder, and the registry that knows them."""
