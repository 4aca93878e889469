"""Pure drawing: tidy data in, figures out."""
