"""Changes to a Keras network before it is converted to integers, one method a module."""
