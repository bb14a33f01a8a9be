"""What a model file computes, and in what numbers; one module for each format."""
