"""What training code puts around a model: weights under many names, optimizer state, wrappers."""
