"""The built-in model: data, training, export, evaluation."""
