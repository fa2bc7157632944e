"""Fine-tuning with torch."""
