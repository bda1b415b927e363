"""Run folders and what they hold: settings, checkpoints, trained models, predictions."""
