"""Training: one fold, all folds, and the folders they leave behind."""
